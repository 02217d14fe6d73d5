"""One media worker against an RTP generator: bridged pairs, keys in band, half the pairs masked.

First it checks that the result is right: every open pair hears its peer's very frames, every masked pair
hears soft noise only, and the keys of one leg in eight all arrive, in order, once. Then it times the same
run in several rounds, each behind one of the kernel floor: the same sockets, packets and batches, nothing done to
them. Figures are medians of the rounds, those that must not happen their sums or maxima.

`--legs 100,500,1000,2000` measures each and says from how many legs on the cost of a leg is flat (within 25 %).
`--profile` says where a tick's time goes, and what legs that come and go cost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.__main__ import progress
from bench._engine_profile import masked
from bench._media_control import Control
from bench._rtp_load import KEYING_EVERY, KEYS, LEGS_PER_PORT, Layout, run_floor, run_generator
from media.hardening import tune_socket
from media.protocol import (
    AddLeg,
    AnyCommand,
    Codec,
    Connect,
    KeyPressed,
    LegFault,
    MaskMode,
    Remote,
    Shutdown,
)

#: As the supervisor starts a worker: threads in BLAS would wait for each other in every tick.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
_CHECK_S: Final = 4.0
#: Comfort noise is at -50 dBm0; its peaks stay far below this.
_NOISE_PEAK: Final = 400
#: The cost of a leg counts as flat where it is no more than so many times the cheapest.
_FLAT: Final = 1.25


def _counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--legs", type=_counts, default=[500], help="legs, even numbers with commas between")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="how long to time, for each number of legs"
    )
    parser.add_argument("--rounds", type=int, default=4, help="turns of floor and worker that share the time")
    parser.add_argument("--profile", action="store_true", help="time the stages of a tick, too")
    parser.add_argument(
        "--mask",
        type=MaskMode,
        choices=[mode for mode in MaskMode if mode is not MaskMode.OPEN],
        default=MaskMode.COMFORT_NOISE,
        help="of the masked pairs",
    )
    parser.add_argument("--mask-all", action="store_true", help="mask every pair")
    parser.add_argument("--cpu", type=int, default=0, help="CPU of the worker; the load takes another one")


def _open(count: int) -> list[socket.socket]:
    sockets = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        tune_socket(sock)
        sockets.append(sock)
    return sockets


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def _floor(layout: Layout, cpu: int | None, seconds: float) -> float:
    """The kernel's µs of each tick."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run_floor, args=(layout, theirs, cpu, seconds))
    child.start()
    result = ours.recv()
    child.join()
    return float(result["us_per_tick"])


def _set_up(control: Control, layout: Layout, mask: MaskMode, *, every: bool) -> None:
    commands: list[AnyCommand] = []
    for leg in range(layout.legs):
        _, peer = layout.addresses(leg)
        commands.append(
            AddLeg(
                seq=control.seq(),
                leg=leg,
                socket=leg // LEGS_PER_PORT,
                codec=Codec.PCMU,
                remote=Remote(*peer),
            )
        )
    for leg in range(layout.legs):
        mode = mask if every or masked(leg) else MaskMode.OPEN
        # A decoy plays to the leg whose keys it buries.
        destination = leg if mode is MaskMode.DECOY else leg ^ 1
        commands.append(
            Connect(seq=control.seq(), source=leg, destination=destination, mask=mode, beeps=True)
        )
    control.command(commands)


