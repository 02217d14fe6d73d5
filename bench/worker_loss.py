"""Media workers that are killed in the middle of calls: what the customer misses, and what the operator must not hear.

Real workers under the real supervisor and `MediaLink`; each call is a bridged pair of legs, speaking both ways
all the time. In the first `--captures` calls the customer is masked towards the operator and presses keys
without a pause, in band and by telephone-event. At random moments a worker is killed. What is right is checked
on what the telephones received: no leg lost, a new SSRC, audio and keys again after it, and nothing of a masked
customer in the operator's recording: no packet but audio, no sample above comfort noise, no tone of a key.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from bench.__main__ import progress
from bench._loss_telephones import run_telephones
from bench._loss_verdict import Losses, PlayedCall, Verdict
from media.protocol import AnyEvent, DTMFMode, KeyPressed, KeyWay, LegFault, MaskMode, Remote
from sipivr.calls.media_bridge import MediaBridge
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaLink, MediaWorker
from sipivr.calls.restoration import Restoration
from sipivr.config import MediaSettings, RTPSettings, Settings, paths
from sipivr.layout import Kind
from sipivr.supervision import sockets as rtp_sockets
from sipivr.supervision.house import household, spare_of
from sipivr.supervision.serve import Supervisor
from sipivr.ua.negotiation import MediaTerms, Negotiator

_SETTLE_S: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--calls", type=int, default=50, help="bridged pairs")
    parser.add_argument("--captures", type=int, default=10, help="of them masked, their customers keying")
    parser.add_argument(
        "--workers", type=int, default=1, help="media workers; one of them is killed at a time"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="how many workers are killed, one after another"
    )
    parser.add_argument("--no-spare", action="store_true", help="without a warm spare, for comparison")
    parser.add_argument("--limit-ms", type=int, default=1500, help="longest silence for a customer, 0: any")
    parser.add_argument("--hang", action="store_true", help="stop the worker (SIGSTOP) instead of killing it")


class Pair:
    """A call of two legs, as the call logic keeps it: told of losses, moved in when a worker arrives."""

    def __init__(
        self,
        link: MediaLink,
        remotes: Sequence[tuple[str, int]],
        *,
        captured: bool,
        moved: asyncio.Event,
        background: Callable[[Awaitable[None]], None],
    ) -> None:
        self._link = link
        self._moved = moved
        self._bridge = MediaBridge()
        self._restoration = Restoration(
            link, self._bridge, background=background, restored=self._restored, failed=self._failed
        )
        self.captured = captured
        self.keys: list[tuple[float, KeyWay]] = []
        self.faults = 0
        self.restored_at: list[float] = []
        self.peers: list[tuple[str, int]] = []
        self.legs: list[MediaLeg] = []
        self.refused: list[str] = []
        self._remotes = remotes

    async def open(self) -> None:
        """Adds both legs and connects them."""
        for address, port in self._remotes:
            leg = MediaLeg(
                self._link,
                self,
                remote=Remote(address, port),
                terms=MediaTerms(),
                advertised=(),
                symmetric=False,
                dtmf=DTMFMode.AUTO,
                beside=self.legs[0] if self.legs else None,
            )
            self.legs.append(leg)
            sdp, agreed = leg.answer(Negotiator(address, port, MediaTerms()).offer())
            assert sdp.audio is not None
            self.peers.append((sdp.audio.address, sdp.audio.port))
            await leg.add(agreed)
        customer, operator = self.legs
        await self._bridge.set(customer, operator, MaskMode.COMFORT_NOISE if self.captured else MaskMode.OPEN)
        await self._bridge.set(operator, customer, MaskMode.OPEN)

    def on_media_event(self, event: AnyEvent) -> None:
        """See `LegEvents`."""
        if isinstance(event, KeyPressed):
            self.keys.append((time.monotonic(), event.way))
        elif isinstance(event, LegFault):
            self.faults += 1

    def on_media_lost(self) -> None:
        """See `LegEvents`. Nothing to do until a worker arrives."""

    def worker_arrived(self, worker: MediaWorker) -> None:
        """Perhaps the successor of ours."""
        self._restoration.worker_arrived(worker, [(leg, None) for leg in self.legs])

    def _restored(self) -> None:
        self.restored_at.append(time.monotonic())
        self._moved.set()

    def _failed(self, reason: str) -> None:
        self.refused.append(reason)
        self._moved.set()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Plays, then judges what was heard; see the module."""
    sockets = [_even_socket() for _ in range(2 * options.calls)]
    ours, theirs = multiprocessing.Pipe()
    telephones = multiprocessing.get_context("fork").Process(
        target=run_telephones, args=(sockets, options.captures, theirs)
    )
    telephones.start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            result = asyncio.run(_play(options, sockets, ours, Path(directory)))
    finally:
        telephones.kill()
        telephones.join()
        for sock in sockets:
            sock.close()
    for name, value in result.items():
        print(f"  {name:28} {value}")
    return result


