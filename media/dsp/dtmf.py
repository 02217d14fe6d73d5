"""Keys in band: eight Goertzel filters for every leg as one matrix product.

Each 20 ms frame gives two hops of 10 ms. At a hop a Hann window of 25 ms is projected on the eight frequencies of
ITU-T Q.23; at every second one for all legs, at those between for the few where there is something to see. A key
is pressed when two windows in a row name the same key, hold nearly nothing else, and turn in phase as its
frequencies should: the turn from one hop to the next measures each frequency to a few hertz, which a window this
short cannot do by magnitude alone, and tells by how much the window weighs an off-frequency tone too low. It is
released when its own tones fall well below their peak.

Lost audio arrives as zeros and is known: the sums that a window would have had without it are looked up by
the pattern of its missing hops, so that a gap in the middle neither releases a key nor makes one. What a gap
leaves of a short tone may be too little for any window: `media.dsp.dtmf_holes` looks at both sides of it.

The state of a leg is a column of `DTMFState`; the caller owns it, `detect` advances it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int8, Int16, Int32, UInt8
from media.dsp import dtmf_holes
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, KEYPAD, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

HOP: Final = 80
HOPS: Final = FRAME_SAMPLES // HOP
WINDOW: Final = 200
#: Samples of the frame before that the first window of a frame reaches back to, and those of the last one.
HISTORY: Final = WINDOW - HOP
_REST: Final = WINDOW - FRAME_SAMPLES


@dataclasses.dataclass(frozen=True, slots=True)
class DTMFParams:
    """Acceptance limits; the defaults are the stricter columns of ITU-T Q.24, table A-1."""

    min_level_dbm0: float = -34.0
    purity: float = 0.87
    """Least share of a window's energy in the two tones; 15 dB S/N leaves 0.97."""
    max_purity: float = 1.07
    """Most of it: two tones hold no more than everything. Where what is taken for a tone is two of a voice's
    partials, its frequency, its place under the window and so its power come out wrong; 5 % loss leaves 1.06."""
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
    window: Float32
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
    return _Design(
        projection.astype(np.float32),
        window.astype(np.float32),
        sums.astype(np.float32),
        energies.astype(np.float32),
    )


_DESIGN: Final = _design()
_FREQUENCIES: Final = np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ, np.float32)
_EXPECTED_TURN: Final = (2 * np.pi * HOP / SAMPLE_RATE_HZ * _FREQUENCIES.astype(np.float64)).astype(
    np.float32
)
_OUTPUTS: Final = len(_DESIGN.projection)
#: Their samples as floats are 200 kB, twice.
_LEGS_AT_ONCE: Final = 256
#: Samples from a tone's start to the end of the hop before the one at which it is pressed: 144 to 225, by where
#: in a hop it begins.
_RUN_IN: Final = WINDOW - 15
#: A tone of 0 dBm0 has one over this as the power of a whole window.
_DBM0_OF_POWER: Final = float((2 / (_DESIGN.sums[7] * AMPLITUDE_0_DBM0)) ** 2)
#: From the end of the hop at which a key is released back to where its tones ended: a Hann window holds a sixth of its
#: sum (15 dB) 138 samples before its end, and a third of a hop, as measured, because hops come where they come.
_RUN_OUT: Final = 138 + HOP // 3
#: Pattern of a window that arrived whole.
_WHOLE: Final = 7
_KEYPAD: Final = np.array(KEYPAD, np.int8)
#: Row tone and column tone of each key, `(2, 16)`.
_TONES: Final = np.array([np.argwhere(key == _KEYPAD)[0] + (0, 4) for key in range(16)], np.intp).T
#: How much of a whole window's sum a pattern has.
_SHARES: Final = _DESIGN.sums / _DESIGN.sums[7]
#: A tone that is this much of a whole window's sum below its amplitude has missing audio we cannot judge by.
_LEAST_SUM_TO_RELEASE: Final = 0.3
_LEAST_SUM_TO_PRESS: Final = 0.55


