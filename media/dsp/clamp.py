"""The mask `clamp`, and the gate that `scramble` shares: a frame leaves only when no key is in it, before or after it.

Frames wait in a delay line of `DELAY` frames. When one leaves, `DELAY` newer frames have been looked at by
`media.dsp.tonelike`, which is more than the run-in of any detector; it passes if none of them, itself and none of the
`AFTER` frames that left before it was suspicious. Otherwise noise stands in its place. So neither the onset of a key
nor its tail crosses, however short the part of it is that lies in a frame.

Audio that was made up for a lost packet is never passed, nor are the frames at either side of it: they may end
in a part of a key too short to be seen. A press that came as telephone-event closes the gate for `KEY_TICKS`: a
gateway that cuts the tone out of the audio leaves up to 40 ms of it, which plays as late as the jitter buffer is deep.

A gate starts closed: everything that it has not seen counts as suspicious.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Bool, Float32, Index, Int16, UInt32
from media.dsp import tonelike
from media.protocol import FRAME_SAMPLES, TICK_MS

#: Frames that a frame waits: 80 ms.
DELAY: Final = 4
AFTER: Final = 3
#: The deepest jitter buffer is 200 ms, and a remnant 40 ms.
KEY_TICKS: Final = 240 // TICK_MS
#: Ticks after a key in which less is suspicious already.
ALERT_TICKS: Final = 3_000 // TICK_MS

_EVERYTHING: Final = 0xFFFFFFFF
_LOOKED_AT: Final = np.uint32((1 << (DELAY + AFTER + 1)) - 1)
_BESIDE: Final = np.uint32(0b111 << (DELAY - 1))


class Gate:
    """What was suspicious of late, by row; bit n of a history is the frame of n ticks ago."""

    def __init__(self, capacity: int) -> None:
        self.tones: UInt32 = np.full(capacity, _EVERYTHING, np.uint32)
        self.holes: UInt32 = np.full(capacity, _EVERYTHING, np.uint32)
        self.closed: Int16 = np.zeros(capacity, np.int16)
        """Ticks for which a key keeps the gate closed."""
        self.alert: Int16 = np.zeros(capacity, np.int16)
        self._samples = tonelike.ToneLike(capacity)

    def start(self, row: int) -> None:
        """A connection gets the mask: closed."""
        self.tones[row] = self.holes[row] = _EVERYTHING
        self.closed[row] = 0
        self.alert[row] = 0
        self._samples.clear(row)

    def advance(self, rows: Index, frames: Int16, keyed: Bool, sound: Bool) -> tuple[Bool, Float32]:
        """Takes a frame of each row.

        Args:
            rows: which.
            frames: `(rows, FRAME_SAMPLES)`, theirs.
            keyed: which of them had a key in this tick.
            sound: which frames are what the peer sent.

        Returns:
            Which rows' frames of `DELAY` ticks ago may leave, and the mean square of each new one's last 10 ms.
        """
        suspicious, loudness = tonelike.look(self._samples, rows, frames, self.alert[rows] > 0)
        closed = np.where(keyed, KEY_TICKS, self.closed[rows])
        suspicious |= closed > 0
        self.closed[rows] = np.maximum(closed - 1, 0)
        self.alert[rows] = np.where(keyed, ALERT_TICKS, np.maximum(self.alert[rows] - 1, 0))
        tones = self.tones[rows] << np.uint32(1) | suspicious
        holes = self.holes[rows] << np.uint32(1) | ~sound
        self.tones[rows], self.holes[rows] = tones, holes
        may: Bool = ((tones & _LOOKED_AT) == 0) & ((holes & _BESIDE) == 0)
        return may, loudness


class DelayLine:
    """Frames on their way, `(DELAY + 1, capacity, FRAME_SAMPLES)`."""

    def __init__(self, capacity: int) -> None:
        self.frames: Int16 = np.zeros((DELAY + 1, capacity, FRAME_SAMPLES), np.int16)
        self._at = 0

    def start(self, row: int) -> None:
        """Overwrites what waits."""
        self.frames[:, row] = 0

    def advance(self, rows: Index, frames: Int16) -> Int16:
        """Takes a frame of each row and gives the one of `DELAY` ticks ago, which may not be for anybody's ears."""
        self._at = (self._at + 1) % (DELAY + 1)
        self.frames[self._at, rows] = frames
        leaving: Int16 = self.frames[(self._at + 1) % (DELAY + 1)].take(rows, axis=0)
        return leaving


def clamp(
    gate: Gate, line: DelayLine, rows: Index, frames: Int16, keyed: Bool, sound: Bool
) -> tuple[Int16, Bool]:
    """One frame of connections in mode `clamp`.

    Args:
        gate: changed in place.
        line: changed in place; to be called in every tick.
        rows: of the connections.
        frames: `(rows, FRAME_SAMPLES)` of their sources.
        keyed: which sources had a key in this tick.
        sound: which frames are what the peer sent.

    Returns:
        What passes, zero where nothing may, and which rows something passed of.
    """
    may, _ = gate.advance(rows, frames, keyed, sound)
    leaving = line.advance(rows, frames)
    leaving *= may[:, None]
    return leaving, may
