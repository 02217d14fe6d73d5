"""Keys of which lost audio left two short pieces, one at either side of the hole.

A tone of 50 ms that loses 20 in its middle leaves 15 and 15: less at either side than the detector's windows hold.
Both pieces touch the hole, so the tone went on through it and lasted longer than what is seen of it. Each pair of
frequencies is fitted to both pieces by least squares, sine and cosine of each, which needs no more samples than
there are (a filter bank would); a key is what explains nearly all of both, with silence beyond at least one of them:
a voice that goes on has none, and a tone that does is the detector's own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from media.arrays import Float32, Float64, Index, Int16
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, KEYPAD, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

#: Samples kept of what came before a hole.
BEFORE: Final = 120
#: Frames in a row that may be missing.
MOST_MISSING: Final = 2
#: Pieces looked at in one tick; beyond that the ordinary windows have to do.
MOST_A_TICK: Final = 64
#: Pieces are measured in blocks of 2.5 ms.
_BLOCK: Final = 20
_BEFORE_BLOCKS: Final = BEFORE // _BLOCK
_AFTER_BLOCKS: Final = FRAME_SAMPLES // _BLOCK
#: Of both pieces, without their outermost blocks: with 20 ms of hole that is a tone of more than 40 ms, which
#: ITU-T Q.24 has accepted.
_LEAST_BLOCKS: Final = 8
_LEAST_OF_A_PIECE: Final = 1
#: A block that has so much less energy than the loudest is outside the tone. Two tones beat, and no deeper than this.
_OUTSIDE: Final = 0.1
#: Least share of a piece's energy that two tones explain: a frequency 1.8 % off its nominal costs 0.13 of it in 15 ms.
_EXPLAINED: Final = 0.8


class _Design(NamedTuple):
    basis: Float64
    """`(16, samples)`: cosines of the eight frequencies, then their sines."""
    inverse: Float64
    """`(lengths, 16, 4, 4)` of the Gram matrices of each key's four functions."""


def _pairs() -> Index:
    keys = np.zeros((16, 4), np.intp)
    for row, codes in enumerate(KEYPAD):
        for column, code in enumerate(codes):
            keys[code] = (row, 4 + column, 8 + row, 12 + column)
    return keys


_PAIRS: Final = _pairs()


def _design(blocks: int, *, backwards: bool) -> _Design:
    """For pieces that start at the first sample, or that end with the last one."""
    samples = blocks * _BLOCK
    angles = 2 * np.pi * np.outer(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ, np.arange(samples))
    basis = np.concatenate((np.cos(angles / SAMPLE_RATE_HZ), np.sin(angles / SAMPLE_RATE_HZ)))
    inverse = np.zeros((blocks + 1, 16, 4, 4))
    for length in range(1, blocks + 1):
        part = basis[:, -length * _BLOCK :] if backwards else basis[:, : length * _BLOCK]
        for key, functions in enumerate(_PAIRS):
            inverse[length, key] = np.linalg.pinv(part[functions] @ part[functions].T)
    return _Design(basis, inverse)


_BEFORE_DESIGN: Final = _design(_BEFORE_BLOCKS, backwards=True)
_AFTER_DESIGN: Final = _design(_AFTER_BLOCKS, backwards=False)


class Bridged(NamedTuple):
    """The keys found."""

    at: Index
    """Which of the pieces given."""
    key: Index
    amplitude: Float32
    """`(2, keys)` of row tone and column tone, in the longer piece."""
    before: Index
    """Samples of each that lie before the hole."""


class _Piece(NamedTuple):
    blocks: Index
    energy: Float64
    explained: Float64
    """`(pieces, 16)` by each key."""
    amplitude: Float64
    """`(pieces, 16, 2)`."""
    ends: np.ndarray
    """Whether its far end is in sight."""


def bridge(before: Int16, after: Int16, least_dbm0: float, twist_db: tuple[float, float]) -> Bridged:
    """Looks for keys around holes.

    Args:
        before: `(pieces, BEFORE)` samples right before each hole.
        after: `(pieces, FRAME_SAMPLES)` samples right behind it.
        least_dbm0: level of the weaker tone.
        twist_db: most that the column tone may be below and above the row tone, both positive.
    """
    left = _measure(before[:, ::-1].astype(np.float64), _BEFORE_DESIGN, backwards=True)
    right = _measure(after.astype(np.float64), _AFTER_DESIGN, backwards=False)
    energy = left.energy + right.energy
    explained = (left.explained + right.explained) / np.maximum(energy, 1)[:, None]
    key = explained.argmax(axis=1)
    every = np.arange(len(before))
    longer = (left.blocks >= right.blocks)[:, None]
    amplitude = np.where(longer, left.amplitude[every, key], right.amplitude[every, key])
    twist = 20 * np.log10(np.maximum(amplitude[:, 1], 1e-9) / np.maximum(amplitude[:, 0], 1e-9))
    fits = (left.blocks >= _LEAST_OF_A_PIECE) & (right.blocks >= _LEAST_OF_A_PIECE)
    fits &= (left.blocks + right.blocks >= _LEAST_BLOCKS) & (left.ends | right.ends)
    for piece in (left, right):
        fits &= piece.explained[every, key] >= _EXPLAINED * piece.energy
    fits &= amplitude.min(axis=1) >= AMPLITUDE_0_DBM0 * 10 ** (least_dbm0 / 20)
    fits &= (twist >= -twist_db[0]) & (twist <= twist_db[1])
    at = np.flatnonzero(fits)
    return Bridged(at, key[at], amplitude[at].T.astype(np.float32), left.blocks[at] * _BLOCK)


def _measure(away: Float64, design: _Design, *, backwards: bool) -> _Piece:
    """How far each piece reaches from the hole, and what explains it; `away` runs away from the hole."""
    count, samples = away.shape
    energies = np.square(away).reshape(count, -1, _BLOCK).sum(axis=2)
    inside = energies > _OUTSIDE * energies.max(axis=1, keepdims=True)
    blocks = np.where(inside.all(axis=1), inside.shape[1], inside.argmin(axis=1))
    ends = blocks < inside.shape[1]
    # Of the outermost block the tone may fill a part only.
    blocks = np.where(ends & (blocks > 1), blocks - 1, blocks)
    kept = away * (np.arange(samples) < (blocks * _BLOCK)[:, None])
    onto = (kept[:, ::-1] if backwards else kept) @ design.basis.T
    ours = onto[:, _PAIRS]
    weights = np.einsum("pkij,pkj->pki", design.inverse[blocks], ours)
    explained = np.einsum("pki,pki->pk", weights, ours)
    amplitude = np.hypot(weights[..., :2], weights[..., 2:])
    return _Piece(blocks, np.square(kept).sum(axis=1), explained, amplitude, ends)
