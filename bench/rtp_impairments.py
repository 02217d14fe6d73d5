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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.__main__ import machine, progress
from bench._impaired_load import Line, run_load
from bench._impairments import EVENT_TYPE, Network, Sender, Sent, packets_of
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
class Condition:
    """One row of the table."""

    name: str
    sender: Sender = dataclasses.field(default_factory=Sender)
    network: Network = dataclasses.field(default_factory=Network)
    required: bool = False
    """No key of 100 ms in band and none by telephone-event may be lost."""


CONDITIONS: Final = (
    Condition("none", required=True),
    Condition("loss 1 %", network=Network(loss=0.01)),
    Condition("loss 5 %", network=Network(loss=0.05), required=True),
    Condition("loss 10 %", network=Network(loss=0.10)),
    Condition("loss 5 % in bursts of 3", network=Network(loss=0.05, burst=3)),
    Condition("jitter 20 ms", network=Network(jitter_ms=20)),
    Condition("jitter 60 ms", network=Network(jitter_ms=60), required=True),
    Condition("jitter 100 ms", network=Network(jitter_ms=100)),
    Condition("jitter 60 ms, in order", network=Network(jitter_ms=60, in_order=True)),
    Condition("5 % reordered", network=Network(reorder=0.05)),
    Condition("10 % twice", network=Network(duplicates=0.10)),
    Condition("way 80 ms longer every other 10 s", network=Network(step_ms=80)),
    Condition("clock +200 ppm", Sender(ppm=200)),
    Condition("clock -200 ppm", Sender(ppm=-200)),
    Condition("clock +1000 ppm", Sender(ppm=1000)),
    Condition("clock -1000 ppm", Sender(ppm=-1000)),
    Condition("ptime 10", Sender(ptimes_ms=(10,))),
    Condition("ptime 30", Sender(ptimes_ms=(30,))),
    Condition("ptime 40", Sender(ptimes_ms=(40,))),
    Condition("ptime 60", Sender(ptimes_ms=(60,))),
    Condition("ptime changes every 5 s", Sender(ptimes_ms=(20, 30, 10, 60, 40))),
    Condition("new SSRC every 5 s", Sender(new_ssrc=True)),
    Condition("sequence jumps every 5 s", Sender(jumps_sequence=True)),
    Condition("timestamp jumps every 5 s", Sender(jumps_timestamp=True)),
    Condition("silence suppressed, CN", Sender(suppresses_silence=True)),
    Condition(
        "all: loss 2 %, jitter 30, 1 % twice, +200 ppm, CN, new SSRC, ptime 20/30",
        Sender(ptimes_ms=(20, 30), ppm=200, suppresses_silence=True, new_ssrc=True, change_every_s=15),
        Network(loss=0.02, jitter_ms=30, duplicates=0.01),
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Keying:
    """One way in which legs key."""

    name: str
    title: str
    tone_ms: float
    pause_ms: float
    required: bool = False
    events: bool = False
    tones: bool = True


KEYINGS: Final = (
    Keying("inband_100", "in band 100 ms", 100, 100, required=True),
    Keying("inband_65", "in band 65/50 ms", 65, 50),
    Keying("events_100", "telephone-event", 100, 100, required=True, events=True, tones=False),
    Keying("both_100", "both at once", 100, 100, events=True),
)


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
                wrong.append(f"{condition.name}: keys {keying.title}: {_key_cell(counts)}")
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
    _print(rows)
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


_COLUMNS: Final = (
    ("network_loss_percent", "lost on the way %"),
    ("lost_percent", "lost to the listener %"),
    ("filled_percent", "made up %"),
    ("longest_gap_ms", "longest gap ms"),
    ("jumps_per_min", "splices a minute"),
    ("snr_db", "segmental SNR dB"),
    ("lsd_db", "spectral distance dB"),
)


def _key_cell(counts: dict[str, int]) -> str:
    wrong = [f"{counts[name]} {name}" for name in ("missed", "doubled", "wrong") if counts[name]]
    return f"{', '.join(wrong) or 'all'} of {counts['keys']}"


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [str(row.get(name, "-")) for name, _ in _COLUMNS]
    if "delay_ms" in row:
        cells.append(f"{row['delay_ms']:.0f} ({row['delay_first_ms']:.0f} → {row['delay_last_ms']:.0f})")
    else:
        cells.append("-")
    return cells + [_key_cell(row["keys"][keying.name]) for keying in KEYINGS]


def _titles() -> list[str]:
    keys = [f"keys {keying.title}" for keying in KEYINGS]
    return ["condition", *(title for _, title in _COLUMNS), "delay ms (first → last tenth)", *keys]


def _print(rows: dict[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        print(f"  {name}")
        for title, cell in zip(_titles()[1:], _cells(row), strict=True):
            print(f"    {title:32} {cell}")


def document(
    rows: dict[str, dict[str, Any]],
    conditions: list[Condition],
    options: argparse.Namespace,
    about: dict[str, Any],
) -> str:
    """The table with what a reader has to know, in Markdown."""
    of = machine()
    required = {condition.name for condition in conditions if condition.required}
    lines = [
        "# What impaired RTP costs",
        "",
        f"Written by `make bench-rtp_impairments BENCH=--markdown` on {datetime.now(UTC):%d %B %Y}: {of['cpu']}, "
        f"{of['cpus']} CPUs, Linux {of['kernel']}, Python {of['python']}, numpy {of['numpy']}, load "
        f"{of['load'][0]}. Every condition for {options.seconds:.0f} s at once on one live worker; seed "
        f"{options.seed}.",
        "",
        "| " + " | ".join(_titles()) + " |",
        "|" + "---|" * len(_titles()),
    ]
    for name, row in rows.items():
        title = f"**{name}**" if name in required else name
        lines.append("| " + " | ".join([title, *_cells(row)]) + " |")
    lines += [
        "",
        "In **bold** conditions no key of 100 ms in band and none by telephone-event may be missed, doubled or "
        "wrong; they have more legs that key.",
        "",
        _NOTES.strip(),
        "",
        f"The load sent {about['packets_sent']:,} packets, {about['packets_sent_late']} of them more than 10 ms late "
        f"(at most {about['latest_ms']} ms); {about['worker_late_ticks']} of the worker's {about['worker_ticks']:,} "
        f"ticks were more than 5 ms late. What is late there is jitter that the row's name does not tell.",
        "",
    ]
    return "\n".join(lines)


_NOTES: Final = """
How it is measured:

- **What is said** is made by code from a seed (`bench/_sounds.py`): the make-up of speech (pulses or noise through
  three formants, phrases and pauses) over a floor of noise. Nobody's voice, no recording.
- **What is heard** is the other leg's µ-law. The switch passes it bit for bit, so every 3 ms are looked up in what
  was said: a sample is either the speaker's, at a known place, or was made up. *Lost to the listener* is what was sent
  and never heard. *Made up* is heard in its place: concealment, silence, repetition. The *longest gap* is the longest
  stretch of that. A *splice* is a place where what is heard goes on elsewhere than where it stopped. The first 3 s, in
  which a buffer learns, and the last do not count.
- **Segmental SNR** is the mean over frames of 20 ms with speech, each between -10 and 35 dB; 35 is identity.
  **Spectral distance** is the log-spectral distance, 300 to 3400 Hz, over the frames with speech in which
  something was made up: how unlike the speaker the concealment is.
- **Delay** runs from the moment a packet left the sender to the moment the listener's packet with the same
  samples arrived; packetisation is not in it, jitter buffer and tick are.
- **Keys**: random codes, one in five like the one before; tones of -6 to -18 dBm0, twist up to 2 dB, off the
  grid of packets. *Both at once* sends each key in band and as telephone-event; one press must be one key.
- **Loss** is independent from packet to packet, or in bursts (Gilbert). **Jitter** of N ms is what a receiver's report
  would say (RFC 3550 §6.4.1): delays of a gamma distribution of shape 2, independent, so that packets overtake each
  other. Of 60 ms, 4 % of packets are more than 200 ms later than the fastest, of 100 ms 20 %: no buffer of 200 ms can
  have them, and they count as lost. *In order* is the same through a queue, where few come late alone.
- **±1000 ppm** is not required of anybody: it is ten minutes of ±200 ppm in two.
- **New SSRC** begins with a new sequence number and timestamp, as RFC 3550 asks. Changes keep clear of keys: a
  key cut in two by one would be two keys to any receiver.
"""
