"""One media worker: `python -m media.worker --index N --control PATH --fds 5,6,7 [--affinity CPU]`.

The process has two states. *Serving*: connected to the control socket, a tick every 20 ms on an absolute
schedule. *Ended*: when the control socket closes it silences and drops all legs in that tick and exits with
status 3; on `Shutdown` or SIGTERM it does the same and exits with 0. It never reconnects: the supervisor,
which owns the UDP sockets, starts another one (and SIGINT is left to the supervisor).

A tick that starts late is followed by the next at once, so that streams keep their timing; when more than ten
ticks are missing the schedule starts anew. Commands get the time that the tick behind them leaves: a thousand legs
that come at once take as many ticks as they need and hold up nobody's audio.
"""

from __future__ import annotations

import argparse
import gc
import logging
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from media.arrays import populate
from media.control import ClosedError, ControlChannel, MalformedError, connect
from media.engine import MOST_LEGS, Engine
from media.hardening import (
    DSCP_EF,
    harden_process,
    keep_heap,
    mark_socket,
    name_process,
    overflows,
    raise_priority,
    tune_socket,
)
from media.protocol import (
    PROTOCOL_VERSION,
    TICK_MS,
    AnyEvent,
    Hello,
    QueryStatistics,
    Remote,
    Shutdown,
    WorkerStatistics,
)
from media.rtp.source import LATCH_WINDOW_S

EXIT_CONTROL_CLOSED: Final = 3
EXIT_NO_CONTROL: Final = 4

_TICK_S: Final = TICK_MS / 1000
_LATE_S: Final = 0.005
_MOST_BEHIND_TICKS: Final = 10
_COLLECT_EVERY_TICKS: Final = 500
_COLLECT_NEEDS_S: Final = 0.008
#: What of a tick's time neither commands nor audio may use, and what commands have in any case.
_RESERVE_S: Final = 0.003
_LEAST_FOR_COMMANDS_S: Final = 0.001
#: How much of the longest tick's length is expected of the next one, each tick anew.
_PEAK_DECAY: Final = 0.95
_REMEMBERED_TICKS: Final = 8_192
_PULSE_BYTES: Final = 8
#: Intermediate arrays of a tick, for each leg, at most at one time.
_HEAP_BYTES_OF_A_LEG: Final = 4096

log = logging.getLogger("media.worker")


class Worker:
    """The tick loop around an engine.

    Args:
        engine: of which each tick is one step.
        channel: to `sipivr`.
        pulse: one unsigned integer that rises with every tick, watched by who must know whether we hang.
    """

    def __init__(
        self, engine: Engine, channel: ControlChannel, pulse: np.ndarray[tuple[int], np.dtype[np.uint64]]
    ) -> None:
        self._engine = engine
        self._channel = channel
        self._pulse = pulse
        self._lateness = np.zeros(_REMEMBERED_TICKS, np.float32)
        self._ticks = 0
        self._late = 0
        self._cost_ns = 0
        self._costed_ticks = 0
        self._expected_s = 0.0
        """How long the audio of the coming tick may take, as those before it did."""
        self._ending = False

    def stop(self) -> None:
        """Ends the loop with the coming tick."""
        self._ending = True

    def run(self) -> int:
        """Serves until told to stop or left alone; returns the exit status."""
        deadline = time.monotonic()
        try:
            while not self._ending:
                deadline += _TICK_S
                now = time.monotonic()
                if now < deadline:
                    self._collect(deadline - now)
                    time.sleep(max(0.0, deadline - time.monotonic()))
                    now = time.monotonic()
                late_s = max(0.0, now - deadline)
                self._note_lateness(late_s)
                if late_s > _MOST_BEHIND_TICKS * _TICK_S:
                    log.warning("schedule starts anew, %.0f ms behind", late_s * 1000)
                    deadline = now
                self._step(deadline)
        except ClosedError:
            self._engine.drop_all()
            log.warning("control socket closed; all legs dropped")
            return EXIT_CONTROL_CLOSED
        self._engine.drop_all()
        return 0

    def _step(self, deadline: float) -> None:
        started = time.thread_time_ns()
        self._pulse += np.uint64(1)
        events = self._obey(deadline)
        audio = time.monotonic()
        events += self._engine.tick()
        if not self._channel.send(self._engine.ticks, events):
            self._engine.fault_all("events cannot be delivered")
        self._expected_s = max(time.monotonic() - audio, self._expected_s * _PEAK_DECAY)
        self._cost_ns += time.thread_time_ns() - started
        self._costed_ticks += 1

    def _obey(self, deadline: float) -> list[AnyEvent]:
        spare = deadline + _TICK_S - self._expected_s - _RESERVE_S
        end = max(spare, time.monotonic() + _LEAST_FOR_COMMANDS_S)
        events: list[AnyEvent] = []
        try:
            for command in self._channel.commands(end):
                events += self._engine.execute(command)
                if isinstance(command, QueryStatistics):
                    events.append(self._statistics())
                elif isinstance(command, Shutdown):
                    self._ending = True
        except MalformedError:
            log.error("a control message could not be read; masked connections are silenced")
            events += self._engine.fault_all("a control message could not be read")
        return events

    def _note_lateness(self, late_s: float) -> None:
        self._lateness[self._ticks % _REMEMBERED_TICKS] = late_s
        self._ticks += 1
        self._late += late_s > _LATE_S

    def _collect(self, spare_s: float) -> None:
        """Garbage is collected where it delays no tick."""
        if self._ticks % _COLLECT_EVERY_TICKS == 0 and spare_s > _COLLECT_NEEDS_S:
            gc.collect()

    def _statistics(self) -> WorkerStatistics:
        engine = self._engine
        known = self._lateness[: min(self._ticks, _REMEMBERED_TICKS)]
        late_ms = float(np.percentile(known, 99.9)) * 1000 if len(known) else 0.0
        cost_us = self._cost_ns / max(self._costed_ticks, 1) / 1000
        self._cost_ns = self._costed_ticks = 0
        return WorkerStatistics(
            legs=len(engine.legs),
            ticks=self._ticks,
            late_ticks=self._late,
            tick_cost_us=round(cost_us, 2),
            packets_received=engine.packets_received,
            packets_sent=engine.packets_sent,
            packets_unknown=engine.policy.unknown,
            events_dropped=self._channel.dropped,
            tick_late_p999_ms=round(late_ms, 3),
            sends_failed=engine.transmitter.failed,
            socket_overflows=sum(overflows(sock) for sock in engine.sockets),
            faults=engine.faults,
            prompts=len(engine.prompts),
            playing=len(engine.players),
            connections=len(engine.connections),
            packets_late=engine.packets_refused("late"),
            packets_refused=engine.packets_refused("refused"),
            packets_foreign=engine.packets_refused("foreign"),
            sources_latched=engine.policy.latched,
            sources_moved=engine.policy.moved,
            reports_sent=engine.reports.sent,
            reports_received=engine.reports.received,
            reports_refused=engine.reports.refused_ever,
            reports_foreign=engine.reports.foreign,
        )