class DTMFState:
    """What the detector remembers of each leg. Columns are wiped when a leg goes.

    `hop` holds the last hop's outputs and, behind them, its energy; `spare` is where the next one's go, and
    `squares` where the squares of its outputs do. `coarse` and `patterns` are the last hop's, too.
    """

    def __init__(self, capacity: int) -> None:
        self.history: Int16 = np.zeros((capacity, HISTORY), np.int16)
        self.hop: Float32 = np.zeros((_OUTPUTS + 1, capacity), np.float32)
        self.spare: Float32 = np.zeros((_OUTPUTS + 1, capacity), np.float32)
        self.squares: Float32 = np.zeros((_OUTPUTS, capacity), np.float32)
        self.coarse: Bool = np.zeros(capacity, np.bool_)
        self.patterns: UInt8 = np.zeros(capacity, np.uint8)
        self.key: Int8 = np.full(capacity, -1, np.int8)
        self.peak: Float32 = np.zeros((2, capacity), np.float32)
        self.missing: Int16 = np.zeros(capacity, np.int16)
        self.before_hole: Int16 = np.zeros((capacity, HISTORY), np.int16)
        self.hole: Int8 = np.zeros(capacity, np.int8)
        """Frames in a row that did not arrive."""
        self.age: Int32 = np.zeros(capacity, np.int32)
        """Samples from the start of the last key to that of the last frame."""
        self.released: list[Release] = []
        """Keys that ended in the last frame."""
        self.holes = False
        """Whether any leg has one."""
        self._samples: Float32 = np.zeros((_LEGS_AT_ONCE, WINDOW), np.float32)
        self._weighted: Float32 = np.zeros((_LEGS_AT_ONCE, WINDOW), np.float32)

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a leg."""
        self.history[row] = self.before_hole[row] = 0
        self.hole[row] = 0
        self.age[row] = 0
        self.released = [each for each in self.released if each.row != row]
        for column in (self.hop, self.spare, self.squares, self.peak):
            column[:, row] = 0
        self.coarse[row] = False
        self.patterns[row] = 0
        self.key[row] = -1
        self.missing[row] = 0
        self._samples[:] = self._weighted[:] = 0

    def project(self, frames: Int16, valid: tuple[Bool, Bool]) -> None:
        """Outputs and energies of a frame's last hop, into `spare`; what did not arrive counts as zeros.

        Some legs at a time: their samples as floats then stay in the cache that the product reads them from.
        """
        legs = len(frames)
        missing = [None if there.all() else ~there for there in valid]
        for start in range(0, legs, _LEGS_AT_ONCE):
            some = slice(start, min(start + _LEGS_AT_ONCE, legs))
            count = some.stop - start
            samples, weighted = self._samples[:count], self._weighted[:count]
            samples[:, :_REST] = self.history[some, -_REST:]
            samples[:, _REST:] = frames[some]
            for half, gone in enumerate(missing):
                if gone is not None:
                    samples[gone[some], _REST + half * HOP : _REST + (half + 1) * HOP] = 0
            np.matmul(_DESIGN.projection, samples.T, out=self.spare[:_OUTPUTS, some])
            np.multiply(samples, _DESIGN.window, out=weighted)
            np.einsum("ls,ls->l", weighted, weighted, out=self.spare[_OUTPUTS, some])

    def project_between(self, rows: Index, frames: Int16, there: Bool) -> Float32:
        """The same of the hop between a frame's last one and the one before, for some legs, `(17, rows)`."""
        samples = np.empty((len(rows), WINDOW), np.float32)
        samples[:, :HISTORY] = self.history[rows]
        samples[:, HISTORY:] = frames[rows, :HOP]
        samples[~there[rows], HISTORY:] = 0
        hop = np.empty((_OUTPUTS + 1, len(rows)), np.float32)
        np.matmul(_DESIGN.projection, samples.T, out=hop[:_OUTPUTS])
        samples *= _DESIGN.window
        np.einsum("ls,ls->l", samples, samples, out=hop[_OUTPUTS])
        return hop

    def keep(self, frames: Int16, valid: tuple[Bool, Bool]) -> None:
        """Remembers what the next frame's windows reach back to."""
        history = self.history[: len(frames)]
        history[:] = frames[:, -HISTORY:]
        for there, part in zip(valid, (slice(0, HISTORY - HOP), slice(HISTORY - HOP, HISTORY)), strict=True):
            if not there.all():
                history[~there, part] = 0


class Press(NamedTuple):
    """A key that has just been recognised: leg row, telephone-event code, and its start."""

    row: int
    key: int
    start: int
    """First sample of the tone relative to the frame's first; negative, and good to 5 ms."""


class Release(NamedTuple):
    """A key that has ended: leg row, telephone-event code, and what its tones were."""

    row: int
    key: int
    length: int
    """Samples, good to 8 ms; lost ones count."""
    row_dbm0: float
    column_dbm0: float
    """The levels at their loudest, ITU-T G.100; up to half a decibel low where the frequencies are off."""


