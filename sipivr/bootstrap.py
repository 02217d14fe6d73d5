"""The composition root of the `sipivr` process: `python -m sipivr.bootstrap --config FILE`.

One asyncio thread owns pjsua2, the calls, the control socket and the gateway. Everything is made here, handed
to what needs it, started in the order of dependence and stopped in the reverse one. No other module makes a
room of the house by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from sipivr import config, hardening, readiness
from sipivr import log as logs
from sipivr.calls.call_control import LiveCalls, voiced
from sipivr.calls.charging import Charging
from sipivr.calls.directory import StoredDirectory
from sipivr.calls.gateways import StoredGateways
from sipivr.calls.housekeeping import Housekeeping
from sipivr.calls.ladder_book import LadderBook
from sipivr.calls.late_approvals import LateApprovals
from sipivr.calls.media_link import MediaLink
from sipivr.calls.payment_changes import PaymentChanges
from sipivr.calls.progress import ProgressBoard
from sipivr.calls.rate import CallRate
from sipivr.calls.reception import ReceptionRules
from sipivr.calls.services import Services
from sipivr.calls.switchboard import Switchboard
from sipivr.calls.voices import Voices
from sipivr.config import ConfigError, Paths, Settings
from sipivr.control.commands import Commands
from sipivr.control.server import ControlServer
from sipivr.dialogue import DialogueParams
from sipivr.gateway.connector import ConnectorGateway, ConnectorSettings
from sipivr.gateway.full import FullGateway
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.transport import Timeouts
from sipivr.layout import trusted_users
from sipivr.store import write
from sipivr.store.crypto import KeyFileError, load_keys
from sipivr.store.errors import StoreError
from sipivr.store.records import Connector, Mode, Trunk
from sipivr.store.writer import StoreWriter
from sipivr.ua.edge import EdgeTrunk
from sipivr.ua.endpoint import PJUserAgent
from sipivr.ua.ports import UAError
from sipivr.ua.settings import Listener, TLSFiles, Transport, UASettings

log = logging.getLogger(__name__)

#: Shops are in Japan; an expiry is judged by the date there.
JAPAN: Final = timezone(timedelta(hours=9))
FLUSH_S: Final = 5.0
SPARE_CALL_SLOTS: Final = 50


@contextlib.asynccontextmanager
async def house(settings: Settings, paths: Paths) -> AsyncIterator[Switchboard]:
    """The whole process, running, from the first key file to the last commit."""
    keys = load_keys(paths.keys)
    control: ControlServer | None = None

    def committed(sequence: int) -> None:
        if control is not None:
            control.publish_event(sequence)

    async with contextlib.AsyncExitStack() as stack:
        writer = StoreWriter(paths.switch_db, keys, on_committed=committed)
        await writer.start()
        stack.push_async_callback(writer.stop)
        interrupted = await writer.run(write.interrupt_calls, node=settings.node.name)
        if interrupted:
            log.warning("%d calls of the former life of this node are marked interrupted", len(interrupted))

        directory = StoredDirectory(paths.switch_db, keys)
        stack.callback(directory.close)
        gateways = StoredGateways(
            shop=directory.shop,
            connector=directory.connector,
            password=directory.shop_password,
            open_intents=directory.open_intents,
            make=lambda connector: _gateway(connector, settings),
        )
        stack.push_async_callback(gateways.aclose)
        charging = Charging(writer, gateways, final_after_s=settings.gateway.final_after_s)
        stack.push_async_callback(charging.stop)

        voices = Voices(paths.prompt_cache)
        await voices.prepare()
        stack.push_async_callback(voices.aclose)

        media = MediaLink(paths.media_socket, sharing=settings.rtp.port_sharing)
        progress = ProgressBoard(lambda notice: control.publish_progress(notice) if control else None)
        services = Services(
            node=settings.node.name,
            writer=writer,
            directory=directory,
            media=media,
            media_addresses=config.addresses(settings.rtp.advertised_address),
            prompts=voices,
            charging=charging,
            ladders=LadderBook(),
            progress=progress,
            today=lambda: datetime.now(JAPAN).date(),
        )
        board = Switchboard(
            services,
            ReceptionRules(
                country_code=settings.sip.country_code,
                max_calls=settings.sip.max_calls,
                dialogue=DialogueParams(call_s=settings.calls.max_duration_s),
            ),
            rate=CallRate(settings.sip.max_call_setups_per_s),
        )
        voices.pin_on(media)
        media.start()
        stack.callback(media.stop)
        progress.start()
        stack.callback(progress.stop)

        agent = PJUserAgent(_agent_settings(settings), board)
        board.use(agent, settings.sip.advertised_address or config.host_and_port(settings.sip.udp)[0])
        agent.edge.replace_trunks(tuple(_edge_trunk(trunk) for trunk in directory.refresh() if trunk.active))
        changes = PaymentChanges(
            writer, gateways, payment=directory.payment, open_changes=directory.open_changes
        )
        stack.push_async_callback(changes.stop)
        commands = Commands(writer, directory, LiveCalls(board, services, agent), changes)
        control = ControlServer(
            paths.control_socket,
            voiced(commands, services, directory.session),
            allowed_uids=trusted_users(paths.control_socket),
            newest=directory.newest_sequence(),
        )
        await control.start()
        stack.push_async_callback(control.stop)
        late = LateApprovals(
            writer,
            gateways,
            directory.lately_not_charged,
            after_s=config.seconds(settings.gateway.reread_after_s),
            count=services.count,
        )
        late.start()
        stack.callback(late.stop)
        keeper = Housekeeping(services, writer)
        keeper.start()
        stack.callback(keeper.stop)

        await agent.start()
        stack.push_async_callback(agent.stop)
        unresolved = charging.recover()
        changes.recover()
        if unresolved:
            log.warning("%d charges of the former life of this node are being resolved", unresolved)
        readiness.ready(sip=",".join(f"{kind.lower()}:{host}:{port}" for kind, host, port in agent.listening))
        yield board
        agent.edge.refuse_new("draining")
        log.info(
            "no new calls; %d running ones have %d s to finish", len(board.calls), settings.calls.drain_s
        )
        await board.drain(settings.calls.drain_s)
        await agent.stop()
        await services.recorded(FLUSH_S)


async def run(settings: Settings, paths: Paths) -> None:
    """Runs until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None
    # The first start speaks all prompts, which takes a while: a signal meanwhile is heeded at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, starting.cancel)
    async with house(settings, paths) as board:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        gc.freeze()
        await stop.wait()
        log.info("stopping: %d calls are up", len(board.calls))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, board.hurry)