def _check(control: Control, generator: Connection, legs: int, options: argparse.Namespace) -> list[str]:
    """What is wrong, as sentences."""
    first = control.statistics().ticks
    control.events.clear()
    generator.send("check")
    control.read(_CHECK_S)
    generator.send("report")
    report = generator.recv()
    keyed = list(control.events)
    ticks = control.statistics().ticks - first
    if ticks < 0.95 * _CHECK_S * 50:
        progress(f"the machine is too busy: the worker got {ticks} ticks in {_CHECK_S} s")
    wrong: list[str] = []
    for leg in range(legs):
        if options.mask_all or masked(leg):
            loud = options.mask is MaskMode.COMFORT_NOISE and report["peak"][leg] > _NOISE_PEAK
            passes = options.mask is not MaskMode.CLAMP and report["matches"][leg]
            # Through a clamp only those hear anything else than their peer whose peer keys.
            noisy = options.mask is not MaskMode.CLAMP or not (leg ^ 1) % KEYING_EVERY
            noisy &= options.mask is not MaskMode.SILENCE
            if loud or passes or (noisy and not report["foreign"][leg]):
                wrong.append(f"leg {leg} is masked and heard something of its peer")
        elif (leg ^ 1) % KEYING_EVERY and report["matches"][leg] < 0.9 * ticks - 20:
            wrong.append(f"leg {leg} is open and missed its peer's frames")
    keys: dict[int, list[int]] = {}
    for event in keyed:
        if isinstance(event, KeyPressed):
            keys.setdefault(event.leg, []).append(event.key)
        elif isinstance(event, LegFault):
            wrong.append(f"leg {event.leg} faulted: {event.reason}")
    expected = {leg: list(KEYS) for leg in range(0, legs, KEYING_EVERY)}
    wrong += [
        f"leg {leg}: keys lost, doubled or invented"
        for leg in keys | expected
        if keys.get(leg) != expected.get(leg)
    ]
    return wrong


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Checks, times and compares; see the module."""
    cpus = sorted(os.sched_getaffinity(0))
    worker_cpu = options.cpu if len(cpus) > 1 else None
    load_cpu = next((cpu for cpu in cpus if cpu != options.cpu), None) if len(cpus) > 1 else None
    if load_cpu is None:
        progress("one CPU only: load and worker share it, figures mean little")
    else:
        os.sched_setaffinity(0, {load_cpu})
    counts = sorted({legs - legs % 2 for legs in options.legs})
    results = [_measure(legs, options, worker_cpu, load_cpu) for legs in counts]
    _print_table(results)
    result = dict(results[-1])
    if len(results) > 1:
        knee = _knee(results)
        print(f"  knee: from {knee} legs on a leg costs at most {_FLAT - 1:.0%} more than the cheapest")
        result |= {"sweep": results, "knee_legs": knee, "correct": all(one["correct"] for one in results)}
    if options.profile:
        result["profile"] = {legs: _profile(legs, options, worker_cpu, load_cpu) for legs in counts}
    return result


def _knee(results: list[dict[str, Any]]) -> int:
    """The fewest legs from which on the cost of a leg is flat."""
    costs = [one["us_per_leg_tick"] for one in results]
    steep = [at for at, cost in enumerate(costs) if cost > _FLAT * min(costs)]
    flat = results[steep[-1] + 1 :] if steep else results
    return int((flat or results[-1:])[0]["legs"])


def _print_table(results: list[dict[str, Any]]) -> None:
    names = [name for name in results[0] if not isinstance(results[0][name], list)]
    for name in names:
        print(f"  {name:24}" + "".join(f"{one[name]!s:>12}" for one in results))


@contextlib.contextmanager
def _loaded(legs: int, load_cpu: int | None) -> Iterator[tuple[Layout, Connection]]:
    """Sockets for so many legs, and a generator that sends to them."""
    layout = Layout(legs, _open(-(-legs // LEGS_PER_PORT)), _open(min(legs, LEGS_PER_PORT)))
    ours, theirs = multiprocessing.Pipe()
    generator = multiprocessing.get_context("fork").Process(
        target=run_generator, args=(layout, theirs, load_cpu)
    )
    generator.start()
    try:
        yield layout, ours
    finally:
        ours.send("stop")
        generator.join(5)
        generator.kill()
        for sock in layout.worker + layout.generator:
            sock.close()


def _measure(
    legs: int, options: argparse.Namespace, worker_cpu: int | None, load_cpu: int | None
) -> dict[str, Any]:
    """Floor and worker in turns, so that a machine whose other work comes and goes decides nothing."""
    seconds = options.seconds / options.rounds
    floors: list[float] = []
    rounds: list[dict[str, Any]] = []
    with _loaded(legs, load_cpu) as (layout, generator), tempfile.TemporaryDirectory() as directory:
        for number in range(options.rounds):
            progress(f"{legs} legs, round {number + 1} of {options.rounds}")
            generator.send("steady")
            floors.append(_floor(layout, worker_cpu, seconds) / legs)
            path = Path(directory) / f"control-{number}"
            rounds.append(
                _run_worker(layout, generator, path, worker_cpu, seconds, options, check=number == 0)
            )
    costs = [one["tick_cost_us"] / legs for one in rounds]
    return {
        "legs": legs,
        "seconds": options.seconds,
        "mask": str(options.mask),
        "masked_legs": legs if options.mask_all else sum(map(masked, range(legs))),
        "correct": not rounds[0]["wrong"],
        "wrong": rounds[0]["wrong"],
        "us_per_leg_tick": round(median(costs), 3),
        "floor_us_per_leg_tick": round(median(floors), 3),
        "ratio_to_floor": round(median(cost / floor for cost, floor in zip(costs, floors, strict=True)), 3),
        "ticks": sum(one["ticks"] for one in rounds),
        "late_ticks": sum(one["late_ticks"] for one in rounds),
        "tick_late_p999_ms": max(one["tick_late_p999_ms"] for one in rounds),
        "loss": max(one["loss"] for one in rounds),
        "sends_failed": sum(one["sends_failed"] for one in rounds),
        "socket_overflows": max(one["socket_overflows"] for one in rounds),
        "faults": sum(one["faults"] for one in rounds),
        "rss_kb_per_leg": max(one["rss_kb_per_leg"] for one in rounds),
        "generator_busy": median(one["generator_busy"] for one in rounds),
        "generator_limited": any(one["generator_limited"] for one in rounds),
        "runs": [round(cost, 3) for cost in costs],
        "floor_runs": [round(floor, 3) for floor in floors],
    }


def _profile(
    legs: int, options: argparse.Namespace, worker_cpu: int | None, load_cpu: int | None
) -> dict[str, Any]:
    progress(f"{legs} legs: profile")
    with _loaded(legs, load_cpu) as (layout, generator):
        sides = {"--worker": layout.worker, "--generator": layout.generator}
        files = {side: [sock.fileno() for sock in sockets] for side, sockets in sides.items()}
        generator.send("steady")
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "bench._engine_profile"),
                *("--legs", str(legs), "--seconds", str(options.seconds)),
                *([] if worker_cpu is None else ["--affinity", str(worker_cpu)]),
                *(word for side, fds in files.items() for word in (side, ",".join(map(str, fds)))),
            ],
            pass_fds=[fd for fds in files.values() for fd in fds],
            env={**os.environ, **_ONE_THREAD},
            stdout=subprocess.PIPE,
            check=True,
        )
    result: dict[str, Any] = json.loads(finished.stdout)
    print(f"  of a tick of {legs} legs, µs (median; timers included), and a leg:")
    for stage, us in result["stages_us"].items():
        print(f"    {stage:24}{us:10.0f}{us / legs:10.3f}")
    for name, us in result["changes_us"].items():
        print(f"    {name:24}{us:10.0f}")
    return result


def _run_worker(
    layout: Layout,
    generator: Connection,
    path: Path,
    cpu: int | None,
    seconds: float,
    options: argparse.Namespace,
    *,
    check: bool,
) -> dict[str, Any]:
    control = Control(path)
    files = [sock.fileno() for sock in layout.worker]
    pinned = [] if cpu is None else ["--affinity", str(cpu)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "media.worker", "--index", "0", "--control", str(path)),
            *("--fds", ",".join(map(str, files)), *pinned),
        ],
        pass_fds=files,
        env={**os.environ, **_ONE_THREAD},
    )
    try:
        control.accept()
        generator.send("quiet")
        time.sleep(0.1)
        before_kb = _rss_kb(process.pid)
        _set_up(control, layout, options.mask, every=options.mask_all)
        generator.send("steady")
        control.read(1.0)
        generator.send("quiet")
        control.read(0.5)
        wrong = _check(control, generator, layout.legs, options) if check else []
        for sentence in wrong[:5]:
            progress(f"WRONG: {sentence}")
        generator.send("quiet")
        control.read(0.2)
        start = control.statistics()
        generator.send("report")
        load_start = generator.recv()
        generator.send("steady")
        control.read(1.0)
        first = control.statistics()
        generator.send("report")
        load_first = generator.recv()
        control.read(seconds)
        last = control.statistics()
        generator.send("report")
        load_last = generator.recv()
        after_kb = _rss_kb(process.pid)
        generator.send("quiet")
        control.read(0.2)
        final = control.statistics()
        generator.send("report")
        load_final = generator.recv()
        control.command([Shutdown(seq=control.seq())])
        process.wait(5)
    finally:
        process.kill()
        process.wait()
        control.close()
    ticks = last.ticks - first.ticks
    sent = load_final["sent"] - load_start["sent"]
    got = final.packets_received - start.packets_received
    generator_ticks = load_last["ticks"] - load_first["ticks"]
    generator_late = load_last["late"] - load_first["late"]
    busy = (load_last["cpu_s"] - load_first["cpu_s"]) / seconds
    limited = busy > 0.85 or generator_late > generator_ticks / 100
    if limited:
        progress(
            f"the generator is the limit: {busy:.0%} busy, {generator_late} of {generator_ticks} ticks late"
        )
    return {
        "wrong": len(wrong),
        "tick_cost_us": last.tick_cost_us,
        "ticks": ticks,
        "late_ticks": last.late_ticks - first.late_ticks,
        "tick_late_p999_ms": last.tick_late_p999_ms,
        "loss": round(1 - got / sent, 6) if sent else 1.0,
        "sends_failed": last.sends_failed,
        "socket_overflows": last.socket_overflows,
        "faults": last.faults,
        "rss_kb_per_leg": round((after_kb - before_kb) / layout.legs, 2),
        "generator_busy": round(busy, 3),
        "generator_limited": limited,
    }