def detect(state: DTMFState, params: DTMFParams, frames: Int16, valid: tuple[Bool, Bool]) -> list[Press]:
    """Advances all legs by one frame.

    Args:
        state: of at least `len(frames)` legs; changed in place.
        params: limits.
        frames: `(legs, FRAME_SAMPLES)` received audio; samples that did not arrive are ignored.
        valid: for each half of the frame, which legs' audio arrived.

    Returns:
        The keys that began, in order of time; those that ended are in `state.released`.
    """
    legs = len(frames)
    state.released = []
    state.age[:legs] += FRAME_SAMPLES
    state.project(frames, valid)
    middle = (state.patterns[:legs] << 1 | valid[0]) & _WHOLE
    patterns = (middle << 1 | valid[1]) & _WHOLE
    now, squares = state.spare[:, :legs], state.squares[:, :legs]
    outputs, energy = now[:_OUTPUTS], now[_OUTPUTS]
    np.multiply(outputs, outputs, out=squares)
    coarse = _is_coarse(params, _power(squares), energy)
    # A key needs two hops in a row. With nothing in this frame's last hop and nothing in the last frame's, the
    # one between needs no look; most of speech is like that.
    rows = np.flatnonzero(coarse | state.coarse[:legs] | (state.key[:legs] >= 0))
    presses: list[Press] = []
    if rows.size:
        hops = np.empty((1 + HOPS, _OUTPUTS + 1, len(rows)), np.float32)
        state.hop.take(rows, axis=1, out=hops[0], mode="clip")
        hops[1] = state.project_between(rows, frames, valid[0])
        now.take(rows, axis=1, out=hops[2], mode="clip")
        pattern = np.stack((state.patterns.take(rows), middle.take(rows), patterns.take(rows)))
        windows = _Windows(
            hops[:, :_OUTPUTS], _power(np.square(hops[:, :_OUTPUTS])), hops[:, _OUTPUTS], pattern
        )
        presses = _look(state, params, rows, windows)
    if state.holes or not (valid[0].all() and valid[1].all()):
        presses += _bridge(state, params, frames, valid)
    for press in presses:
        state.age[press.row] = -press.start
    state.keep(frames, valid)
    state.hop, state.spare = state.spare, state.hop
    state.coarse[:legs] = coarse
    state.patterns[:legs] = patterns
    return presses


class _Windows(NamedTuple):
    """The legs that are looked at closely: the last hop of the frame before, and the hops of this one."""

    outputs: Float32
    """`(1 + HOPS, 16, rows)`."""
    power: Float32
    total: Float32
    patterns: UInt8


class _Keys(NamedTuple):
    """Their rows, and what is known of their keys; changed in place."""

    rows: Index
    key: Int8
    peak: Float32
    missing: Int16
    ended: Int8
    """The hop at which the key that was down when the frame began was released, -1 while it is down."""


def _look(state: DTMFState, params: DTMFParams, rows: Index, windows: _Windows) -> list[Press]:
    """The close look: releases and presses, hop by hop."""
    before = state.key.take(rows)
    ended = np.full(len(rows), -1, np.int8)
    keys = _Keys(rows, before.copy(), state.peak.take(rows, axis=1), state.missing.take(rows), ended)
    likely = _is_coarse(params, windows.power, windows.total)
    likely = likely[1:] & likely[:-1]
    presses: list[Press] = []
    down = np.flatnonzero(keys.key >= 0)
    if down.size:
        _hold(params, keys, windows, range(HOPS), down, likely)
        for at in np.flatnonzero(ended >= 0).tolist():
            state.released.append(_release(state, int(rows[at]), int(before[at]), int(ended[at])))
    for hop in range(HOPS):
        candidates = np.flatnonzero(likely[hop])
        if candidates.size:
            pressed = _press(params, keys, windows, hop, candidates)
            # A key that another one follows without a pause.
            for at in pressed[(before[pressed] >= 0) & (ended[pressed] < 0)].tolist():
                ended[at] = hop
                state.released.append(_release(state, int(rows[at]), int(before[at]), hop))
            presses += [Press(int(rows[at]), int(keys.key[at]), hop * HOP - _RUN_IN) for at in pressed]
            if pressed.size:
                _hold(params, keys, windows, range(hop + 1, HOPS), pressed, likely)
    state.key[rows], state.peak[:, rows], state.missing[rows] = keys.key, keys.peak, keys.missing
    return presses


