"""Where the time of a tick goes: an engine in a process of its own, its stages under timers.

`python -m bench._engine_profile --legs N --seconds S --worker FDS --generator FDS`, started by `bench engine
--profile` with one thread for BLAS as a worker has it, prints one JSON object.

The timers cost about a microsecond each, so the sum is more than a tick without them. Stages that are indented are
parts of the one above.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import socket
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from bench._rtp_load import LEGS_PER_PORT, Layout
from media import engine as engine_module
from media.dsp import dtmf, g711
from media.engine import Engine
from media.hardening import raise_priority, tune_socket
from media.protocol import TICK_MS, AddLeg, AnyCommand, Codec, Connect, MaskMode, Refused, Remote, RemoveLeg

_TICK_S: Final = TICK_MS / 1000
_WARM_TICKS: Final = 50
_CHURN: Final = 100
_CHURN_ROUNDS: Final = 5
_DISCARD_PORT: Final = 9


class _Timers:
    def __init__(self) -> None:
        self.ticks: dict[str, list[float]] = {}
        self._now: dict[str, float] = {}

    def watch(self, owner: object, name: str, stage: str) -> None:
        """Times a function or method from now on."""
        inner: Callable[..., Any] = getattr(owner, name)
        self._now[stage] = 0.0

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter_ns()
            try:
                return inner(*arguments, **keywords)
            finally:
                self._now[stage] += (time.perf_counter_ns() - started) / 1000

        setattr(owner, name, timed)

    def end_tick(self) -> None:
        for stage, us in self._now.items():
            self.ticks.setdefault(stage, []).append(us)
            self._now[stage] = 0.0

    def medians(self) -> dict[str, float]:
        return {stage: round(median(all_us), 1) for stage, all_us in self.ticks.items()}


def _watch(timers: _Timers, engine: Engine) -> None:
    transmitter, streams = engine.transmitter, engine.streams
    timers.watch(engine, "tick", "whole tick")
    timers.watch(engine._receiver, "receive", "receive")
    timers.watch(engine_module, "parse", "parse")
    timers.watch(engine.sources, "find", "find legs")
    timers.watch(streams, "receive", "file in ring")
    timers.watch(streams.ring, "write", "  copy")
    timers.watch(streams, "play", "play out")
    timers.watch(g711, "decode", "  decode")
    timers.watch(engine, "_detect", "detect")
    timers.watch(dtmf.DTMFState, "project", "  project")
    timers.watch(engine, "_mix", "mask and mix")
    timers.watch(transmitter, "send", "encode and send")
    timers.watch(g711, "encode", "  encode")
    timers.watch(transmitter._sender, "send", "  system calls")


def masked(leg: int) -> bool:
    """Every second pair."""
    return leg // 2 % 2 == 1


def profile(layout: Layout, seconds: float) -> dict[str, Any]:
    """Runs an engine under load, lets legs come and go, and says what both cost."""
    legs = layout.legs
    engine = Engine(layout.worker, capacity=legs + _CHURN)
    for leg in range(legs):
        _, peer = layout.addresses(leg)
        _do(engine, _leg(leg, leg // LEGS_PER_PORT, Remote(*peer)))
    for leg in range(legs):
        mode = MaskMode.COMFORT_NOISE if masked(leg) else MaskMode.OPEN
        _do(engine, Connect(seq=0, source=leg, destination=leg ^ 1, mask=mode))
    engine.drain()
    gc.collect()
    gc.freeze()
    gc.disable()
    _run(engine, _WARM_TICKS, None)
    timers = _Timers()
    _watch(timers, engine)
    _run(engine, int(seconds / _TICK_S), timers)
    stages = timers.medians()
    return {"stages_us": stages, "changes_us": _churn(legs), "faults": engine.faults}


def _leg(number: int, sock: int, remote: Remote) -> AddLeg:
    return AddLeg(seq=0, leg=number, socket=sock, codec=Codec.PCMU, remote=remote)


def _do(engine: Engine, command: AnyCommand) -> None:
    answer = engine.execute(command)[0]
    if isinstance(answer, Refused):
        raise RuntimeError(answer.reason)


def _run(engine: Engine, ticks: int, timers: _Timers | None) -> list[float]:
    """The µs of each tick."""
    took: list[float] = []
    deadline = time.monotonic()
    for _ in range(ticks):
        deadline += _TICK_S
        time.sleep(max(0.0, deadline - time.monotonic()))
        started = time.perf_counter_ns()
        engine.tick()
        took.append((time.perf_counter_ns() - started) / 1000)
        if timers is not None:
            timers.end_tick()
    return took


def _churn(legs: int) -> dict[str, float]:
    """Legs that come and go between two ticks of an engine whose peers are silent.

    Returns:
        µs of the commands for each, and by how much the tick behind them is longer than one without.
    """
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_socket()) for _ in range(-(-legs // LEGS_PER_PORT))]
        engine = Engine(sockets, capacity=legs + _CHURN)
        for number in range(legs):
            _do(engine, _leg(number, number % len(sockets), _nobody(number)))

        def step(name: str, commands: list[AnyCommand]) -> None:
            usual_us = median(_run(engine, 3, None))
            started = time.perf_counter_ns()
            for command in commands:
                _do(engine, command)
            each = (time.perf_counter_ns() - started) / 1000 / len(commands)
            found.setdefault(f"{name}, for each", []).append(each)
            found.setdefault(f"{name}, tick longer", []).append(_run(engine, 1, None)[0] - usual_us)

        numbers = range(legs, legs + _CHURN)
        for _ in range(_CHURN_ROUNDS):
            step("one leg comes", [_leg(legs, 0, _nobody(legs))])
            step(f"{_CHURN - 1} legs come", [_leg(n, n % len(sockets), _nobody(n)) for n in numbers[1:]])
            step(f"{_CHURN} connections", [Connect(seq=0, source=n, destination=n ^ 1) for n in numbers])
            step("one leg goes", [RemoveLeg(seq=0, leg=legs)])
            step(f"{_CHURN - 1} legs go", [RemoveLeg(seq=0, leg=n) for n in numbers[1:]])
    return {name: round(median(all_us), 1) for name, all_us in found.items()}


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    tune_socket(sock)
    return sock


def _nobody(number: int) -> Remote:
    """An address where nobody listens, another for each leg."""
    return Remote(f"127.1.{number >> 8}.{number & 255}", _DISCARD_PORT)


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--legs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--affinity", type=int)
    for side in ("worker", "generator"):
        parser.add_argument(f"--{side}", required=True)
    options = parser.parse_args()
    if options.affinity is not None:
        os.sched_setaffinity(0, {options.affinity})
    raise_priority()
    worker, generator = (
        [socket.socket(fileno=int(fd)) for fd in files.split(",")]
        for files in (options.worker, options.generator)
    )
    print(json.dumps(profile(Layout(options.legs, worker, generator), options.seconds)))


if __name__ == "__main__":
    main()