def main(arguments: list[str] | None = None) -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m sipivr.bootstrap", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the settings file")
    options = parser.parse_args(arguments)
    try:
        settings = config.load(options.config)
    except ConfigError as error:
        readiness.cannot_start(str(error))
    logs.start(level=settings.log.level, form=settings.log.format, process="sipivr", node=settings.node.name)
    hardened = hardening.harden(lock_memory=True)
    if not (hardened.not_dumpable and hardened.no_core):
        log.warning("this process could be dumped: card data would be in the dump")
    hardening.raise_file_limit()
    paths = config.paths(settings, options.config.resolve().parent)
    try:
        asyncio.run(run(settings, paths))
    except asyncio.CancelledError:
        log.info("stopped while starting")
    except (KeyFileError, StoreError, UAError, OSError) as error:
        log.error("%s", error)
        readiness.cannot_start(f"The switch cannot start: {error}")
    return 0


def _gateway(connector: Connector, settings: Settings) -> FullGateway:
    test_mode = connector.mode is Mode.TEST
    timeouts = Timeouts(
        connect_s=settings.gateway.connect_timeout_s, charge_s=settings.gateway.read_timeout_s
    )
    connections = settings.gateway.max_connections
    networks = tuple(ip_network(network) for network in connector.networks)
    if connector.kind == "gmo":
        return GMOGateway(
            GMOSettings(
                connector.url,
                test_mode,
                timeouts=timeouts,
                max_connections=connections,
                networks=networks,
                pins=connector.pins,
            )
        )
    if connector.kind == "json":
        return ConnectorGateway(
            ConnectorSettings(
                connector.url,
                test_mode,
                networks=networks,
                pins=connector.pins,
                timeouts=timeouts,
                max_connections=connections,
            )
        )
    raise ConfigError(f"connector {connector.id}: no adapter for kind {connector.kind!r}")


def _agent_settings(settings: Settings) -> UASettings:
    listeners = []
    for transport, listen in (
        (Transport.UDP, settings.sip.udp),
        (Transport.TCP, settings.sip.tcp),
        (Transport.TLS, settings.sip.tls),
    ):
        if listen:
            host, port = config.host_and_port(listen)
            files = TLSFiles(settings.sip.tls_certificate, settings.sip.tls_key)
            listeners.append(
                Listener(
                    transport=transport,
                    address=host,
                    port=port,
                    public_address=settings.sip.advertised_address,
                    tls=files if transport is Transport.TLS else None,
                )
            )
    # More slots than calls: a call too many is answered 503 by us, with a record, and not 486 by pjsua.
    slots = settings.sip.max_calls + SPARE_CALL_SLOTS
    return UASettings(listeners=tuple(listeners), max_calls=slots)


def _edge_trunk(trunk: Trunk) -> EdgeTrunk:
    return EdgeTrunk(
        trunk=trunk.id,
        networks=tuple(ip_network(text) for text in trunk.networks),
        # The answers to our REFER come as NOTIFY.
        extra_methods=frozenset(trunk.rules.extra_methods)
        | ({"NOTIFY"} if trunk.rules.return_by_refer else set()),
        allow_replaces=trunk.rules.allow_replaces,
    )


if __name__ == "__main__":
    raise SystemExit(main())
