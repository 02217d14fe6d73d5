"""A ring of G.711 for each leg, indexed by RTP timestamp.

Each leg has a playing position, `head`, a slot of 20 ms; a packet is filed by how far its timestamp lies ahead
of the timestamp that its leg plays now. Reordering, duplicates, any ptime and silence suppression need nothing
more. `present` says to the millisecond which part of a slot arrived (20 bits of 8 samples). A leg that plays a
frame twice or leaves one out moves its own head and nobody else's.

Where the timeline starts, and when it starts anew, is `media.rtp.stream`'s business.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Bool, Index, Int32, UInt8, UInt32, grown
from media.protocol import FRAME_SAMPLES

SLOTS: Final = 32
_MASK: Final = SLOTS - 1
BLOCK: Final = 8
BLOCKS: Final = FRAME_SAMPLES // BLOCK
FULL: Final = (1 << BLOCKS) - 1
FIRST_HALF: Final = (1 << BLOCKS // 2) - 1
SECOND_HALF: Final = FULL ^ FIRST_HALF
#: Slots ahead of the position that may be filled; the others are what was played.
_AHEAD: Final = SLOTS - 10
#: Packets a tick whose samples lie askew of the blocks; they are moved byte by byte.
MOST_ASKEW: Final = 256


class Ring:
    """`SLOTS` frames of codes for each leg, `(slots, legs, samples)`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.codes: UInt8 = np.zeros((SLOTS, capacity, FRAME_SAMPLES), np.uint8)
        self.present: UInt32 = np.zeros((SLOTS, capacity), np.uint32)
        self.head: Index = np.zeros(capacity, np.intp)
        self._rows: Index = np.arange(capacity)
        self._playing: UInt8 = np.zeros((capacity, FRAME_SAMPLES), np.uint8)

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        self.codes = grown(self.codes, capacity, axis=1)
        self.present = grown(self.present, capacity, axis=1)
        self.head = grown(self.head, capacity)
        self._rows = np.arange(capacity)
        self._playing = grown(self._playing, capacity)
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Overwrites a leg's audio."""
        self.codes[:, row] = 0
        self.present[:, row] = 0
        self._playing[row] = 0

    def forget(self, rows: Index | int) -> None:
        """Nothing of some legs is waiting any more (their timelines start anew)."""
        self.present[:, rows] = 0

    def forget_beyond(self, rows: Index, frames: Index) -> None:
        """Nothing waits any more behind the next few frames; each row once."""
        steps = np.arange(SLOTS)[:, None]
        slots = (self.head[rows] + steps) & _MASK
        beyond = steps >= frames
        self.present[slots[beyond], np.broadcast_to(rows, slots.shape)[beyond]] = 0

    def move(self, rows: Index, frames: Index | int) -> None:
        """Moves playing positions; forwards, what is passed over is given up.

        Args:
            rows: legs, each once.
            frames: by how many slots; at most one forwards.
        """
        forwards = rows[np.broadcast_to(frames, rows.shape) > 0]
        self.present[self.head[forwards], forwards] = 0
        self.head[rows] = (self.head[rows] + frames) & _MASK

    def peek(self, rows: Index, frames: int) -> tuple[UInt8, UInt32]:
        """Codes and presence of what some legs play `frames` ticks from now."""
        slot = (self.head[rows] + frames) & _MASK
        return self.codes[slot, rows], self.present[slot, rows]

    def write(
        self, rows: Index, ahead: Int32, slots: UInt8, packets: Index, offset: Int32, size: Int32
    ) -> Index:
        """Files payloads.

        Args:
            rows: leg of each payload.
            ahead: samples from the leg's playing position to the payload's first; what lies before the
                position or too far behind it is left out.
            slots: the batch, `(packets, bytes)`.
            packets: row of `slots` of each payload.
            offset: where the payload starts.
            size: samples, one byte each.

        Returns:
            Indices of payloads left out because too many of the batch lay askew (`MOST_ASKEW`).
        """
        usual = (size == FRAME_SAMPLES) & (ahead % FRAME_SAMPLES == 0) & (offset == offset[:1]) & (ahead >= 0)
        usual &= ahead <= (_AHEAD - 1) * FRAME_SAMPLES
        if usual.all():
            self._write_frames(rows, ahead, slots, packets, int(offset[0]))
            return rows[:0]
        chosen = np.flatnonzero(usual)
        if chosen.size:
            self._write_frames(rows[chosen], ahead[chosen], slots, packets[chosen], int(offset[0]))
        even = ~usual & ((ahead | offset | size) % BLOCK == 0)
        chosen = np.flatnonzero(even)
        if chosen.size:
            self._write_any(
                rows[chosen], ahead[chosen], slots, packets[chosen], offset[chosen], size[chosen], BLOCK
            )
        askew = np.flatnonzero(~usual & ~even)
        chosen = askew[:MOST_ASKEW]
        if chosen.size:
            self._write_any(
                rows[chosen], ahead[chosen], slots, packets[chosen], offset[chosen], size[chosen], 1
            )
        return askew[MOST_ASKEW:]

    def _write_frames(self, rows: Index, ahead: Int32, slots: UInt8, packets: Index, offset: int) -> None:
        slot = (self.head[rows] + ahead // FRAME_SAMPLES) & _MASK
        place = slot * self.capacity + rows
        flat = self.codes.reshape(-1, FRAME_SAMPLES)
        flat[place] = slots[packets, offset : offset + FRAME_SAMPLES]
        self.present.reshape(-1)[place] = FULL

    def _write_any(
        self,
        rows: Index,
        ahead: Int32,
        slots: UInt8,
        packets: Index,
        offset: Int32,
        size: Int32,
        unit: int,
    ) -> None:
        """Payloads of any length and place, moved in units of `unit` bytes, 1 or `BLOCK`."""
        kind = np.uint64 if unit == BLOCK else np.uint8
        each = FRAME_SAMPLES // unit
        within = np.arange(int(size.max()) // unit)
        position = ahead[:, None] // unit + within
        usable = (within < size[:, None] // unit) & (position >= 0) & (position < _AHEAD * each)
        slot = (self.head[rows][:, None] + position // each) & _MASK
        place = (slot * self.capacity + rows[:, None]) * each + position % each
        start = packets * (slots.shape[1] // unit) + offset // unit
        payload = slots.view(kind).reshape(-1)[(start[:, None] + within)[usable]]
        self.codes.view(kind).reshape(-1)[place[usable]] = payload
        # A block counts as arrived with any of its samples, so that streams askew leave no holes.
        first, last = ahead // BLOCK, (ahead + size - 1) // BLOCK
        slots_on = np.maximum(first // BLOCKS, 0)
        for step in range(int((last // BLOCKS - slots_on).max()) + 1):
            base = (slots_on + step) * BLOCKS
            low = np.clip(first - base, 0, BLOCKS)
            high = np.clip(last + 1 - base, 0, BLOCKS)
            bits = (np.left_shift(1, high) - 1) & ~(np.left_shift(1, low) - 1)
            some = (high > low) & (slots_on + step < _AHEAD)
            owner = ((self.head[rows] + slots_on + step) & _MASK) * self.capacity + rows
            np.bitwise_or.at(self.present.reshape(-1), owner[some], bits[some].astype(np.uint32))

    def play(self, legs: int, held: Index) -> tuple[UInt8, UInt32]:
        """What each leg plays now and which parts of it arrived; positions move on by one slot.

        Args:
            legs: rows in use.
            held: legs whose position stays, and what waits there with it.

        Returns:
            Codes `(legs, samples)`, valid until the next call, and presence `(legs,)`.
        """
        head = self.head[:legs]
        place = head * self.capacity + self._rows[:legs]
        codes = self._playing[:legs]
        self.codes.reshape(-1, FRAME_SAMPLES).take(place, axis=0, out=codes, mode="clip")
        waiting = self.present.reshape(-1)
        present = waiting[place]
        waiting[place] = 0
        head += 1
        head &= _MASK
        if held.size:
            waiting[place[held]] = present[held]
            head[held] = (head[held] - 1) & _MASK
        return codes, present

    def waiting(self, row: int) -> Bool:
        """Which slots of a leg hold anything, from its position on."""
        order = (self.head[row] + np.arange(SLOTS)) & _MASK
        there: Bool = self.present[order, row] != 0
        return there