def _pulse(descriptor: int | None) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The counter that the supervisor watches, or one that nobody sees."""
    if descriptor is None:
        return np.zeros(1, np.uint64)
    return np.frombuffer(mmap.mmap(descriptor, _PULSE_BYTES), np.uint64, 1)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m media.worker", description="One media worker.")
    parser.add_argument("--index", type=int, required=True, help="number of this worker")
    parser.add_argument("--control", required=True, help="path of the socket on which sipivr listens")
    parser.add_argument("--fds", default="", help="bound UDP sockets, by descriptor, with commas between")
    parser.add_argument(
        "--report-fds", default="", help="RTCP sockets, one beside each of --fds, the same way"
    )
    parser.add_argument("--affinity", type=int, help="CPU to stay on")
    parser.add_argument("--jitter-ms", type=int, default=40, help="playing delay of a leg's first audio")
    parser.add_argument("--rtp-timeout-s", type=float, default=30.0, help="quiet time before RTPTimeout")
    parser.add_argument(
        "--latch-window-s",
        type=float,
        default=LATCH_WINDOW_S,
        help="how long a symmetric leg awaits its source",
    )
    parser.add_argument("--dscp", type=int, default=DSCP_EF, help="DSCP of what is sent")
    parser.add_argument("--pulse-fd", type=int, help="shared memory in which the ticks are counted")
    parser.add_argument("--max-legs", type=int, default=MOST_LEGS, help="legs beyond these are refused")
    parser.add_argument("--portable", action="store_true", help="do without recvmmsg and sendmmsg")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a worker to its end and returns the exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s media[{options.index}] %(levelname)s %(message)s",
        force=True,  # a spare has logged under another name
    )
    name_process(f"media-{options.index}")
    for sentence in harden_process():
        log.info("%s", sentence)
    if options.affinity is not None:
        os.sched_setaffinity(0, {options.affinity})
    if not raise_priority():
        log.info("the process keeps its priority")
    sockets, report_sockets = _sockets(options.fds), _sockets(options.report_fds)
    marked = [tune_socket(sock, options.dscp) for sock in sockets]
    marked += [mark_socket(sock, options.dscp) for sock in report_sockets]
    if not all(marked):
        log.warning("packets go out without DSCP %d", options.dscp)
    engine = Engine(
        sockets,
        depth_ms=options.jitter_ms,
        timeout_s=options.rtp_timeout_s,
        latch_window_s=options.latch_window_s,
        portable=options.portable,
        report_sockets=report_sockets,
        capacity=options.max_legs,
    )
    engine.drain()
    engine.tick()  # with nothing to do: warms the code before the first leg
    populate(engine)
    keep_heap(options.max_legs * _HEAP_BYTES_OF_A_LEG)
    try:
        control = connect(options.control)
    except OSError as error:
        log.error("no control socket: %s", error.strerror)
        return EXIT_NO_CONTROL
    channel = ControlChannel(control)
    addresses = tuple(Remote(*sock.getsockname()[:2]) for sock in sockets)
    channel.hello(Hello(PROTOCOL_VERSION, options.index, os.getpid(), addresses))
    worker = Worker(engine, channel, _pulse(options.pulse_fd))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return worker.run()
    finally:
        control.close()
        for sock in (*sockets, *report_sockets):
            sock.close()


def _sockets(descriptors: str) -> list[socket.socket]:
    return [socket.socket(fileno=int(fd)) for fd in descriptors.split(",") if fd]


if __name__ == "__main__":
    sys.exit(main())
