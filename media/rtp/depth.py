"""How deep each leg's buffer is, and when that may change.

What matters is how long before its turn the latest packet of a while comes: its spare time. `note` collects the
least of it; once a second `close_window` looks at the last ten seconds of every leg:

    spare ≥ 40 ms for ten seconds   ──► wants to play one frame less   (latency; a peer with a fast clock)
    spare < 20 ms                   ──► wants one frame more           (a peer with a slow clock)
    a packet came too late          ──► wants more, at once

so that depth settles at the jitter's peak and 20 ms. The wishes of the last kind are mostly granted before they
arise: when nothing but concealment was played since the late packet's turn, the timeline goes back and plays it
(`media.rtp.stream`). What remains waits here for a frame where nobody hears it:

- silence before, in and after the frame, 100 ms of it before one is left out, so that no pause between two keys
  is cut to nothing (ITU-T Q.24: 30 ms) and no word's end;
- silence suppressed by the peer;
- for a frame more that is wanted at once, also a hole: it is concealed and its packet waited for;
- after three seconds without silence, anything softer than the softest tone that the detector takes, and after
  ten the softest place that is no tone.

Never inside a tone: there, cutting would split a key, or join two.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Float64, Index, Int8, Int16, Int32
from media.columns import ColumnSet
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

LEAST_DEPTH: Final = FRAME_SAMPLES
MOST_DEPTH: Final = 10 * FRAME_SAMPLES
WINDOW_TICKS: Final = 50
_WINDOWS: Final = 10
#: Windows without a change before another frame is left out.
_CALM_WINDOWS: Final = 4
_UNKNOWN: Final = 1 << 20
#: Legs with a wish that are looked at in one tick, in turn.
MOST_ADJUSTED: Final = 256
_MOST_WANTED: Final = 2
#: Frames of silence before one is added, or left out: what a voice's or a tone's end takes, and a pause (Q.24).
_QUIET_TO_ADD: Final = 4
_QUIET_TO_DROP: Final = 5
_PATIENT_TICKS: Final = 150
_IMPATIENT_TICKS: Final = 500
#: A delay that changes by more than this has changed its route, not its clock.
_ROUTE_SAMPLES: Final = 60 * 8
_CLOCK_WINDOWS: Final = 30


def _power(level_dbm0: float) -> float:
    return float(AMPLITUDE_0_DBM0**2 / 2 * 10 ** (level_dbm0 / 10))


_SILENT: Final = _power(-50)
_SOFT: Final = _power(-40)
_PURE: Final = 0.4
_NEAR_SOFTEST: Final = 1.4
_PROJECTION: Final = np.exp(
    2j
    * np.pi
    * np.outer(np.arange(FRAME_SAMPLES), np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ))
    / SAMPLE_RATE_HZ
).astype(np.complex64)


def power_of(frames: Int16) -> Float32:
    """Mean square of each frame."""
    wide = frames.astype(np.float32)
    power: Float32 = np.vecdot(wide, wide) / FRAME_SAMPLES
    return power


def tonal(frames: Int16) -> Bool:
    """Whether a frame may be part of a key: a row tone and a column tone hold much of its power."""
    spectrum = np.square(np.abs(frames.astype(np.float32) @ _PROJECTION)) * (2 / FRAME_SAMPLES**2)
    tones = spectrum[:, :4].max(axis=1) + spectrum[:, 4:].max(axis=1)
    pure: Bool = tones > _PURE * power_of(frames)
    return pure


class Look(NamedTuple):
    """What the legs with a wish would play; one entry each."""

    rows: Index
    before: Int16
    """`(rows, samples)` played in the tick before."""
    now: Int16
    after: Int16
    whole: Bool
    """Both `now` and `after` have arrived."""
    hole: Bool
    """`now` is missing, something after it is there, and what was before it was real."""
    suppressed: Bool
    """Nothing was sent for `now`, or nothing has come for long."""


class Depth(ColumnSet):
    """Buffers of all legs."""

    FILLS: ClassVar[dict[str, int]] = {"_least": _UNKNOWN, "_history": _UNKNOWN}

    def __init__(self, capacity: int) -> None:
        self.wait: Float32 = np.zeros(capacity, np.float32)
        """How long packets wait for their turn, mean, samples."""
        self.want: Int8 = np.zeros(capacity, np.int8)
        """Frames to add, or with a minus to leave out."""
        self.urgent: Bool = np.zeros(capacity, np.bool_)
        self._least: Int32 = np.full(capacity, _UNKNOWN, np.int32)
        self._history: Int32 = np.full((capacity, _WINDOWS), _UNKNOWN, np.int32)
        self._calm: Int16 = np.zeros(capacity, np.int16)
        self._quiet: Int16 = np.zeros(capacity, np.int16)
        self._waited: Int16 = np.zeros(capacity, np.int16)
        self._softest: Float32 = np.zeros(capacity, np.float32)
        self._clock_sums: Float64 = np.zeros((capacity, 5), np.float64)
        self._clock_base: Float64 = np.zeros(capacity, np.float64)
        self._clock_last: Float64 = np.zeros(capacity, np.float64)

    def start(self, rows: Index, depth: Float32) -> None:
        """Timelines begin: what was known of spare time and clocks is no more."""
        self.wait[rows] = depth
        self._least[rows] = self._history[rows] = _UNKNOWN
        self._forget_wish(rows)
        self._clock_sums[rows] = 0

    def _forget_wish(self, rows: Index) -> None:
        self.want[rows] = 0
        self.urgent[rows] = False
        self._calm[rows] = self._quiet[rows] = self._waited[rows] = 0
        self._softest[rows] = np.inf

    def note(self, rows: Index, ahead: Int32, *, distinct: bool) -> None:
        """Packets have come this far ahead of their turns."""
        wait = self.wait[rows]
        self.wait[rows] = wait + (ahead - wait) / 32
        if distinct:
            self._least[rows] = np.minimum(self._least[rows], ahead)
        else:
            np.minimum.at(self._least, rows, ahead)

    def room(self, rows: Index) -> Int32:
        """Frames by which the legs' buffers may grow."""
        return ((MOST_DEPTH - self.wait[rows]) / FRAME_SAMPLES).astype(np.int32)

    def ask(self, rows: Index, frames: Int32) -> None:
        """Packets have come this much too late and could not be saved."""
        wanted = np.minimum(np.minimum(frames, _MOST_WANTED), self.room(rows))
        # No buffer could have had what is later still, or its timestamp says nothing of when it was sent.
        some = (wanted > 0) & (frames <= MOST_DEPTH // FRAME_SAMPLES)
        np.maximum.at(self.want, rows[some], wanted[some].astype(np.int8))
        self.urgent[rows[some]] = True

    def changed(self, rows: Index, frames: Index | int) -> None:
        """Buffers have grown, or with a minus shrunk; each row once."""
        samples = np.broadcast_to(np.asarray(frames, np.int32) * FRAME_SAMPLES, rows.shape)
        self.wait[rows] += samples
        for column in (self._least, self._history):
            old = column[rows]
            by = samples if old.ndim == 1 else samples[:, None]
            column[rows] = np.where(old < _UNKNOWN // 2, old + by, old)
        grown = samples > 0
        left = np.where(grown, np.maximum(self.want[rows] - samples // FRAME_SAMPLES, 0), 0)
        urgent = self.urgent[rows] & (left > 0)
        self._forget_wish(rows)
        self.want[rows] = left
        self.urgent[rows] = urgent
        # What was spare before a raise proves nothing about what is needed.
        self._history[rows[grown]] = _UNKNOWN
        self._calm[rows[~grown]] = _WINDOWS - _CALM_WINDOWS

    def close_window(self, legs: int, offset: Int32) -> None:
        """Once in `WINDOW_TICKS`: who has too much to spare, and who too little.

        Args:
            legs: rows in use.
            offset: of each leg's playing position from our clock, samples, for its clock's rate.
        """
        least = self._least[:legs]
        heard = least < _UNKNOWN // 2
        history = self._history[:legs]
        history[:, 1:] = history[:, :-1]
        history[:, 0] = least
        self._calm[:legs] = np.minimum(self._calm[:legs] + heard, 1000)
        spare = history.min(axis=1)
        enough = heard & (spare >= 2 * FRAME_SAMPLES) & (self._calm[:legs] >= _WINDOWS)
        short = heard & (least < LEAST_DEPTH) & (self.wait[:legs] < MOST_DEPTH - FRAME_SAMPLES)
        want = self.want[:legs]
        fresh = want == 0
        want[fresh & enough] = -1
        want[fresh & short] = 1
        stale = np.flatnonzero((want < 0) & ~enough | (want > 0) & ~short & ~self.urgent[:legs])
        if stale.size:
            self.want[stale] = 0
            self._waited[stale] = 0
        least[:] = _UNKNOWN
        self._follow_clock(legs, heard, offset)

    def _follow_clock(self, legs: int, heard: Bool, offset: Int32) -> None:
        """Least squares of the mean delay over time: sums of 1, t, t², x, t·x with t in windows."""
        sums = self._clock_sums[:legs]
        delay = -(self.wait[:legs].astype(np.float64) + offset)
        new = (sums[:, 0] == 0) | (np.abs(_wrapped(delay - self._clock_last[:legs])) > _ROUTE_SAMPLES)
        sums[new] = 0
        self._clock_base[:legs][new] = delay[new]
        self._clock_last[:legs] = delay
        moved = _wrapped(delay - self._clock_base[:legs])
        # Time passes in quiet windows, too: all sums are taken about the newest one.
        n, t, tt, x, tx = sums.T
        tt += n - 2 * t
        tx -= x
        t -= n
        n += heard
        x += np.where(heard, moved, 0)

    def clock_ppm(self, row: int) -> float:
        """The peer's clock against ours; 0 until half a minute was heard."""
        n, t, tt, x, tx = self._clock_sums[row]
        spread = n * tt - t * t
        if n < _CLOCK_WINDOWS or spread <= 0:
            return 0.0
        slope = (n * tx - t * x) / spread
        return float(-slope / (WINDOW_TICKS * FRAME_SAMPLES) * 1e6)

    def wishes(self, tick: int, legs: int) -> Index:
        """Legs that would change in this tick."""
        rows = np.flatnonzero(self.want[:legs])
        if len(rows) <= MOST_ADJUSTED:
            return rows
        return np.roll(rows, -(tick * MOST_ADJUSTED) % len(rows))[:MOST_ADJUSTED]

    def listen(self, rows: Index, before: Int16) -> Bool:
        """Which of the legs with a wish may come to a fit place now.

        Args:
            rows: legs, each once.
            before: `(rows, samples)` that they played in the tick before.
        """
        power = power_of(before)
        waited = self._waited[rows]
        self._waited[rows] = np.minimum(waited + 1, 30_000)
        quiet = np.where(power < _limit(waited), self._quiet[rows] + 1, 0)
        self._quiet[rows] = np.minimum(quiet, 1000)
        fit: Bool = quiet >= _QUIET_TO_ADD
        long = np.flatnonzero(waited >= _PATIENT_TICKS)
        if long.size:
            bar = np.minimum(self._softest[rows[long]], power[long])
            # It rises by 3 dB in five seconds, so that a place is found at last.
            self._softest[rows[long]] = bar * np.float32(1.0028)
            fit[long] |= (waited[long] >= _IMPATIENT_TICKS) & (power[long] <= bar * _NEAR_SOFTEST)
        return fit

    def decide(self, look: Look) -> tuple[Bool, Bool]:
        """Which legs play a frame more, and which leave one out."""
        rows = look.rows
        now, after = power_of(look.now), power_of(look.after)
        want, quiet, waited = self.want[rows], self._quiet[rows], self._waited[rows]
        limit = _limit(waited)
        fit = look.whole & (now < limit) & (after < limit) | look.suppressed
        add = (want > 0) & (fit & (quiet >= _QUIET_TO_ADD) | look.hole & self.urgent[rows])
        drop = (want < 0) & fit & (quiet >= _QUIET_TO_DROP)
        long = np.flatnonzero((waited > _IMPATIENT_TICKS) & look.whole & ~add & ~drop)
        if long.size:
            bar = self._softest[rows[long]] * _NEAR_SOFTEST
            soft = (power_of(look.before[long]) <= bar) & (now[long] <= bar) & (after[long] <= bar)
            for frames in (look.before, look.now, look.after):
                soft &= ~tonal(frames[long])
            add[long[soft]] = want[long[soft]] > 0
            drop[long[soft]] = want[long[soft]] < 0
        return add, drop


def _limit(waited: Int16) -> Float64:
    """Power below which nobody hears a change, for legs that have waited so long."""
    return np.where(waited < _PATIENT_TICKS, _SILENT, _SOFT)


def _wrapped(samples: Float64) -> Float64:
    """Differences of timestamps, which wrap at 32 bits."""
    return (samples + 2.0**31) % 2.0**32 - 2.0**31