def _release(state: DTMFState, row: int, key: int, hop: int) -> Release:
    """A key that was down when the frame began, and was not at this hop any more."""
    length = int(state.age[row]) + (hop + 1) * HOP - _RUN_OUT
    row_dbm0, column_dbm0 = (
        round(10 * math.log10(max(peak, 1.0) * _DBM0_OF_POWER), 1) for peak in state.peak[:, row].tolist()
    )
    return Release(row, key, max(length, 0), row_dbm0, column_dbm0)


def _bridge(state: DTMFState, params: DTMFParams, frames: Int16, valid: tuple[Bool, Bool]) -> list[Press]:
    """Keys in two pieces at either side of a hole that has just ended, and where holes begin."""
    legs = len(frames)
    hole, whole = state.hole[:legs], valid[0] & valid[1]
    ended = np.flatnonzero(whole & (hole > 0) & (hole <= dtmf_holes.MOST_MISSING))[: dtmf_holes.MOST_A_TICK]
    presses: list[Press] = []
    if ended.size:
        limits = params.max_reverse_twist_db, params.max_twist_db
        found = dtmf_holes.bridge(state.before_hole[ended], frames[ended], params.min_level_dbm0, limits)
        rows = ended[found.at]
        fresh = np.flatnonzero(state.key[rows] != found.key)
        for at in fresh.tolist():
            start = -int(found.before[at]) - int(hole[rows[at]]) * FRAME_SAMPLES
            presses.append(Press(int(rows[at]), int(found.key[at]), start))
        rows = rows[fresh]
        state.key[rows] = found.key[fresh]
        state.peak[:, rows] = np.square(found.amplitude[:, fresh] * (_DESIGN.sums[7] / 2))
        state.missing[rows] = 0
    gone = ~valid[0] & ~valid[1]
    begins = np.flatnonzero(gone & (hole == 0))
    state.before_hole[begins] = state.history[begins]
    hole[:] = np.where(gone, np.minimum(hole + 1, dtmf_holes.MOST_MISSING + 1), 0)
    state.holes = bool(hole.any())
    return presses


def _power(squares: Float32) -> Float32:
    """`(..., 8, rows)` of the squared outputs `(..., 16, rows)`, which are changed."""
    power: Float32 = squares[..., :8, :]
    power += squares[..., 8:, :]
    return power


def _least(params: DTMFParams) -> float:
    """Power of a window whose tone is as soft as a key's may be."""
    return float((_DESIGN.sums[7] / 2 * AMPLITUDE_0_DBM0 * 10 ** (params.min_level_dbm0 / 20)) ** 2)


def _is_coarse(params: DTMFParams, power: Float32, total: Float32) -> Bool:
    """Coarse and cheap: two peaks that are not small beside the rest. `_press` is exact, for the few."""
    row, column = power[..., :4, :].max(axis=-2), power[..., 4:, :].max(axis=-2)
    scale = 2 * float(_DESIGN.energies[7]) / float(_DESIGN.sums[7]) ** 2
    coarse: Bool = (row + column) * (scale / 0.36) > total
    coarse &= np.minimum(row, column) > _least(params) * 0.15
    return coarse


def _hold(params: DTMFParams, keys: _Keys, windows: _Windows, hops: range, down: Index, likely: Bool) -> None:
    """Keys that are down when the first of `hops` begins: releases those that end.

    A key that is still the loudest is old news: it is taken out of `likely`, `(HOPS, rows)`.
    """
    tones = _TONES.take(keys.key.take(down), axis=1)
    peak, missing = keys.peak.take(down, axis=1), keys.missing.take(down)
    held = np.ones(len(down), np.bool_)
    for hop in hops:
        power, patterns = windows.power[hop + 1], windows.patterns[hop + 1].take(down)
        own = power[tones, down]
        now, judged = own, None
        if (patterns != _WHOLE).any():
            share = _SHARES.take(patterns)
            judged = share >= _LEAST_SUM_TO_RELEASE
            now = np.where(judged, own / np.where(judged, share, 1) ** 2, peak)
            missing = np.where(patterns & 1, 0, missing + 1).astype(np.int16)
            held &= missing <= params.max_missing_hops
        else:
            missing[:] = 0
        held &= (now >= peak * 10 ** (params.release_db / 10)).all(axis=0)
        keys.ended[down[~held & (keys.ended[down] < 0)]] = hop
        peak = np.maximum(peak, now)
        loudest = power[:4].max(axis=0) + power[4:].max(axis=0)
        likely[hop, down[held & (own.sum(axis=0) >= loudest.take(down))]] = False
    keys.key[down[~held]] = -1
    keys.peak[:, down], keys.missing[down] = peak, missing


