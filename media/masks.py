"""The masks of connections, applied: frames of sources in, what their destinations get out.

A `MaskBank` holds the state of every connection of one layer (`media.connections`), at its destination's row, in the
columns of the modes' modules (`media.dsp`). State begins when a mask is set and is drawn anew each time; nothing of
an earlier capture is in it. A mode writes its rows from stocks that no source is part of; what it takes of the source
is said in its module, and only `CLAMP` takes audio.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int16
from media.dsp import beeps, clamp, decoy, mask, scramble

#: Modes with a state for each connection.
STATEFUL: Final = (mask.TONE, mask.SCRAMBLE, mask.CLAMP, mask.DECOY)


class Heard(NamedTuple):
    """What the engine knows of all legs in a tick."""

    pcm: Int16
    """`(legs, FRAME_SAMPLES)` received audio."""
    keyed: Bool
    """`(capacity,)`: legs of which a key came, by whatever way."""
    sound: Bool
    """`(legs,)`: legs whose frame is what the peer sent, all of it, and was not made up."""


class Stocks:
    """Frames that masks draw from, made once for an engine.

    Args:
        rng: makes the noise.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.noise = mask.noise_frames(rng)
        self.beep = beeps.beep_frames()
        self.murmur = scramble.murmur_frames()

    def comfort(self, rows: int, rng: np.random.Generator) -> Int16:
        """Comfort noise, `(rows, FRAME_SAMPLES)`."""
        picks = rng.integers(0, len(self.noise), rows)
        return self.noise.take(picks, axis=0)


class MaskBank:
    """State of the masks of one layer, by destination row.

    Args:
        capacity: rows that there can be.
    """

    def __init__(self, capacity: int) -> None:
        self._beeps = beeps.Beeps(capacity)
        self._murmurs = scramble.Murmurs(capacity)
        self._gate = clamp.Gate(capacity)
        self._line = clamp.DelayLine(capacity)
        self._decoys = decoy.Decoys(capacity)

    def start(self, row: int, mode: int, rng: np.random.Generator, *, beeping: bool) -> None:
        """A connection gets a mask: its state begins anew."""
        if mode == mask.TONE:
            self._beeps.start(row, int(rng.integers(beeps.GRID_TICKS)), allowed=beeping)
        elif mode == mask.SCRAMBLE:
            self._murmurs.start(row, int(rng.integers(scramble.SLOT_TICKS)))
        elif mode == mask.CLAMP:
            self._gate.start(row)
            self._line.start(row)
        elif mode == mask.DECOY:
            self._decoys.start(row, decoy.draw(rng, np.arange(2)))

    def again(self, row: int, mode: int, *, beeping: bool) -> None:
        """The mask that a connection has is set once more."""
        if mode == mask.TONE:
            self._beeps.allow(row, allowed=beeping)

    def clear(self, row: int) -> None:
        """Overwrites what is known of a connection."""
        self._beeps.start(row, 0, allowed=False)
        self._murmurs.start(row, 0)
        self._gate.start(row)
        self._line.start(row)
        self._decoys.clear(row)

    def frames(
        self,
        mode: int,
        rows: Index,
        sources: Index,
        heard: Heard,
        stocks: Stocks,
        rng: np.random.Generator,
    ) -> Int16:
        """What destinations get, `(rows, FRAME_SAMPLES)`; advances their state by one tick.

        Args:
            mode: one of `STATEFUL`.
            rows: destinations.
            sources: the source of each.
            heard: what came from all legs.
            stocks: what masks draw from.
            rng: picks.
        """
        if mode == mask.TONE:
            return self._tone(rows, sources, heard, stocks, rng)
        if mode == mask.SCRAMBLE:
            return self._scramble(rows, sources, heard, stocks, rng)
        if mode == mask.CLAMP:
            return self._clamp(rows, sources, heard, stocks, rng)
        if mode == mask.DECOY:
            begins = decoy.due(self._decoys, rows)
            return decoy.play(self._decoys, rows, begins, decoy.draw(rng, np.nonzero(begins)[1]))
        raise ValueError("a mode without a state")

    def _tone(
        self, rows: Index, sources: Index, heard: Heard, stocks: Stocks, rng: np.random.Generator
    ) -> Int16:
        chosen = beeps.choose(self._beeps, rows, heard.keyed[sources])
        return stocks.comfort(len(rows), rng) + stocks.beep.take(chosen, axis=0)

    def _scramble(
        self, rows: Index, sources: Index, heard: Heard, stocks: Stocks, rng: np.random.Generator
    ) -> Int16:
        pieces = rng.integers(0, scramble.STOCK_FRAMES - scramble.SLOT_TICKS, len(rows))
        frames, keyed, sound = heard.pcm[sources], heard.keyed[sources], heard.sound[sources]
        chosen, audible, begins, ends = scramble.choose(self._murmurs, rows, frames, keyed, sound, pieces)
        murmur = scramble.fade(stocks.murmur.take(chosen, axis=0), audible, begins, ends)
        return murmur + stocks.comfort(len(rows), rng)

    def _clamp(
        self, rows: Index, sources: Index, heard: Heard, stocks: Stocks, rng: np.random.Generator
    ) -> Int16:
        frames, keyed, sound = heard.pcm[sources], heard.keyed[sources], heard.sound[sources]
        audio, passed = clamp.clamp(self._gate, self._line, rows, frames, keyed, sound)
        noise = stocks.comfort(len(rows), rng)
        audio[~passed] = noise[~passed]
        return audio
