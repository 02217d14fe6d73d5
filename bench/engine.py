"""One media worker against an RTP generator: bridged pairs, keys in band, half the pairs masked.

First it checks that the result is right: every open pair hears its peer's very frames, every masked pair
hears soft noise only, and the keys of one leg in eight all arrive, in order, once. Then it times the same
run, and before and after it the kernel floor: the same sockets, packets and batches, nothing done to them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from bench.__main__ import progress
from bench._rtp_load import KEYING_EVERY, KEYS, LEGS_PER_PORT, Layout, run_floor, run_generator
from media.hardening import tune_socket
from media.protocol import (
    Acknowledged,
    AddLeg,
    AnyCommand,
    AnyEvent,
    Codec,
    Connect,
    EventBatch,
    KeyPressed,
    LegFault,
    MaskMode,
    QueryStatistics,
    Refused,
    Remote,
    Shutdown,
    WorkerStatistics,
    decode_events,
    encode_commands,
)

_CHECK_S: Final = 4.0
_BATCH: Final = 200
#: Comfort noise is at -50 dBm0; its peaks stay far below this.
_NOISE_PEAK: Final = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--legs", type=int, default=500, help="legs, an even number")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to time")
    parser.add_argument("--cpu", type=int, default=0, help="CPU of the worker; the load takes another one")


class Control:
    """The control side of the worker."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(20)
        self.events: list[AnyEvent] = []
        self._seq = 0

    def accept(self) -> None:
        """Waits for the worker."""
        self._socket, _ = self._listener.accept()
        self._socket.recv(1 << 18)

    def read(self, seconds: float) -> None:
        """Collects events for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet = self._socket.recv(1 << 18)
            except TimeoutError:
                return
            if not packet:
                return
            message = decode_events(packet)
            if isinstance(message, EventBatch):
                self.events += message.events

    def command(self, commands: list[AnyCommand]) -> None:
        """Sends commands and waits until all are acknowledged."""
        for start in range(0, len(commands), _BATCH):
            batch = commands[start : start + _BATCH]
            self._socket.send(encode_commands(batch))
            wanted = {command.seq for command in batch}
            end = time.monotonic() + 10
            while wanted and time.monotonic() < end:
                self.read(0.02)
                wanted -= {event.seq for event in self.events if isinstance(event, Acknowledged)}
            refused = [event for event in self.events if isinstance(event, Refused)]
            if wanted or refused:
                raise RuntimeError(f"{len(wanted)} commands not done, {refused[:1]}")
            self.events = [event for event in self.events if not isinstance(event, Acknowledged)]

    def seq(self) -> int:
        """A fresh number."""
        self._seq += 1
        return self._seq

    def statistics(self) -> WorkerStatistics:
        """The worker's counters now."""
        self.command([QueryStatistics(seq=self.seq(), leg=0)])
        found = [event for event in self.events if isinstance(event, WorkerStatistics)]
        self.events = [event for event in self.events if isinstance(event, KeyPressed | LegFault)]
        return found[-1]

    def close(self) -> None:
        """Ends it; the worker goes too."""
        self._socket.close()
        self._listener.close()


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
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run_floor, args=(layout, theirs, cpu, seconds))
    child.start()
    result = ours.recv()
    child.join()
    return float(result["us_per_tick"])


def _masked(leg: int) -> bool:
    return leg // 2 % 2 == 1


def _set_up(control: Control, layout: Layout) -> None:
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
        mode = MaskMode.COMFORT_NOISE if _masked(leg) else MaskMode.OPEN
        commands.append(Connect(seq=control.seq(), source=leg, destination=leg ^ 1, mask=mode))
    control.command(commands)


def _check(control: Control, generator: Connection, legs: int) -> list[str]:
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
        if _masked(leg):
            if report["matches"][leg] or report["peak"][leg] > _NOISE_PEAK or not report["foreign"][leg]:
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
    legs = options.legs - options.legs % 2
    cpus = sorted(os.sched_getaffinity(0))
    worker_cpu = options.cpu if len(cpus) > 1 else None
    load_cpu = next((cpu for cpu in cpus if cpu != options.cpu), None) if len(cpus) > 1 else None
    if load_cpu is None:
        progress("one CPU only: load and worker share it, figures mean little")
    else:
        os.sched_setaffinity(0, {load_cpu})
    layout = Layout(legs, _open(-(-legs // LEGS_PER_PORT)), _open(min(legs, LEGS_PER_PORT)))
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    generator = context.Process(target=run_generator, args=(layout, theirs, load_cpu))
    generator.start()
    floors: list[float] = []
    try:
        progress(f"{legs} legs: kernel floor")
        floors.append(_floor(layout, worker_cpu, options.seconds / 2))
        with tempfile.TemporaryDirectory() as directory:
            result = _run_worker(options, layout, ours, Path(directory), worker_cpu)
        progress("kernel floor again")
        ours.send("steady")
        floors.append(_floor(layout, worker_cpu, options.seconds / 2))
    finally:
        ours.send("stop")
        generator.join(5)
        generator.kill()
        for sock in layout.worker + layout.generator:
            sock.close()
    floor = sum(floors) / len(floors) / legs
    result["floor_us_per_leg_tick"] = round(floor, 3)
    result["floor_runs"] = [round(value / legs, 3) for value in floors]
    result["ratio_to_floor"] = round(result["us_per_leg_tick"] / floor, 3)
    for name, value in result.items():
        print(f"  {name:24} {value}")
    return result


def _run_worker(
    options: argparse.Namespace, layout: Layout, generator: Connection, directory: Path, cpu: int | None
) -> dict[str, Any]:
    control = Control(directory / "control")
    files = [sock.fileno() for sock in layout.worker]
    pinned = [] if cpu is None else ["--affinity", str(cpu)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "media.worker", "--index", "0", "--control", str(directory / "control")),
            *("--fds", ",".join(map(str, files)), *pinned),
        ],
        pass_fds=files,
    )
    try:
        control.accept()
        generator.send("quiet")
        time.sleep(0.1)
        before_kb = _rss_kb(process.pid)
        _set_up(control, layout)
        generator.send("steady")
        control.read(1.0)
        generator.send("quiet")
        control.read(0.5)
        progress("checking")
        wrong = _check(control, generator, layout.legs)
        for sentence in wrong[:5]:
            progress(f"WRONG: {sentence}")
        progress("timing")
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
        control.read(options.seconds)
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
    busy = (load_last["cpu_s"] - load_first["cpu_s"]) / options.seconds
    limited = busy > 0.85 or generator_late > generator_ticks / 100
    if limited:
        progress(
            f"the generator is the limit: {busy:.0%} busy, {generator_late} of {generator_ticks} ticks late"
        )
    return {
        "legs": layout.legs,
        "seconds": options.seconds,
        "correct": not wrong,
        "wrong": len(wrong),
        "us_per_leg_tick": round(last.tick_cost_us / layout.legs, 3),
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
