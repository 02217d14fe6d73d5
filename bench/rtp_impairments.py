"""What a listener loses, and which keys, when the network or the sender misbehaves: one row a condition.

Each condition is a pair of legs, one of which speaks through the impairment while the other one's telephone
listens, and further legs that key through it: in band with tones of 100 ms, in band with tones of 65 ms and pauses
of 50, by telephone-event, and both at once as some gateways do. All run at the same time on one live worker, over
real sockets, from fixed seeds. The far end's audio is found again, sample by sample, in what was said; keys are
counted as the worker's `KeyPressed` events.

First it checks itself: without impairment nothing may be missing. Required: 5 % of random loss and 60 ms of jitter
cost no key of 100 ms in band and none by telephone-event.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import socket
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.__main__ import progress
from bench._conditions import CONDITIONS, KEYINGS, Condition, Keying
from bench._impaired_load import Line, run_load
from bench._impairment_table import document, key_cell, show
from bench._impairments import EVENT_TYPE, Sent, packets_of
from bench._listening import Reference, compare_keys, ear_of, judge
from bench._sounds import Track, key_track, speech, without_tones
from bench._worker import LiveWorker, live_worker, open_sockets
from media.protocol import (
    AddLeg,
    AnyCommand,
    Codec,
    Connect,
    Direction,
    KeyPressed,
    LegFault,
    LegStatistics,
    MaskMode,
    Remote,
    WorkerStatistics,
)

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "rtp-impairments.md"

#: While a stream settles, and its last words, do not count.
_SETTLING_S: Final = 3.0
_ENDING_S: Final = 1.0
_WORKER_SOCKETS: Final = 8
_SEED: Final = 20_261


@dataclasses.dataclass(frozen=True, slots=True)
class _Leg:
    """A leg of the worker and what plays on it."""

    number: int
    condition: int
    sent: Sent
    keys: tuple[int, ...] = ()
    keying: Keying | None = None
    """None: it speaks, and the leg behind it listens."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's own options."""
    parser.add_argument("--seconds", type=float, default=100.0, help="how long every leg plays")
    parser.add_argument("--only", action="append", help="conditions whose names hold this; may be repeated")
    parser.add_argument(
        "--repeats", type=int, default=3, help="legs a way of keying where keys must not be lost"
    )
    parser.add_argument("--seed", type=int, default=_SEED, help="of sounds, senders and networks")
    parser.add_argument(
        "--markdown",
        nargs="?",
        const=DOCUMENT,
        type=Path,
        help="write the table as a document, by default docs/rtp-impairments.md",
    )


def _legs(options: argparse.Namespace, conditions: list[Condition], said: Track) -> list[_Leg]:
    legs: list[_Leg] = []
    number = 0
    for at, condition in enumerate(conditions):
        rng = np.random.default_rng([options.seed, CONDITIONS.index(condition)])
        legs.append(_Leg(number, at, packets_of(said, condition.sender, rng)))
        number += 2  # the listener's is the next
        for keying in KEYINGS:
            for _ in range(options.repeats if condition.required and keying.required else 1):
                track = key_track(options.seconds, keying.tone_ms, keying.pause_ms, rng)
                if not keying.tones:
                    track = without_tones(track, rng)
                sent = packets_of(
                    track, condition.sender, rng, events=keying.events, audio_beside=keying.tones
                )
                codes = tuple(key.code for key in track.keys)
                legs.append(_Leg(number, at, sent, codes, keying))
                number += 1
    return legs


