"""Legs behind a network of one's own making: audio in, lost and late packets, and what the legs played."""

from __future__ import annotations

import dataclasses

import numpy as np

from media.arrays import Bool, Int16
from media.dsp import dtmf, g711
from media.rtp.packet import HEADER_OFFSET, SLOT_BYTES, parse
from media.rtp.stream import Streams

NO_ROWS = np.zeros(0, np.intp)


@dataclasses.dataclass
class Network:
    """What happens to packets on their way."""

    ptime_ms: int = 20
    loss: float = 0.0
    jitter_ms: float | tuple[float, ...] = 0.0
    """Each packet's delay is uniform between none and this; for all legs, or for each."""
    duplicates: float = 0.0
    clock_ppm: float | tuple[float, ...] = 0.0
    in_order: bool = False
    suppress: bool = False
    """Packets of nothing but silence are not sent and have no number."""
    seed: int = 1


@dataclasses.dataclass
class Played:
    """What came out, tick by tick."""

    streams: Streams
    pcm: Int16
    """`(ticks, legs, 160)`."""
    valid: Bool
    """`(ticks, legs)`, both halves."""
    timestamps: np.ndarray
    """`(ticks, legs)` media timestamp of each frame."""
    keys: list[list[tuple[int, int]]]
    """By leg: key and start on the media timeline."""
    holes: list[list[int]]
    """By leg: what was lost right before each key, samples."""
    sent: int
    lost: np.ndarray
    """Packets lost by leg, those after the last that came left out."""


def carry(audio: Int16, network: Network, *, depth_ms: int = 40, origin: int = 0) -> Played:
    """Sends µ-law packets of `(legs, samples)` through a network and plays what comes."""
    legs, samples = audio.shape
    rng = np.random.default_rng(network.seed)
    size = network.ptime_ms * 8
    count = samples // size
    codes = g711.ENCODE[0][audio.view(np.uint16)]
    # A packet leaves when its last sample is spoken, on the peer's clock.
    leaves = (np.arange(1, count + 1) * size)[:, None] / (1 + np.asarray(network.clock_ppm) / 1e6)
    phase = rng.uniform(0, 160, legs)
    arrives = leaves + phase + rng.uniform(0, 8, (count, legs)) * np.asarray(network.jitter_ms)
    if network.in_order:
        arrives = np.maximum.accumulate(arrives, axis=0)
    ticks_at = np.ceil(arrives / 160).astype(np.intp)
    there = rng.random((count, legs)) >= network.loss
    there[0] = True
    again = rng.random((count, legs)) < network.duplicates
    pieces = codes[:, : count * size].reshape(legs, count, size).swapaxes(0, 1)
    spoken = (pieces != 0xFF).any(axis=2) if network.suppress else np.ones((count, legs), np.bool_)
    spoken[0] = True
    there &= spoken
    sequence = np.cumsum(spoken, axis=0) - 1
    last = int(ticks_at.max()) + 20
    number, leg = np.nonzero(there)
    tick = ticks_at[number, leg]
    number2, leg2 = np.nonzero(there & again)
    number, leg = np.concatenate((number, number2)), np.concatenate((leg, leg2))
    tick = np.concatenate((tick, ticks_at[number2, leg2] + rng.integers(0, 3, len(number2))))
    order = np.lexsort((number, tick))
    number, leg, tick = number[order], leg[order], tick[order]
    bounds = np.searchsorted(tick, np.arange(last + 2))
    streams = Streams(legs, depth_ms)
    streams.payload_type[:] = 0
    streams.listening[:] = True
    state, params = dtmf.DTMFState(legs), dtmf.DTMFParams()
    pcm, previous = np.zeros((legs, 160), np.int16), np.zeros((legs, 160), np.int16)
    out = np.zeros((last, legs, 160), np.int16)
    valid, timestamps = np.zeros((last, legs), np.bool_), np.zeros((last, legs), np.int64)
    keys: list[list[tuple[int, int]]] = [[] for _ in range(legs)]
    holes: list[list[int]] = [[] for _ in range(legs)]
    for now in range(last):
        some = slice(bounds[now], bounds[now + 1])
        rows, numbers = leg[some], number[some]
        if len(rows):
            slots = np.zeros((len(rows), SLOT_BYTES), np.uint8)
            slots[:, HEADER_OFFSET] = 0x80
            slots.view(">u2")[:, HEADER_OFFSET // 2 + 1] = sequence[numbers, rows] & 0xFFFF
            slots.view(">u4")[:, HEADER_OFFSET // 4 + 1] = (origin + numbers * size) & 0xFFFFFFFF
            slots.view(">u4")[:, HEADER_OFFSET // 4 + 2] = rows + 1000
            slots[:, HEADER_OFFSET + 12 : HEADER_OFFSET + 12 + size] = pieces[numbers, rows]
            columns = parse(slots, np.full(len(rows), 12 + size, np.int32))
            streams.receive(now, rows, np.arange(len(rows)), columns, slots)
        pcm, previous = previous, pcm
        first, second = streams.play(now, legs, NO_ROWS, pcm, previous)
        timestamps[now] = streams.play_timestamp.astype(np.int64) - 160 - origin
        for press in dtmf.detect(state, params, pcm, (first, second)):
            start = int(timestamps[now, press.row]) + press.start
            keys[press.row].append((press.key, start))
            holes[press.row].append(streams.playout.hole_before(press.row, start + origin))
        out[now], valid[now] = pcm, first & second
    newest = np.where(there, np.arange(count)[:, None], -1).max(axis=0)
    missing = (spoken & ~there & (np.arange(count)[:, None] < newest)).sum(axis=0)
    return Played(streams, out, valid, timestamps, keys, holes, count, missing)
