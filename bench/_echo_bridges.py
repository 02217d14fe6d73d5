"""Bridges that return a part of the decoy, and customers who key through them.

Each leg is a bridge of its own: a delay, a dispersive path (a hybrid's few milliseconds, each another), a level; what
is heard is quantised by a law, and a part of the packets is lost. Levels are of one tone.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from media.arrays import Float64, Index, Int16, UInt8
from media.dsp import decoy, dtmf, g711, tones
from media.dsp.echo import Echoes
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

#: A hybrid's response: noise that falls by e in this many samples.
_PATH: Final = 24
_DECAY: Final = 5.0
_SHORTEST: Final = 480
_LONGEST: Final = 3_600
_NOISE: Final = 8.0
#: A press within this many samples of a key's start is that key's.
_NEAR: Final = 400
_HERTZ: Final = np.array(tones.ROW_FREQUENCIES_HZ + tones.COLUMN_FREQUENCIES_HZ)


@dataclasses.dataclass(frozen=True, slots=True)
class Bridge:
    """What all legs of a run have in common."""

    key_dbm0: float = -10.0
    echo_db: float | None = -12.0
    """Of the decoy at the eight frequencies, on average; none: nothing comes back."""
    loss: float = 0.0
    speech: Float64 | None = None
    """What customers say before they key."""
    moves_after_s: float | None = None
    """The delay becomes another one."""
    starts_after_s: float = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Keys of all legs."""

    keys: int
    missed: int
    invented: int
    missed_without: int
    """By the same detector on the same audio, with the echo in it."""
    invented_without: int
    late_missed: int
    """Of those of the last third."""
    late_keys: int

    @property
    def error_rate(self) -> float:
        """Keys that were missed, of all."""
        return self.missed / max(self.keys, 1)


@dataclasses.dataclass(slots=True)
class _Customers:
    audio: Float64
    keys: list[list[tuple[int, int]]]


def _customers(bridge: Bridge, legs: int, samples: int, rng: np.random.Generator) -> _Customers:
    audio = rng.normal(0, _NOISE, (legs, samples))
    keys: list[list[tuple[int, int]]] = []
    for leg in range(legs):
        at = int((bridge.starts_after_s + rng.uniform(0, 0.3)) * SAMPLE_RATE_HZ)
        if bridge.speech is not None:
            begin = int(rng.integers(max(1, len(bridge.speech) - at)))
            audio[leg, :at] += np.resize(bridge.speech[begin:], at)
        keys.append([])
        while at < samples - SAMPLE_RATE_HZ // 2:
            key, length = int(rng.integers(12)), int(rng.uniform(60, 140))
            row_offset, column_offset = rng.uniform(-0.015, 0.015, 2)
            tone = tones.dtmf_tone(
                key,
                length,
                bridge.key_dbm0,
                float(rng.uniform(-4, 3)),
                row_offset=row_offset,
                column_offset=column_offset,
            )
            audio[leg, at : at + len(tone)] += tone
            keys[leg].append((key, at))
            at += len(tone) + int(rng.uniform(60, 400) * SAMPLE_RATE_HZ / 1000)
    return _Customers(audio, keys)


def _paths(echo_db: float, legs: int, rng: np.random.Generator) -> Float64:
    paths: Float64 = rng.normal(0, 1, (legs, _PATH)) * np.exp(-np.arange(_PATH) / _DECAY)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(_PATH), _HERTZ) / SAMPLE_RATE_HZ)
    level = np.sqrt(np.square(np.abs(paths @ turns)).mean(axis=1))
    paths *= (10 ** (echo_db / 20) / level)[:, None]
    return paths


def run(bridge: Bridge, legs: int, seconds: float, law: int, seed: int) -> Outcome:
    """Keys of customers through bridges, heard with and without the canceller.

    Args:
        bridge: conditions.
        legs: bridges at once.
        seconds: how long.
        law: 0 for PCMU, 1 for PCMA.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    ticks = round(seconds * SAMPLE_RATE_HZ / FRAME_SAMPLES)
    customers = _customers(bridge, legs, ticks * FRAME_SAMPLES, rng)
    rows = np.arange(legs)
    delays = rng.integers(_SHORTEST, _LONGEST, (2, legs))
    echo = np.zeros((legs, ticks * FRAME_SAMPLES + _LONGEST + 2 * FRAME_SAMPLES))
    paths = None if bridge.echo_db is None else _paths(bridge.echo_db, legs, rng)
    decoys = decoy.Decoys(legs)
    for row in range(legs):
        decoys.start(row, decoy.draw(rng, np.arange(2)))
    echoes, params = Echoes(legs), dtmf.DTMFParams()
    detectors = dtmf.DTMFState(legs), dtmf.DTMFState(legs)
    found: tuple[list[list[tuple[int, int]]], ...] = ([[] for _ in rows], [[] for _ in rows])
    for tick in range(ticks):
        begins = decoy.due(decoys, rows)
        sent = decoy.play(decoys, rows, begins, decoy.draw(rng, np.nonzero(begins)[1]))
        at = tick * FRAME_SAMPLES
        if paths is not None:
            moved = bridge.moves_after_s is not None and at >= bridge.moves_after_s * SAMPLE_RATE_HZ
            _return(echo, at, sent, paths, delays[int(moved)])
        frame = slice(at, at + FRAME_SAMPLES)
        heard = _through_law(customers.audio[:, frame] + echo[:, frame], rows if law else rows[:0])
        there = rng.random(legs) >= bridge.loss
        heard[~there] = 0
        bare = heard.copy()
        echoes.take_out(rows, bare, there)
        echoes.keep(rows, sent)
        for number, frames in enumerate((bare, heard)):
            for press in dtmf.detect(detectors[number], params, frames, (there, there)):
                if number or not echoes.unsure(press.row):
                    found[number][press.row].append((press.key, at + press.start))
    return _judge(customers.keys, found, ticks * FRAME_SAMPLES)


def _return(echo: Float64, at: int, sent: Int16, paths: Float64, delays: Index) -> None:
    for leg, delay in enumerate(delays.tolist()):
        begin = at + delay
        echo[leg, begin : begin + FRAME_SAMPLES + _PATH - 1] += np.convolve(sent[leg], paths[leg])


def _through_law(audio: Float64, alaw_rows: Index) -> Int16:
    samples: Int16 = np.clip(np.rint(audio), -32_000, 32_000).astype(np.int16)
    codes: UInt8 = np.zeros(samples.shape, np.uint8)
    g711.encode(samples, alaw_rows, codes)
    g711.decode(codes, alaw_rows, samples)
    return samples


def _judge(
    keys: list[list[tuple[int, int]]], found: tuple[list[list[tuple[int, int]]], ...], samples: int
) -> Outcome:
    missed, invented, late_missed = [0, 0], [0, 0], 0
    late = samples * 2 // 3
    for number, presses in enumerate(found):
        for leg, own in enumerate(keys):
            rest = list(presses[leg])
            for key, at in own:
                hit = next((one for one in rest if one[0] == key and abs(one[1] - at) < _NEAR), None)
                if hit is not None:
                    rest.remove(hit)
                    continue
                missed[number] += 1
                late_missed += number == 0 and at >= late
            invented[number] += len(rest)
    count = sum(map(len, keys))
    late_keys = sum(at >= late for own in keys for _, at in own)
    return Outcome(count, missed[0], invented[0], missed[1], invented[1], late_missed, late_keys)
