"""Mutated RTP, RTCP and SRTP against a live worker while two victims on its sockets count what they hear.

Passes when the worker is alive and has counted no fault, and when the victims lost no frame: what each received
from the worker is free of gaps in its sequence numbers and, frame by frame, what the other one said. The rate is
bounded so that no socket's buffer overflows; overflows are reported. Frames around a moment at which this process
itself was late (the machine was busy) are counted apart, as excused: the victims did not speak in time.

`--lockstep` runs the same packets against an engine in this process, 20 ms a step however long it takes: it needs no
quick machine, and shows the traceback of an exception. A fault of a live run is looked for by its seed there.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.__main__ import progress
from bench._fuzzing import WORKER_SOCKETS, Attack, Health, Subject
from bench._worker import LiveWorker, live_worker, open_sockets, rss_kb
from media.engine import Engine
from media.hardening import overflows, raise_priority
from media.protocol import TICK_MS, AnyCommand, AnyEvent, LegFault, Refused

_TICK_S: Final = TICK_MS / 1000
_SEED: Final = 4_733
#: Share of the victims' frames that must be evidence.
_LEAST_JUDGED: Final = 0.5
#: Whether this engine has sockets for RTCP beside those for RTP.
_HAS_REPORT_SOCKETS: Final = "report_sockets" in inspect.signature(Engine).parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--packets", type=int, default=100_000, help="how many mutated packets")
    parser.add_argument("--rate", type=int, default=10_000, help="packets a second, live")
    parser.add_argument("--seed", type=int, default=_SEED, help="of everything")
    parser.add_argument(
        "--lockstep", action="store_true", help="against an engine in this process, not in time"
    )


class LiveSubject:
    """A worker's process, paced by the clock."""

    def __init__(self, worker: LiveWorker) -> None:
        self._worker = worker
        self._deadline = time.monotonic()
        self.latest_s = 0.0

    def command(self, commands: Sequence[AnyCommand]) -> int:
        """See `Subject`."""
        return len(self._worker.command(commands))

    def step(self) -> float:
        """Waits for the next 20 ms and reads events meanwhile; see `Subject`."""
        self._deadline += _TICK_S
        self._worker.read(max(0.0, self._deadline - time.monotonic()))
        time.sleep(max(0.0, self._deadline - time.monotonic()))
        late_s = time.monotonic() - self._deadline
        self.latest_s = max(self.latest_s, late_s)
        if late_s > 10 * _TICK_S:
            self._deadline = time.monotonic()
        self._worker.take(lambda event: not isinstance(event, LegFault))
        return late_s

    def health(self) -> Health:
        """See `Subject`."""
        if not self._worker.alive:
            raise RuntimeError(f"the worker has ended with status {self._worker.process.returncode}")
        whole, _ = self._worker.statistics()
        self._deadline = time.monotonic()
        return Health(whole.faults, whole.socket_overflows, whole.packets_received, whole.late_ticks)

    def faulted(self) -> bool:
        """See `Subject`."""
        if not self._worker.alive:
            raise RuntimeError(f"the worker has ended with status {self._worker.process.returncode}")
        return bool(self._worker.take(lambda event: isinstance(event, LegFault)))


class _TellingEngine(Engine):
    """Says where an exception came from; the engine itself must not, for it may quote data."""

    def _fail(self, error: Exception, events: list[AnyEvent]) -> None:
        traceback.print_exception(error)
        super()._fail(error, events)


class LockStepSubject:
    """An engine in this process; a step is a tick."""

    def __init__(
        self, sockets: Sequence[socket.socket], report_sockets: Sequence[socket.socket], seed: int
    ) -> None:
        options: dict[str, Any] = {"report_sockets": report_sockets} if _HAS_REPORT_SOCKETS else {}
        self._engine = _TellingEngine(sockets, rng=np.random.default_rng(seed), **options)
        self._faulted = False

    def command(self, commands: Sequence[AnyCommand]) -> int:
        """See `Subject`."""
        answers = [event for command in commands for event in self._engine.execute(command)]
        return sum(isinstance(event, Refused) for event in answers)

    def step(self) -> float:
        """See `Subject`."""
        self._faulted |= any(isinstance(event, LegFault) for event in self._engine.tick())
        return 0.0

    def health(self) -> Health:
        """See `Subject`."""
        engine = self._engine
        lost = sum(overflows(sock) for sock in engine.sockets)
        return Health(engine.faults, lost, engine.packets_received, 0)

    def faulted(self) -> bool:
        """See `Subject`."""
        faulted, self._faulted = self._faulted, False
        return faulted


