"""Keys in band: eight Goertzel filters for every leg as one matrix product.

Each 20 ms frame gives two hops of 10 ms. At every hop a Hann window of 25 ms is projected on the eight
frequencies of ITU-T Q.23. A key is pressed when two windows in a row name the same key, hold nearly nothing
else, and turn in phase as its frequencies should: the turn from one hop to the next measures each
frequency to a few hertz, which a window this short cannot do by magnitude alone, and tells by how much the
window weighs an off-frequency tone too low. It is released when its own tones fall well below their peak.

Lost audio arrives as zeros and is known: the sums that a window would have had without it are looked up by
the pattern of its missing hops, so that a gap in the middle neither releases a key nor makes one.

The state of a leg is a column of `DTMFState`; the caller owns it, `detect` advances it.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int8, Int16, UInt8, grown
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, KEYPAD, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

HOP: Final = 80
HOPS: Final = FRAME_SAMPLES // HOP
WINDOW: Final = 200
HISTORY: Final = WINDOW - HOP
SPAN: Final = HISTORY + FRAME_SAMPLES
#: Energies are summed over blocks this long and weighted by the mean of the window's square over the block.
BLOCK: Final = 20
_BLOCKS: Final = SPAN // BLOCK
_NEW_BLOCKS: Final = FRAME_SAMPLES // BLOCK


@dataclasses.dataclass(frozen=True, slots=True)
class DTMFParams:
    """Acceptance limits; the defaults are the stricter columns of ITU-T Q.24, table A-1."""

    min_level_dbm0: float = -34.0
    purity: float = 0.87
    """Least share of a window's energy in the two tones; 15 dB S/N leaves 0.97."""
    max_twist_db: float = 5.5
    """Column tone over row tone; 4 dB must pass."""
    max_reverse_twist_db: float = 9.5
    """Row tone over column tone; 8 dB must pass."""
    max_change_db: float = 2.0
    """Most that either tone's level may differ between the two windows; the voice's partials wander more."""
    frequency_tolerance: float = 0.023
    """Between ±1.8 % that must pass and ±3.5 % that must not."""
    octave_tolerance: float = 0.003
    """Nearest that the column tone may come to the octave of the row tone."""
    release_db: float = -15.0
    """A tone this far below its peak is a pause; an interruption of 10 ms falls by 10.5 dB at most."""
    max_missing_hops: int = 12
    """A key whose audio is missing for longer has ended."""


class _Design(NamedTuple):
    projection: Float32
    energy: Float32
    sums: Float32
    energies: Float32


def _design() -> _Design:
    window = np.hanning(WINDOW + 2)[1:-1]
    time = np.arange(WINDOW) / SAMPLE_RATE_HZ
    angles = 2 * np.pi * np.outer(np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ), time)
    projection = np.concatenate((np.cos(angles), -np.sin(angles))) * window
    # Which parts of a window are there, by pattern: bit 0 the newest hop, 1 the one before, 2 the rest.
    sums, energies = np.zeros(8), np.zeros(8)
    for pattern in range(8):
        present = np.zeros(WINDOW)
        present[-HOP:] = pattern & 1
        present[-2 * HOP : -HOP] = pattern >> 1 & 1
        present[: -2 * HOP] = pattern >> 2 & 1
        sums[pattern] = (window * present).sum()
        energies[pattern] = (window**2 * present).sum()
    energy = np.zeros((HOPS, _BLOCKS))
    for hop in range(HOPS):
        start = hop * HOP // BLOCK
        energy[hop, start : start + WINDOW // BLOCK] = (window**2).reshape(-1, BLOCK).mean(axis=1)
    return _Design(
        projection.astype(np.float32),
        energy.astype(np.float32),
        sums.astype(np.float32),
        energies.astype(np.float32),
    )


_DESIGN: Final = _design()
_FREQUENCIES: Final = np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ, np.float32)
_EXPECTED_TURN: Final = (2 * np.pi * HOP / SAMPLE_RATE_HZ * _FREQUENCIES.astype(np.float64)).astype(
    np.float32
)
_KEYPAD: Final = np.array(KEYPAD, np.int8)
_ROW_OF: Final = np.array([int(np.argwhere(key == _KEYPAD)[0, 0]) for key in range(16)], np.intp)
_COLUMN_OF: Final = np.array([4 + int(np.argwhere(key == _KEYPAD)[0, 1]) for key in range(16)], np.intp)
#: A tone that is this much of a whole window's sum below its amplitude has missing audio we cannot judge by.
_LEAST_SUM_TO_RELEASE: Final = 0.3
_LEAST_SUM_TO_PRESS: Final = 0.55


