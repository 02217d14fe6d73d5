"""The mask `decoy`: tones of our own in a bridge that is not ours, over the customer's keys.

Where the merchant joins customer, operator and switch in a bridge, the switch hears the keys and cannot touch them.
It plays, all the time, two of the four row tones and two of the four column tones (ITU-T Q.23), near enough to be
taken for them and of like level. A key's tones so have a rival in either group, which every receiver that follows
Q.24 takes for the sign that this is no key, and less than half of the energy is the key's.

By itself it is no key for the same reason. The pairs change at random, at the pace of keys; rows and columns never
within 60 ms of each other, so that in any window of a receiver one group at least has its rival throughout. A
piece has frequencies, levels and phases that are drawn for it and forgotten.

It is a decoy and no seal. Who knows when a key was pressed can look for what stood out; see `docs/masks.md`.

State is a row of `Decoys`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int8, Int16
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

#: Of each of the four tones; all together are 6 dB above it.
LEVEL_DBM0: Final = -9.0
#: Tones differ by this much from the level, up or down.
SPREAD_DB: Final = 0.5
#: Relative offset of their frequencies: a rival must lie in the narrowest filter that a receiver uses, 25 Hz.
OFFSET: Final = 0.003
#: A piece lasts this many frames, or twice as many.
PIECE_FRAMES: Final = 6
#: Samples over which a piece rises and falls.
EDGE: Final = 24
#: Neighbours would beat, and one of them stand alone for a moment.
_PAIRS: Final = np.array([(a, b) for a in range(4) for b in range(a + 2, 4)], np.intp)
_GROUPS: Final = np.array((ROW_FREQUENCIES_HZ, COLUMN_FREQUENCIES_HZ))
_RISE: Final = ((1 - np.cos(np.pi * (np.arange(EDGE) + 0.5) / EDGE)) / 2).astype(np.float32)
_TIME: Final = np.arange(FRAME_SAMPLES, dtype=np.float32)


class Pieces(NamedTuple):
    """Pieces to come."""

    turns: Float32
    """`(pieces, 2)` radians a sample."""
    phases: Float32
    amplitudes: Float32
    frames: Int8
    """`(pieces,)` how long each lasts."""


def draw(rng: np.random.Generator, groups: Index) -> Pieces:
    """Pieces at random; `groups` says of which group each is, 0 for rows, 1 for columns."""
    count = len(groups)
    hertz = _GROUPS[groups[:, None], _PAIRS[rng.integers(0, len(_PAIRS), count)]]
    hertz = hertz * (1 + rng.uniform(-OFFSET, OFFSET, hertz.shape))
    level = LEVEL_DBM0 + rng.uniform(-SPREAD_DB, SPREAD_DB, hertz.shape)
    return Pieces(
        (2 * np.pi / SAMPLE_RATE_HZ * hertz).astype(np.float32),
        rng.uniform(0, 2 * np.pi, hertz.shape).astype(np.float32),
        (AMPLITUDE_0_DBM0 * 10 ** (level / 20)).astype(np.float32),
        (PIECE_FRAMES * rng.integers(1, 3, count)).astype(np.int8),
    )


class Decoys:
    """What plays: for each row a piece of either group."""

    def __init__(self, capacity: int) -> None:
        self.turns: Float32 = np.zeros((capacity, 2, 2), np.float32)
        self.phases: Float32 = np.zeros((capacity, 2, 2), np.float32)
        self.amplitudes: Float32 = np.zeros((capacity, 2, 2), np.float32)
        self.left: Int8 = np.zeros((capacity, 2), np.int8)
        """Frames until the next piece."""

    def start(self, row: int, pieces: Pieces) -> None:
        """A connection gets the mask, with a piece of rows and one of columns; what played is overwritten."""
        self.turns[row], self.phases[row], self.amplitudes[row] = pieces[:3]
        self.left[row] = PIECE_FRAMES, PIECE_FRAMES // 2

    def clear(self, row: int) -> None:
        """Overwrites what played."""
        self.turns[row] = self.phases[row] = self.amplitudes[row] = 0
        self.left[row] = 0


def due(state: Decoys, rows: Index) -> Bool:
    """Which rows begin a piece in this tick, `(rows, 2)`."""
    begins: Bool = state.left[rows] == 0
    return begins


def play(state: Decoys, rows: Index, begins: Bool, pieces: Pieces) -> Int16:
    """One frame of connections in mode `decoy`.

    Args:
        state: changed in place.
        rows: of the connections.
        begins: as `due` said.
        pieces: one for each that begins, in the order of `np.nonzero(begins)`.

    Returns:
        `(rows, FRAME_SAMPLES)`.
    """
    turns, phases = state.turns[rows], state.phases[rows]
    amplitudes, left = state.amplitudes[rows], state.left[rows]
    turns[begins], phases[begins], amplitudes[begins], left[begins] = pieces
    left -= 1
    wave = np.zeros((len(rows), FRAME_SAMPLES), np.float32)
    for group in range(2):
        pair = np.zeros_like(wave)
        for tone in range(2):
            angle = turns[:, group, tone, None] * _TIME
            angle += phases[:, group, tone, None]
            pair += amplitudes[:, group, tone, None] * np.sin(angle)
        pair[begins[:, group], :EDGE] *= _RISE
        pair[left[:, group] == 0, -EDGE:] *= _RISE[::-1]
        wave += pair
    state.turns[rows], state.amplitudes[rows], state.left[rows] = turns, amplitudes, left
    state.phases[rows] = np.mod(phases + turns * FRAME_SAMPLES, np.float32(2 * np.pi))
    # Four crests that meet are a little more than there is room for.
    np.clip(wave, -32_767, 32_767, out=wave)
    return np.rint(wave).astype(np.int16)