@contextlib.contextmanager
def sockets_of_a_worker() -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """RTP sockets, and those for RTCP beside them where the engine knows such."""
    sockets = open_sockets(WORKER_SOCKETS)
    beside = open_sockets(WORKER_SOCKETS) if _HAS_REPORT_SOCKETS else []
    try:
        yield sockets, beside
    finally:
        for sock in sockets + beside:
            sock.close()


@contextlib.contextmanager
def live_subject(
    sockets: Sequence[socket.socket], beside: Sequence[socket.socket]
) -> Iterator[tuple[LiveSubject, LiveWorker]]:
    """A worker with these sockets."""
    options = ["--report-fds", ",".join(str(sock.fileno()) for sock in beside)] if beside else []
    with live_worker(sockets, *options, pass_fds=[sock.fileno() for sock in beside]) as worker:
        yield LiveSubject(worker), worker


def attack(
    subject: Subject,
    sockets: tuple[Sequence[socket.socket], Sequence[socket.socket]],
    *,
    seed: int,
    packets: int,
    per_step: int,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """One run against a subject, and what is wrong with its outcome as sentences under `wrong`."""
    assault = Attack(subject, *sockets, seed)
    try:
        result = assault.run(packets, per_step, tell)
    finally:
        assault.close()
    result["corpus"] = len(assault.corpus)
    wrong = [f"{result['faults']} faults"] if result["faults"] else []
    for number, victim in enumerate(result["victims"]):
        wrong += [
            f"victim {number}: {victim[name]} frames {name}"
            for name in ("lost", "altered", "repeated")
            if victim[name]
        ]
        if victim["judged"] < victim["said"] * _LEAST_JUDGED:
            wrong.append(
                f"victim {number}: {victim['judged']} frames judged: the machine is too busy to tell"
            )
        if victim["sequence_gaps"]:
            wrong.append(f"victim {number}: {victim['sequence_gaps']} gaps in sequence numbers")
    if assault.suspects:
        path = Path(tempfile.gettempdir()) / f"rtp-fuzz-{seed}.hex"
        path.write_text("\n".join(packet.hex() for packet in assault.suspects) + "\n", encoding="ascii")
        wrong.append(f"the packets before the fault are in {path}")
    return {**result, "wrong": wrong, "correct": not wrong}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Attacks; see the module."""
    begun = time.monotonic()

    def tell(done: int) -> None:
        progress(f"{done:,} of {options.packets:,} packets, {time.monotonic() - begun:.0f} s")

    per_step = max(1, round(options.rate * _TICK_S))
    about: dict[str, Any] = {"seed": options.seed, "lockstep": options.lockstep}
    common = {"seed": options.seed, "packets": options.packets, "per_step": per_step}
    with sockets_of_a_worker() as (sockets, beside):
        if options.lockstep:
            subject = LockStepSubject(sockets, beside, options.seed)
            result = attack(subject, (sockets, beside), tell=tell, **common)
        else:
            if not raise_priority():
                progress("without priority: a busy machine may keep the victims from speaking in time")
            with live_subject(sockets, beside) as (live, worker):
                before_kb = rss_kb(worker.process.pid)
                result = attack(live, (sockets, beside), tell=tell, **common)
                about["alive"] = worker.alive
                about["rss_growth_kb"] = rss_kb(worker.process.pid) - before_kb
                about["load_latest_ms"] = round(live.latest_s * 1000, 1)
    result = about | {"seconds": round(time.monotonic() - begun, 1)} | result
    for name, value in result.items():
        print(f"  {name:18} {value}")
    return result