def _set_up(worker: LiveWorker, legs: list[_Leg], load: list[socket.socket]) -> None:
    commands: list[AnyCommand] = []

    def add(number: int, direction: Direction) -> AddLeg:
        remote = Remote(*load[number // _WORKER_SOCKETS].getsockname()[:2])
        return AddLeg(
            seq=0,
            leg=number,
            socket=number % _WORKER_SOCKETS,
            codec=Codec.PCMU,
            remote=remote,
            event_payload_type=EVENT_TYPE,
            direction=direction,
            comfort_noise=True,
        )

    for leg in legs:
        commands.append(add(leg.number, Direction.RECVONLY))
        if leg.keying is None:
            commands.append(add(leg.number + 1, Direction.SENDONLY))
            commands.append(Connect(seq=0, source=leg.number, destination=leg.number + 1, mask=MaskMode.OPEN))
    refused = worker.command(commands)
    if refused:
        raise RuntimeError(f"{len(refused)} commands refused: {refused[0].reason}")


def _play(
    worker: LiveWorker,
    legs: list[_Leg],
    conditions: list[Condition],
    options: argparse.Namespace,
    sockets: tuple[list[socket.socket], list[socket.socket]],
) -> tuple[dict[str, Any], dict[int, float]]:
    """Lets the load run to its end; its result, and the share of packets that the network kept."""
    ours, load = sockets
    lines: list[Line] = []
    listeners: dict[tuple[int, int], int] = {}
    kept: dict[int, float] = {}
    for leg in legs:
        rng = np.random.default_rng([options.seed, 1, leg.number])
        arrived, at_s = conditions[leg.condition].network.carry(leg.sent.packets["time"], rng)
        kept[leg.number] = len(np.unique(arrived)) / len(leg.sent.packets)
        # Each has its own place within the worker's tick.
        at_s = at_s + rng.uniform(0, 0.02) if leg.keying else at_s
        source = load[leg.number // _WORKER_SOCKETS]
        worker_address = ours[leg.number % _WORKER_SOCKETS].getsockname()
        lines.append(Line(leg.sent, arrived, at_s, source, worker_address))
        if leg.keying is None:
            other = leg.number + 1
            listeners[other // _WORKER_SOCKETS, ours[other % _WORKER_SOCKETS].getsockname()[1]] = leg.number
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run_load, args=(lines, listeners, load, there))
    child.start()
    try:
        here.recv()
        here.send("go")
        begun = told = time.monotonic()
        while not here.poll():
            if not child.is_alive() or not worker.alive:
                raise RuntimeError("the load or the worker has died")
            worker.read(0.1)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                progress(f"{told - begun:.0f} of {options.seconds:.0f} s")
        result: dict[str, Any] = here.recv()
        child.join(5)
    finally:
        child.kill()
        child.join()
    return result, kept


def _rows(
    reference: Reference,
    legs: list[_Leg],
    conditions: list[Condition],
    heard: dict[int, list[tuple[float, bytes]]],
    pressed: dict[int, list[int]],
    kept: dict[int, float],
    counted: dict[int, LegStatistics],
    span: tuple[float, float],
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for leg in legs:
        row = rows.setdefault(conditions[leg.condition].name, {"keys": {}})
        received = pressed.get(leg.number, [])
        if leg.keying is not None:
            counts = compare_keys(list(leg.keys), received)
            total = row["keys"].setdefault(leg.keying.name, dict.fromkeys(counts, 0))
            for name, count in counts.items():
                total[name] += count
            continue
        row["network_loss_percent"] = round(100 * (1 - kept[leg.number]), 2)
        row |= judge(reference, leg.sent, ear_of(heard.get(leg.number, [])), *span)
        row["keys_in_speech"] = len(received)
        own = counted.get(leg.number)
        if own is not None:
            row["worker_counted"] = {
                name: getattr(own, name)
                for name in (
                    *("packets_received", "packets_lost", "packets_late", "packets_duplicate"),
                    *(
                        "packets_refused",
                        "resyncs",
                        "frames_concealed",
                        "jitter_ms",
                        "buffer_ms",
                        "clock_ppm",
                    ),
                )
            }
    return rows


def _wrong(rows: dict[str, dict[str, Any]], conditions: list[Condition], faults: int) -> list[str]:
    """What is required and not so, as sentences."""
    wrong = [f"{faults} faults in the worker"] if faults else []
    for condition in conditions:
        row = rows[condition.name]
        for keying in KEYINGS:
            counts = row["keys"][keying.name]
            if (
                condition.required
                and keying.required
                and counts["missed"] + counts["doubled"] + counts["wrong"]
            ):
                wrong.append(f"{condition.name}: keys {keying.title}: {key_cell(counts)}")
        if condition == CONDITIONS[0] and row["lost_percent"] + row["filled_percent"] > 0:
            wrong.append("something is missing without any impairment: is the machine too busy?")
    return wrong


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Plays all conditions at once and scores them; see the module."""
    conditions = [
        each for each in CONDITIONS if not options.only or any(word in each.name for word in options.only)
    ]
    if not conditions:
        raise SystemExit("no condition is called so")
    progress(f"{len(conditions)} conditions: making what is said")
    said = speech(options.seconds, np.random.default_rng(options.seed))
    legs = _legs(options, conditions, said)
    most = legs[-1].number + 2
    ours, load = open_sockets(_WORKER_SOCKETS), open_sockets(-(-most // _WORKER_SOCKETS))
    progress(f"{len(legs) + len(conditions)} legs on one worker for {options.seconds:.0f} s")
    try:
        with live_worker(ours, "--rtp-timeout-s", "3600") as worker:
            _set_up(worker, legs, load)
            start, _ = worker.statistics()
            result, kept = _play(worker, legs, conditions, options, (ours, load))
            final, counted = worker.statistics()
            events = [each.event for each in worker.events]
    finally:
        for sock in ours + load:
            sock.close()
    pressed: dict[int, list[int]] = {}
    for event in events:
        if isinstance(event, KeyPressed):
            pressed.setdefault(event.leg, []).append(event.key)
    faults = final.faults + sum(isinstance(event, LegFault) for event in events)
    progress("comparing what was heard with what was said")
    span = (_SETTLING_S, options.seconds - _ENDING_S)
    rows = _rows(Reference(said), legs, conditions, result["heard"], pressed, kept, counted, span)
    wrong = _wrong(rows, conditions, faults)
    show(rows)
    for sentence in wrong:
        progress(f"WRONG: {sentence}")
    about = _circumstances(result, start, final)
    print("  " + ", ".join(f"{name} {value}" for name, value in about.items()))
    if options.markdown:
        text = document(rows, conditions, options, about)
        options.markdown.write_text(text, encoding="utf-8")
        progress(f"{options.markdown} written")
    return {"correct": not wrong, "wrong": wrong, "seconds": options.seconds, **about, "conditions": rows}


def _circumstances(
    result: dict[str, Any], start: WorkerStatistics, final: WorkerStatistics
) -> dict[str, Any]:
    """Whether the machine was quick enough for the figures to mean something."""
    return {
        "packets_sent": result["sent"],
        "packets_sent_late": result["late"],
        "latest_ms": result["latest_ms"],
        "worker_ticks": final.ticks - start.ticks,
        "worker_late_ticks": final.late_ticks - start.late_ticks,
        "tick_late_p999_ms": final.tick_late_p999_ms,
        "socket_overflows": final.socket_overflows,
    }
