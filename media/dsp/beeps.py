"""The mask `tone`: that keys come, on a clock that is not theirs.

A connection has a grid of 400 ms from the moment its mask is set, with a phase of its own. At a point of the grid
a beep starts if a key came since the `HOLD`th point before; one pitch, one length, one level. So one beep follows
another as long as keys come, however many there are, and stops three points after the last: what crosses is when
keying began and ended, to 400 ms, and pauses longer than 1.2 s. Neither the number of keys nor the time between
two of them does.

State is a row of `Beeps`, advanced by `choose`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Bool, Index, Int8, Int16
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ, TICK_MS

GRID_TICKS: Final = 400 // TICK_MS
HOLD: Final = 3
BEEP_FRAMES: Final = 5
#: Below every tone of a key (ITU-T Q.23), so that no detector behind us takes a beep for a part of one.
PITCH_HZ: Final = 440.0
LEVEL_DBM0: Final = -24.0
_EDGE: Final = 80


def beep_frames() -> Int16:
    """The beep, `(BEEP_FRAMES + 1, FRAME_SAMPLES)`; the last frame is silence."""
    samples = BEEP_FRAMES * FRAME_SAMPLES
    wave = np.sin(2 * np.pi * PITCH_HZ / SAMPLE_RATE_HZ * np.arange(samples))
    edge = (1 - np.cos(np.pi * (np.arange(_EDGE) + 0.5) / _EDGE)) / 2
    wave[:_EDGE] *= edge
    wave[-_EDGE:] *= edge[::-1]
    frames = np.zeros((BEEP_FRAMES + 1, FRAME_SAMPLES), np.int16)
    level = AMPLITUDE_0_DBM0 * 10 ** (LEVEL_DBM0 / 20)
    frames[:-1] = np.rint(level * wave).astype(np.int16).reshape(BEEP_FRAMES, FRAME_SAMPLES)
    return frames


class Beeps:
    """The grids of connections, one row each."""

    def __init__(self, capacity: int) -> None:
        self.phase: Int8 = np.zeros(capacity, np.int8)
        """Ticks since the last point of the grid."""
        self.left: Int8 = np.zeros(capacity, np.int8)
        """Points at which beeps are still owed."""
        self.sounding: Bool = np.zeros(capacity, np.bool_)
        self.allowed: Bool = np.zeros(capacity, np.bool_)

    def start(self, row: int, phase: int, *, allowed: bool) -> None:
        """A connection gets the mask.

        Args:
            row: of the connection.
            phase: of its grid, 0 to `GRID_TICKS` - 1, drawn at random.
            allowed: whether keys may be heard of at all; not during the security code.
        """
        self.phase[row] = phase
        self.left[row] = 0
        self.sounding[row] = False
        self.allowed[row] = allowed

    def allow(self, row: int, *, allowed: bool) -> None:
        """Beeps from now on, or none; the grid stays. What was owed is forgotten, a beep that sounds ends."""
        self.allowed[row] = allowed
        self.left[row] = 0
        self.sounding[row] = False


def choose(state: Beeps, rows: Index, keyed: Bool) -> Index:
    """Advances connections by one tick.

    Args:
        state: changed in place.
        rows: of the connections.
        keyed: for each, whether a key came in this tick.

    Returns:
        For each, its frame of `beep_frames`.
    """
    phase = (state.phase[rows] + 1) % GRID_TICKS
    left = np.where(keyed & state.allowed[rows], HOLD, state.left[rows]).astype(np.int8)
    sounding = state.sounding[rows]
    at_point = phase == 0
    sounding = np.where(at_point, left > 0, sounding & (phase < BEEP_FRAMES))
    left = np.where(at_point, np.maximum(left - 1, 0), left).astype(np.int8)
    state.phase[rows], state.left[rows], state.sounding[rows] = phase, left, sounding
    chosen: Index = np.where(sounding, phase, BEEP_FRAMES).astype(np.intp)
    return chosen