async def _play(
    options: argparse.Namespace, sockets: list[socket.socket], telephones: Connection, directory: Path
) -> dict[str, Any]:
    settings = Settings(
        rtp=RTPSettings(address="127.0.0.1"),
        media=MediaSettings(workers=options.workers, spare=not options.no_spare),
    )
    places = paths(settings, directory)
    places.media_socket.parent.mkdir(parents=True)
    link = MediaLink(places.media_socket, sharing=True)
    arrived = asyncio.Event()
    link.on_arrival(lambda _: arrived.set())
    link.start()
    bound = rtp_sockets.bind_workers(settings.rtp, options.workers)
    workers = household(settings, directory / "none", places, bound)[Kind.MEDIA]
    supervisor = Supervisor(
        {Kind.MEDIA: workers},
        spare=spare_of(workers) if settings.media.spare else None,
        backoff_s=(0.0,),  # killed again within a minute, a worker would wait 0.5 s and longer
    )
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(30):
            while len(link.workers) < options.workers:
                await arrived.wait()
                arrived.clear()
            await _warm(supervisor)
        moved, tasks = asyncio.Event(), set[asyncio.Future[None]]()

        def background(work: Awaitable[None]) -> None:
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        pairs = [
            Pair(
                link,
                [sock.getsockname()[:2] for sock in sockets[2 * number : 2 * number + 2]],
                captured=number < options.captures,
                moved=moved,
                background=background,
            )
            for number in range(options.calls)
        ]
        for pair in pairs:
            link.on_arrival(pair.worker_arrived)
        for pair in pairs:
            await pair.open()
        telephones.send([peer for pair in pairs for peer in pair.peers])
        losses = await _kill(options, supervisor, pairs, moved)
        telephones.send("stop")
        heard = await asyncio.to_thread(telephones.recv)
        losses.figures = replace(link.figures)
    finally:
        supervisor.ask_to_stop()
        await running
        link.stop()
        rtp_sockets.close_all(bound)
    for number, pair in enumerate(pairs):
        losses.calls[number].keys = pair.keys
        losses.calls[number].faults = pair.faults
        losses.calls[number].refused = pair.refused
    verdict = Verdict(heard, losses)
    for sentence in verdict.wrong[:10]:
        progress(f"WRONG: {sentence}")
    return {
        "calls": options.calls,
        "captures": options.captures,
        "workers": options.workers,
        "rounds": options.rounds,
        "spare": settings.media.spare,
        "correct": not verdict.wrong,
        "wrong": len(verdict.wrong),
        **verdict.figures,
    }


async def _warm(supervisor: Supervisor) -> None:
    if supervisor.standby is not None:
        while not supervisor.standby.child.is_ready:  # noqa: ASYNC110 - another process's state makes no event
            await asyncio.sleep(0.05)


async def _kill(
    options: argparse.Namespace,
    supervisor: Supervisor,
    pairs: list[Pair],
    moved: asyncio.Event,
) -> Losses:
    losses = Losses(
        calls=[PlayedCall(captured=pair.captured, worker=pair.legs[0].worker.index) for pair in pairs],
        limit_ms=options.limit_ms,
    )
    for number in range(options.rounds):
        await asyncio.sleep(_SETTLE_S + random.uniform(0.0, 1.0))
        await _warm(supervisor)
        worker = number % options.workers
        pid = supervisor.children[Kind.MEDIA][worker].pid
        mine = [pair for pair in pairs if pair.legs[0].worker.index == worker]
        before = sum(len(pair.restored_at) + len(pair.refused) for pair in mine)
        assert pid is not None
        losses.killed_at.append(time.monotonic())
        losses.killed_worker.append(worker)
        os.kill(pid, signal.SIGSTOP if options.hang else signal.SIGKILL)
        async with asyncio.timeout(20):
            while sum(len(pair.restored_at) + len(pair.refused) for pair in mine) < before + len(mine):
                moved.clear()
                await moved.wait()
        took = max(pair.restored_at[-1] for pair in mine) - losses.killed_at[-1]
        progress(f"round {number + 1}: all calls restored after {took * 1000:.0f} ms")
    await asyncio.sleep(_SETTLE_S)
    losses.ended = time.monotonic()
    return losses


def _even_socket() -> socket.socket:
    """A telephone's RTP socket; reports to the odd port above it reach nobody."""
    for _ in itertools.repeat(None, 200):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        if sock.getsockname()[1] % 2 == 0:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            return sock
        sock.close()
    raise RuntimeError("no even port is free")
