"""The supervisor: start in order, say so, keep alive, stop in order.

It owns what must outlive the others: the RTP sockets (sipivr.supervision.sockets) and one idle connection
to `switch.db`, without which a clean close would remove `-wal` and `-shm` and lock a read-only user out
(invariant 7). It never holds a card, a key or a call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sipivr import hardening, log
from sipivr.config import ConfigError, Paths, Settings, host_and_port
from sipivr.layout import UMASK, Kind
from sipivr.readiness import notify_systemd
from sipivr.supervision import sockets
from sipivr.supervision.child import BACKOFF_S, Child, ChildSpec, StartFailedError
from sipivr.supervision.house import START_STEPS, household, spare_of, worker_count
from sipivr.supervision.standby import Standby

logger = logging.getLogger(__name__)


class Supervisor:
    """Runs a household of children until a signal or a failed first start."""

    def __init__(
        self,
        house: Mapping[Kind, Sequence[ChildSpec]],
        *,
        spare: ChildSpec | None = None,
        announce: Callable[[Mapping[Kind, Sequence[Child]]], None] = lambda _: None,
        backoff_s: tuple[float, ...] = BACKOFF_S,
    ) -> None:
        """Args: `spare` can become any child of `Kind.MEDIA`."""
        # A worker ends with its control connection, so it waits for the switch to be there again.
        switch = [Child(spec, backoff_s=backoff_s) for spec in house.get(Kind.SWITCH, ())]
        before = {Kind.MEDIA: switch[0]} if switch else {}
        self.standby = Standby(spare, house.get(Kind.MEDIA, ()), backoff_s=backoff_s) if spare else None
        stand_ins = {Kind.MEDIA: self.standby}
        self.children: dict[Kind, list[Child]] = {
            kind: [
                Child(spec, after=before.get(kind), backoff_s=backoff_s, stand_in=stand_ins.get(kind))
                for spec in specs
            ]
            for kind, specs in house.items()
        } | {Kind.SWITCH: switch}
        self._announce = announce
        self._stop_asked = asyncio.Event()

    def ask_to_stop(self) -> None:
        """Once: stop in order, calls may finish. Twice: stop now."""
        if self._stop_asked.is_set():
            logger.warning("asked to stop a second time: not waiting for calls")
            for child in self._all():
                child.hurry()
        self._stop_asked.set()

    async def run(self) -> int:
        """Starts, waits for a signal, stops; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask_to_stop)
        starting = asyncio.create_task(self._start())
        warming: asyncio.Task[None] | None = None
        asked = asyncio.create_task(self._stop_asked.wait())
        status = 0
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                self._announce(self.children)
                notify_systemd("READY=1")
                if self.standby is not None:
                    warming = asyncio.create_task(self.standby.start())
                await asked
        except StartFailedError as error:
            logger.error("%s", error)
            status = 1
        notify_systemd("STOPPING=1")
        await self._stop()
        await asyncio.gather(starting, *([warming] if warming else []), return_exceptions=True)
        asked.cancel()
        return status

    async def _start(self) -> None:
        for step in START_STEPS:
            fresh = [child for kind in step for child in self.children.get(kind, ())]
            results = await asyncio.gather(*(child.start() for child in fresh), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            if self._stop_asked.is_set():
                return

    async def _stop(self) -> None:
        children = self._all()
        for rank in sorted({child.spec.stop_rank for child in children}):
            await asyncio.gather(*(child.stop() for child in children if child.spec.stop_rank == rank))

    def _all(self) -> list[Child]:
        spare = [self.standby.child] if self.standby is not None else []
        return [child for members in self.children.values() for child in members] + spare


def check_ports(settings: Settings, kinds: Iterable[Kind] = tuple(Kind)) -> None:
    """Asks for every listener's port before any process starts, so that the sentence is ours.

    Raises:
        PortTakenError: one cannot be had.
    """
    simulator = settings.simulator.listen if settings.simulator.enabled else ""
    wanted = {
        Kind.SWITCH: [
            (settings.sip.udp, socket.SOCK_DGRAM, "SIP ([sip] udp)"),
            (settings.sip.tcp, socket.SOCK_STREAM, "SIP ([sip] tcp)"),
            (settings.sip.tls, socket.SOCK_STREAM, "SIP ([sip] tls)"),
        ],
        Kind.API: [(settings.api.listen, socket.SOCK_STREAM, "the API ([api] listen)")],
        Kind.SIMULATOR: [(simulator, socket.SOCK_STREAM, "the simulator ([simulator] listen)")],
    }
    for kind in kinds:
        for listen, protocol, purpose in wanted.get(kind, []):
            if listen:
                sockets.must_be_free(protocol, *host_and_port(listen), purpose)


def serve(
    settings: Settings,
    config: Path,
    paths: Paths,
    *,
    kinds: frozenset[Kind] = frozenset(Kind),
    users: bool = False,
    hold_open: Callable[[Path], object],
    announce: Callable[[Mapping[Kind, Sequence[Child]]], None],
) -> int:
    """Runs the node, or some kinds of it, until SIGTERM or SIGINT; returns the exit status.

    Args:
        settings: validated settings.
        config: the file that they came from.
        paths: the node's files.
        kinds: which kinds this supervisor is for; a packaged layout has one unit for each.
        users: run each kind under its own user (as root).
        hold_open: opens the idle connection to `switch.db` (sipivr.store).
        announce: called once, when all are ready.

    Raises:
        ConfigError: a user is missing, or root is needed.
        PortTakenError: a port is taken.
    """
    log.start(
        level=settings.log.level, form=settings.log.format, process="supervisor", node=settings.node.name
    )
    if users and os.geteuid() != 0:
        raise ConfigError("--users needs root: only root can start processes under other users.")
    os.umask(UMASK)
    hardening.forbid_core()
    hardening.raise_file_limit()
    check_ports(settings, kinds)
    count = worker_count(settings) if Kind.MEDIA in kinds else 0
    rtp = sockets.bind_workers(settings.rtp, count)
    if rtp and (got := sockets.buffer_bytes(rtp[0].rtp[0])) < sockets.RECEIVE_BUFFER_BYTES:
        logger.warning(
            "RTP receive buffers hold %d bytes of %d: run `sysctl -w net.core.rmem_max=%d`",
            got,
            sockets.RECEIVE_BUFFER_BYTES,
            sockets.RECEIVE_BUFFER_BYTES,
        )
    held = hold_open(paths.switch_db) if Kind.SWITCH in kinds else None
    house = household(settings, config, paths, rtp, users=users)
    supervisor_house = {kind: specs for kind, specs in house.items() if kind in kinds}

    async def run() -> int:
        spare = spare_of(house[Kind.MEDIA]) if settings.media.spare and Kind.MEDIA in kinds else None
        return await Supervisor(supervisor_house, spare=spare, announce=announce).run()

    status = asyncio.run(run())
    if held is not None:
        # Leave without closing it: the last clean close would remove -wal and -shm, and `api`, a reader
        # only, could not open the database while we are down.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    return status
