"""The mask `scramble`: that somebody speaks, and nothing of what is said.

Nothing of the source's waveform or spectrum crosses, so there is nothing that could be put in order again. Out of
400 ms of the source comes one bit: was there a voice? It counts frames that are loud, are what the peer sent, and
have passed the gate of `media.dsp.clamp`: a key counts as silence, with all that lies around it. The bit is on for
`HOLD` slots after the last voice, and comes on some slots late. While it is on, a murmur plays that is put together of
random pieces of a stock known to everybody; which pieces is drawn slot by slot and forgotten. As the bit holds on
through words and pauses, that is less than one bit in three seconds.

State is a row of `Murmurs`.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from media.arrays import Bool, Float64, Index, Int8, Int16, UInt32
from media.dsp.clamp import DELAY, Gate
from media.dsp.mask import rms_of
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ, TICK_MS

SLOT_TICKS: Final = 400 // TICK_MS
#: Slots for which a voice is believed to go on: longer than words and keys between words, or their rhythm would show.
HOLD: Final = 8
#: A voice that begins is heard up to so many slots later, at random: how soon it is loud tells something of its word.
MOST_WAIT: Final = 4
#: Frames of a slot that have to be loud.
_LEAST_FRAMES: Final = 3
LOUD_DBM0: Final = -38.0
LEVEL_DBM0: Final = -24.0
STOCK_FRAMES: Final = 500
_LOUD: Final = rms_of(LOUD_DBM0) ** 2
_EDGE: Final = np.linspace(0, 1, FRAME_SAMPLES, dtype=np.float32)


@functools.cache
def murmur_frames() -> Int16:
    """The stock, `(STOCK_FRAMES, FRAME_SAMPLES)`: a voice without words, the same in every process.

    Harmonics of a wandering pitch under formants that glide from one random vowel to the next, with the rhythm of
    syllables.
    """
    rng = np.random.default_rng(1876)
    samples = STOCK_FRAMES * FRAME_SAMPLES
    knots = np.linspace(0, samples, STOCK_FRAMES // 9)
    at = np.arange(samples)

    def glide(low: float, high: float) -> Float64:
        return np.interp(at, knots, rng.uniform(low, high, len(knots)))

    pitch, first, second = glide(105, 175), glide(280, 760), glide(850, 2100)
    turns = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    wave = np.zeros(samples)
    for harmonic in range(1, 27):
        hz = harmonic * pitch
        gain = np.exp(-(((hz - first) / 130) ** 2)) + 0.5 * np.exp(-(((hz - second) / 170) ** 2))
        gain = gain + 0.15 * np.exp(-(((hz - 2600) / 250) ** 2)) + 0.04
        wave += gain * np.where(hz < 3300, np.sin(harmonic * turns + rng.uniform(0, 2 * np.pi)), 0)
    syllable = np.interp(at, knots, rng.uniform(0.25, 1, len(knots))) * (
        0.65 + 0.35 * np.sin(2 * np.pi * np.cumsum(glide(3, 5.5)) / SAMPLE_RATE_HZ)
    )
    wave *= syllable
    wave *= rms_of(LEVEL_DBM0) / wave.std()
    stock: Int16 = np.rint(wave).astype(np.int16).reshape(STOCK_FRAMES, FRAME_SAMPLES)
    stock.setflags(write=False)
    return stock


class Murmurs:
    """Slots of connections, one row each."""

    def __init__(self, capacity: int) -> None:
        self.gate = Gate(capacity)
        self.loud: UInt32 = np.zeros(capacity, np.uint32)
        self.phase: Int8 = np.zeros(capacity, np.int8)
        self.count: Int8 = np.zeros(capacity, np.int8)
        self.left: Int8 = np.zeros(capacity, np.int8)
        """Slots for which the murmur goes on."""
        self.wait: Int8 = np.zeros(capacity, np.int8)
        """Slots until a voice that has begun is heard."""
        self.piece: Int16 = np.zeros(capacity, np.int16)

    def start(self, row: int, phase: int) -> None:
        """A connection gets the mask; `phase` of its slots is drawn at random, 0 to `SLOT_TICKS` - 1."""
        self.gate.start(row)
        self.phase[row] = phase
        self.loud[row] = 0
        self.count[row] = self.left[row] = self.wait[row] = 0
        self.piece[row] = 0


def choose(
    state: Murmurs, rows: Index, frames: Int16, keyed: Bool, sound: Bool, pieces: Index
) -> tuple[Index, Bool, Bool, Bool]:
    """Advances connections by one tick.

    Args:
        state: changed in place.
        rows: of the connections.
        frames: `(rows, FRAME_SAMPLES)` of their sources.
        keyed: which sources had a key in this tick.
        sound: which frames are what the peer sent.
        pieces: for each connection a random number below `STOCK_FRAMES` - `SLOT_TICKS`; a slot that begins uses it.

    Returns:
        For each connection its frame of `murmur_frames`; whether it is heard; whether it begins a slot; ends one.
    """
    may, loudness = state.gate.advance(rows, frames, keyed, sound)
    loud = state.loud[rows] << np.uint32(1) | (loudness > _LOUD)
    state.loud[rows] = loud
    counted = state.count[rows] + (may & ((loud >> np.uint32(DELAY) & np.uint32(1)) > 0))
    phase = (state.phase[rows] + 1) % SLOT_TICKS
    begins = phase == 0
    left, wait = state.left[rows], state.wait[rows]
    voice = counted >= _LEAST_FRAMES
    wait = np.where(
        begins, np.where(voice & (left == 0), pieces % (MOST_WAIT + 1), np.maximum(wait - 1, 0)), wait
    )
    left = np.where(begins, np.where(voice, HOLD, np.maximum(left - 1, 0)), left)
    piece = np.where(begins, pieces, state.piece[rows])
    state.count[rows] = np.where(begins, 0, counted)
    state.phase[rows], state.left[rows], state.wait[rows], state.piece[rows] = phase, left, wait, piece
    chosen: Index = (piece + phase).astype(np.intp)
    return chosen, (left > 0) & (wait == 0), begins, phase == SLOT_TICKS - 1


def fade(murmur: Int16, heard: Bool, begins: Bool, ends: Bool) -> Int16:
    """Frames of the stock as `choose` says: those that are not heard silent, those at the edges of a slot faded."""
    murmur *= heard[:, None]
    for edge, gain in ((begins & heard, _EDGE), (ends & heard, _EDGE[::-1])):
        if edge.any():
            murmur[edge] = (murmur[edge] * gain).astype(np.int16)
    return murmur