class DTMFState:
    """What the detector remembers of each leg. Columns are wiped when a leg goes."""

    def __init__(self, capacity: int) -> None:
        self.samples: Float32 = np.zeros((capacity, SPAN), np.float32)
        self.blocks: Float32 = np.zeros((capacity, _BLOCKS), np.float32)
        self.outputs: Float32 = np.zeros((16, capacity), np.float32)
        self.coarse: Bool = np.zeros(capacity, np.bool_)
        self.total: Float32 = np.zeros(capacity, np.float32)
        self.patterns: UInt8 = np.zeros(capacity, np.uint8)
        self.key: Int8 = np.full(capacity, -1, np.int8)
        self.peak: Float32 = np.zeros((2, capacity), np.float32)
        self.missing: Int16 = np.zeros(capacity, np.int16)

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        self.samples = grown(self.samples, capacity)
        self.blocks = grown(self.blocks, capacity)
        self.outputs = grown(self.outputs, capacity, axis=1)
        self.coarse = grown(self.coarse, capacity)
        self.total = grown(self.total, capacity)
        self.patterns = grown(self.patterns, capacity)
        self.key = grown(self.key, capacity, -1)
        self.peak = grown(self.peak, capacity, axis=1)
        self.missing = grown(self.missing, capacity)

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a leg."""
        self.samples[row] = 0
        self.blocks[row] = 0
        self.outputs[:, row] = 0
        self.coarse[row] = False
        self.total[row] = 0
        self.patterns[row] = 0
        self.key[row] = -1
        self.peak[:, row] = 0
        self.missing[row] = 0


class Press(NamedTuple):
    """A key that has just been recognised: leg row, telephone-event code, and its start."""

    row: int
    key: int
    start: int
    """First sample of the tone relative to the frame's first; negative, and good to about 10 ms."""


def detect(state: DTMFState, params: DTMFParams, frames: Int16, valid: tuple[Bool, Bool]) -> list[Press]:
    """Advances all legs by one frame.

    Args:
        state: of at least `len(frames)` legs; changed in place.
        params: limits.
        frames: `(legs, FRAME_SAMPLES)` received audio; samples that did not arrive are ignored.
        valid: for each half of the frame, which legs' audio arrived.

    Returns:
        The keys that began, in order of time.
    """
    legs = len(frames)
    samples = state.samples[:legs]
    samples[:, :HISTORY] = samples[:, FRAME_SAMPLES:]
    samples[:, HISTORY:] = frames
    for half in range(HOPS):
        lost = np.flatnonzero(~valid[half])
        if lost.size:
            samples[lost, HISTORY + half * HOP : HISTORY + (half + 1) * HOP] = 0
    fresh = samples[:, HISTORY:].reshape(legs, _NEW_BLOCKS, BLOCK)
    blocks = state.blocks[:legs]
    blocks[:, :-_NEW_BLOCKS] = blocks[:, _NEW_BLOCKS:]
    blocks[:, -_NEW_BLOCKS:] = np.vecdot(fresh, fresh)
    energies = _DESIGN.energy @ blocks.T
    presses: list[Press] = []
    for hop in range(HOPS):
        outputs = _DESIGN.projection @ samples[:, hop * HOP : hop * HOP + WINDOW].T
        end = (hop + 1) * HOP
        presses += _judge(state, params, outputs, energies[hop], valid[hop], end)
    return presses


def _judge(
    state: DTMFState, params: DTMFParams, outputs: Float32, total: Float32, valid: Bool, end: int
) -> list[Press]:
    """One hop: releases, then presses; keeps what the next hop compares with."""
    legs = outputs.shape[1]
    patterns = ((state.patterns[:legs] << 1 | valid) & 7).astype(np.uint8)
    power = np.square(outputs)
    power = power[:8] + power[8:]
    down = np.flatnonzero(state.key[:legs] >= 0)
    if down.size:
        _release(state, params, power, patterns, valid, down)
    # Coarse and cheap, over all legs: two peaks that are not small beside the rest. Exact below, for the few.
    least = (_DESIGN.sums[7] / 2 * AMPLITUDE_0_DBM0 * 10 ** (params.min_level_dbm0 / 20)) ** 2
    row_power, column_power = power[:4].max(axis=0), power[4:].max(axis=0)
    scale = 2 * float(_DESIGN.energies[7]) / float(_DESIGN.sums[7]) ** 2
    coarse = (row_power + column_power) * (scale / 0.36) > total
    coarse &= np.minimum(row_power, column_power) > least * 0.15
    presses: list[Press] = []
    likely = coarse & state.coarse[:legs]
    state.coarse[:legs] = coarse
    if down.size:
        # A key that is still the loudest is old news.
        keys = np.maximum(state.key[down], 0)
        own = power[_ROW_OF[keys], down] + power[_COLUMN_OF[keys], down]
        likely[down[(state.key[down] >= 0) & (own >= row_power[down] + column_power[down])]] = False
    candidates = np.flatnonzero(likely)
    if candidates.size:
        presses = _press(state, params, outputs, power, total, patterns, candidates, least, end)
    state.outputs[:, :legs] = outputs
    state.total[:legs] = total
    state.patterns[:legs] = patterns
    return presses