def _press(params: DTMFParams, keys: _Keys, windows: _Windows, hop: int, at: Index) -> Index:
    """The candidates whose windows, at a hop and the one before, are a key's; all limits looked at."""
    least, power = _least(params), windows.power[hop + 1]
    best = np.stack((power[:4, at].argmax(axis=0), 4 + power[4:, at].argmax(axis=0)))
    before, now = (
        windows.outputs[number, best, at] + 1j * windows.outputs[number, best + 8, at]
        for number in (hop, hop + 1)
    )
    turn = np.angle(now * before.conj() * np.exp(-1j * _EXPECTED_TURN[best])).astype(np.float32)
    offset_hz = turn * (SAMPLE_RATE_HZ / HOP / (2 * np.pi))
    fits = (np.abs(offset_hz) <= params.frequency_tolerance * _FREQUENCIES[best]).all(axis=0)
    # No key's column is twice its row, even with both off by 1.8 %; a voice's partials are, to the hertz.
    row_hz, column_hz = _FREQUENCIES[best] + offset_hz
    fits &= np.abs(column_hz / (2 * row_hz) - 1) > params.octave_tolerance
    gain = _window_gain(offset_hz) ** 2
    patterns_before, patterns = windows.patterns[hop, at], windows.patterns[hop + 1, at]
    sums_now, sums_before = _DESIGN.sums[patterns], _DESIGN.sums[patterns_before]
    enough = np.minimum(sums_now, sums_before) >= _LEAST_SUM_TO_PRESS * _DESIGN.sums[7]
    fits &= enough
    tones_now = np.square(np.abs(now)) / (gain * np.where(enough, sums_now, 1) ** 2)
    tones_before = np.square(np.abs(before)) / (gain * np.where(enough, sums_before, 1) ** 2)
    steady = 10 ** (params.max_change_db / 10)
    change = tones_now / np.maximum(tones_before, 1e-12)
    fits &= ((change <= steady) & (change >= 1 / steady)).all(axis=0)
    shares = []
    # Each tone's mean square in the window is 2·|Z|²/(Σw)²; the window's is Σw²x²/Σw².
    for tones, energy, pattern in (
        (tones_now, windows.total[hop + 1, at], patterns),
        (tones_before, windows.total[hop, at], patterns_before),
    ):
        shares.append(_share(tones, energy, pattern))
        fits &= tones.min(axis=0) * _DESIGN.sums[7] ** 2 >= least
        twist = tones[1] / np.maximum(tones[0], 1e-12)
        fits &= twist <= 10 ** (params.max_twist_db / 10)
        fits &= twist >= 10 ** (-params.max_reverse_twist_db / 10)
    fits &= np.max(shares, axis=0) <= params.max_purity
    fits &= np.min(shares, axis=0) >= params.purity
    found = _KEYPAD[best[0], best[1] - 4]
    fits &= found != keys.key[at]
    hit = np.flatnonzero(fits)
    chosen: Index = at[hit]
    keys.key[chosen] = found[hit]
    keys.peak[:, chosen] = (tones_now[:, hit] * _DESIGN.sums[7] ** 2).astype(np.float32)
    keys.missing[chosen] = 0
    return chosen


def _share(tones: Float32, energy: Float32, pattern: UInt8) -> Float32:
    """How much of a window's energy two tones hold; of a window of nothing, nothing."""
    weight = np.where(pattern > 0, _DESIGN.energies[pattern], 1)
    share: Float32 = 2 * tones.sum(axis=0) * weight / np.maximum(energy, 1)
    return share


def _window_gain(offset_hz: Float32) -> Float32:
    """Response of the Hann window to a tone beside the filter's frequency, relative to one on it."""
    bins = offset_hz * (WINDOW / SAMPLE_RATE_HZ)
    near_one = np.abs(np.abs(bins) - 1) < 1e-3
    safe = np.where(near_one, 0.5, bins)
    gain = np.sinc(safe) / (1 - np.square(safe))
    return np.maximum(np.where(near_one, 0.5, gain), 0.3).astype(np.float32)
