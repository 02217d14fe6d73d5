"""Ways of audio to our detector: straight, or as RTP through the ring and its concealment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Int16
from media.dsp import dtmf, g711
from media.protocol import FRAME_SAMPLES
from media.rtp.packet import HEADER_BYTES, HEADER_OFFSET, SLOT_BYTES, parse
from media.rtp.stream import Streams

_DEPTH_MS: Final = 40
_PAYLOAD: Final = HEADER_OFFSET + HEADER_BYTES
_NO_ROWS: Final = np.zeros(0, np.intp)


class Found(NamedTuple):
    """What came of some audio."""

    keys: list[list[int]]
    audio: Int16
    """What the detector heard, concealment included; `(legs, samples)`."""


def straight(audio: Int16, params: dtmf.DTMFParams | None = None) -> list[list[int]]:
    """Keys of each row of `(legs, samples)`, all of which arrives."""
    legs, samples = audio.shape
    state, limits = dtmf.DTMFState(legs), params or dtmf.DTMFParams()
    there = np.ones(legs, np.bool_)
    keys: list[list[int]] = [[] for _ in range(legs)]
    for start in range(0, samples - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        frame = np.ascontiguousarray(audio[:, start : start + FRAME_SAMPLES])
        for press in dtmf.detect(state, limits, frame, (there, there)):
            keys[press.row].append(press.key)
    return keys


#: Told of each tick: what the legs play, which halves of it are the peer's, and the presses recognised.
Observer = Callable[[Int16, tuple[Bool, Bool], list[dtmf.Press]], None]


def carried(audio: Int16, lost: Bool, observe: Observer | None = None) -> Found:
    """Keys of µ-law packets of 20 ms of which some are lost, through ring, jitter buffer and concealment.

    Args:
        audio: `(legs, samples)`.
        lost: `(legs, packets)`; the first packet always arrives.
        observe: is told of every tick from the one on that plays the first packet.
    """
    legs, samples = audio.shape
    count = samples // FRAME_SAMPLES
    pieces = g711.ENCODE[0][audio[:, : count * FRAME_SAMPLES].view(np.uint16)]
    pieces = pieces.reshape(legs, count, FRAME_SAMPLES)
    lost = lost.copy()
    lost[:, 0] = False
    streams = Streams(legs, _DEPTH_MS)
    streams.payload_type[:] = 0
    streams.listening[:] = True
    state, params = dtmf.DTMFState(legs), dtmf.DTMFParams()
    pcm, previous = np.zeros((2, legs, FRAME_SAMPLES), np.int16)
    heard = np.zeros((legs, count * FRAME_SAMPLES), np.int16)
    keys: list[list[int]] = [[] for _ in range(legs)]
    behind = _DEPTH_MS // 20
    for tick in range(count + behind):
        if tick < count:
            rows = np.flatnonzero(~lost[:, tick])
            if rows.size:
                slots = _packets(tick, rows, pieces[rows, tick])
                lengths = np.full(len(rows), HEADER_BYTES + FRAME_SAMPLES, np.int32)
                streams.receive(tick, rows, np.arange(len(rows)), parse(slots, lengths), slots)
        pcm, previous = previous, pcm
        valid = streams.play(tick, legs, _NO_ROWS, pcm, previous)
        presses = dtmf.detect(state, params, pcm, valid)
        for press in presses:
            keys[press.row].append(press.key)
        if tick >= behind:
            if observe is not None:
                observe(pcm, valid, presses)
            heard[:, (tick - behind) * FRAME_SAMPLES : (tick - behind + 1) * FRAME_SAMPLES] = pcm
    return Found(keys, heard)


def _packets(number: int, rows: np.ndarray, payload: np.ndarray) -> np.ndarray:
    slots = np.zeros((len(rows), SLOT_BYTES), np.uint8)
    slots[:, HEADER_OFFSET] = 0x80
    slots.view(">u2")[:, HEADER_OFFSET // 2 + 1] = number & 0xFFFF
    slots.view(">u4")[:, HEADER_OFFSET // 4 + 1] = number * FRAME_SAMPLES
    slots.view(">u4")[:, HEADER_OFFSET // 4 + 2] = rows + 1
    slots[:, _PAYLOAD : _PAYLOAD + FRAME_SAMPLES] = payload
    return slots


def ns_per_frame(audio: Int16, seconds: float) -> float:
    """What a leg and frame cost our detector, ns; the rows of `audio` are the legs, its frames come round."""
    legs = len(audio)
    frames = [
        np.ascontiguousarray(audio[:, start : start + FRAME_SAMPLES])
        for start in range(0, audio.shape[1] - FRAME_SAMPLES + 1, FRAME_SAMPLES)
    ]
    state, params = dtmf.DTMFState(legs), dtmf.DTMFParams()
    there = np.ones(legs, np.bool_)
    costs: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for frame in frames:
            started = time.thread_time_ns()
            dtmf.detect(state, params, frame, (there, there))
            costs.append(time.thread_time_ns() - started)
    return float(np.median(costs)) / legs