def _release(
    state: DTMFState, params: DTMFParams, power: Float32, patterns: UInt8, valid: Bool, down: Index
) -> None:
    keys = state.key[down]
    now = np.stack((power[_ROW_OF[keys], down], power[_COLUMN_OF[keys], down]))
    share = _DESIGN.sums[patterns[down]] / _DESIGN.sums[7]
    judged = share >= _LEAST_SUM_TO_RELEASE
    now /= np.where(judged, share, 1) ** 2
    peak = state.peak[:, down]
    gone = judged & (now < peak * 10 ** (params.release_db / 10)).any(axis=0)
    state.peak[:, down] = np.where(judged, np.maximum(peak, now), peak)
    missing = np.where(valid[down], 0, state.missing[down] + 1).astype(np.int16)
    state.missing[down] = missing
    state.key[down[gone | (missing > params.max_missing_hops)]] = -1


def _press(
    state: DTMFState,
    params: DTMFParams,
    outputs: Float32,
    power: Float32,
    total: Float32,
    patterns: UInt8,
    rows: Index,
    least: float,
    end: int,
) -> list[Press]:
    best = np.stack((power[:4, rows].argmax(axis=0), 4 + power[4:, rows].argmax(axis=0)))
    now = outputs[best, rows] + 1j * outputs[best + 8, rows]
    before = state.outputs[best, rows] + 1j * state.outputs[best + 8, rows]
    turn = np.angle(now * before.conj() * np.exp(-1j * _EXPECTED_TURN[best])).astype(np.float32)
    offset_hz = turn * (SAMPLE_RATE_HZ / HOP / (2 * np.pi))
    fits = (np.abs(offset_hz) <= params.frequency_tolerance * _FREQUENCIES[best]).all(axis=0)
    # No key's column is twice its row, even with both off by 1.8 %; a voice's partials are, to the hertz.
    row_hz, column_hz = _FREQUENCIES[best] + offset_hz
    fits &= np.abs(column_hz / (2 * row_hz) - 1) > params.octave_tolerance
    gain = _window_gain(offset_hz) ** 2
    sums_now, sums_before = _DESIGN.sums[patterns[rows]], _DESIGN.sums[state.patterns[rows]]
    enough = np.minimum(sums_now, sums_before) >= _LEAST_SUM_TO_PRESS * _DESIGN.sums[7]
    fits &= enough
    tones_now = np.square(np.abs(now)) / (gain * np.where(enough, sums_now, 1) ** 2)
    tones_before = np.square(np.abs(before)) / (gain * np.where(enough, sums_before, 1) ** 2)
    steady = 10 ** (params.max_change_db / 10)
    change = tones_now / np.maximum(tones_before, 1e-12)
    fits &= ((change <= steady) & (change >= 1 / steady)).all(axis=0)
    # Each tone's mean square in the window is 2·|Z|²/(Σw)²; the window's is Σw²x²/Σw².
    for tones, energy, pattern in (
        (tones_now, total[rows], patterns[rows]),
        (tones_before, state.total[rows], state.patterns[rows]),
    ):
        weight = np.where(pattern > 0, _DESIGN.energies[pattern], 1)
        fits &= 2 * tones.sum(axis=0) * weight >= params.purity * energy
        fits &= tones.min(axis=0) * _DESIGN.sums[7] ** 2 >= least
        twist = tones[1] / np.maximum(tones[0], 1e-12)
        fits &= twist <= 10 ** (params.max_twist_db / 10)
        fits &= twist >= 10 ** (-params.max_reverse_twist_db / 10)
    keys = _KEYPAD[best[0], best[1] - 4]
    fits &= keys != state.key[rows]
    hit = np.flatnonzero(fits)
    chosen = rows[hit]
    state.key[chosen] = keys[hit]
    state.peak[:, chosen] = (tones_now[:, hit] * _DESIGN.sums[7] ** 2).astype(np.float32)
    state.missing[chosen] = 0
    start = end - WINDOW - HOP
    return [Press(int(row), int(key), start) for row, key in zip(chosen, keys[hit], strict=True)]


def _window_gain(offset_hz: Float32) -> Float32:
    """Response of the Hann window to a tone beside the filter's frequency, relative to one on it."""
    bins = offset_hz * (WINDOW / SAMPLE_RATE_HZ)
    near_one = np.abs(np.abs(bins) - 1) < 1e-3
    safe = np.where(near_one, 0.5, bins)
    gain = np.sinc(safe) / (1 - np.square(safe))
    return np.maximum(np.where(near_one, 0.5, gain), 0.3).astype(np.float32)
