"""A ring of G.711 for each leg, indexed by RTP timestamp.

All legs play the same slot in the same tick: slot `tick % SLOTS` holds what each leg plays in `tick`, and a
packet is filed by how far its timestamp lies ahead of the timestamp that its leg plays now. Reordering,
duplicates, any ptime and silence suppression need nothing more. `present` says to the millisecond which
part of a slot arrived (20 bits of 8 samples).

Where the timeline starts, and when it starts anew, is `media.rtp.stream`'s business.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Index, Int32, UInt8, UInt32, grown
from media.protocol import FRAME_SAMPLES

SLOTS: Final = 32
BLOCK: Final = 8
FULL: Final = (1 << FRAME_SAMPLES // BLOCK) - 1
FIRST_HALF: Final = (1 << FRAME_SAMPLES // BLOCK // 2) - 1
SECOND_HALF: Final = FULL ^ FIRST_HALF


class Ring:
    """`SLOTS` frames of codes for each leg, `(slots, legs, samples)`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.codes: UInt8 = np.zeros((SLOTS, capacity, FRAME_SAMPLES), np.uint8)
        self.present: UInt32 = np.zeros((SLOTS, capacity), np.uint32)

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        self.codes = grown(self.codes, capacity, axis=1)
        self.present = grown(self.present, capacity, axis=1)
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Overwrites a leg's audio."""
        self.codes[:, row] = 0
        self.present[:, row] = 0

    def forget(self, row: int) -> None:
        """Nothing of a leg is waiting any more (its timeline starts anew)."""
        self.present[:, row] = 0

    def write(
        self, tick: int, rows: Index, ahead: Int32, slots: UInt8, packets: Index, offset: Int32, size: Int32
    ) -> None:
        """Files payloads.

        Args:
            tick: the slot that is played now is `tick % SLOTS`.
            rows: leg of each payload.
            ahead: samples from the leg's playing position to the payload's first; what lies before the
                position or too far behind it is left out.
            slots: the batch, `(packets, bytes)`.
            packets: row of `slots` of each payload.
            offset: where the payload starts.
            size: samples, one byte each.
        """
        usual = (size == FRAME_SAMPLES) & (ahead % FRAME_SAMPLES == 0) & (offset == offset[:1]) & (ahead >= 0)
        usual &= ahead <= (SLOTS - 2) * FRAME_SAMPLES
        if usual.all():
            self._write_frames(tick, rows, ahead, slots, packets, int(offset[0]))
            return
        chosen = np.flatnonzero(usual)
        if chosen.size:
            start = int(offset[0])
            self._write_frames(tick, rows[chosen], ahead[chosen], slots, packets[chosen], start)
        for length in np.unique(size[~usual]):
            if length > 0:
                some = np.flatnonzero(~usual & (size == length))
                self._write_any(
                    tick, rows[some], ahead[some], slots, packets[some], offset[some], int(length)
                )

    def _write_frames(
        self, tick: int, rows: Index, ahead: Int32, slots: UInt8, packets: Index, offset: int
    ) -> None:
        slot = (tick + ahead // FRAME_SAMPLES) % SLOTS
        place = slot * self.capacity + rows
        flat = self.codes.reshape(-1, FRAME_SAMPLES)
        flat[place] = slots[packets, offset : offset + FRAME_SAMPLES]
        self.present.reshape(-1)[place] = FULL

    def _write_any(
        self, tick: int, rows: Index, ahead: Int32, slots: UInt8, packets: Index, offset: Int32, length: int
    ) -> None:
        within = np.arange(length, dtype=np.int32)
        position = ahead[:, None] + within
        slot = (tick + position // FRAME_SAMPLES) % SLOTS
        sample = position % FRAME_SAMPLES
        usable = (position >= 0) & (position < (SLOTS - 1) * FRAME_SAMPLES)
        place = (slot * self.capacity + rows[:, None]) * FRAME_SAMPLES + sample
        payload = slots[packets[:, None], offset[:, None] + within]
        self.codes.reshape(-1)[place[usable]] = payload[usable]
        # A block counts as arrived with its first sample, so that streams off our grid leave no holes.
        marks = usable & ((sample % BLOCK == 0) | (within == 0))
        bits = np.left_shift(np.uint32(1), (sample[marks] // BLOCK).astype(np.uint32))
        owner = np.broadcast_to(rows[:, None], position.shape)[marks]
        np.bitwise_or.at(self.present.reshape(-1), slot[marks] * self.capacity + owner, bits)

    def play(self, tick: int, legs: int) -> tuple[UInt8, UInt32]:
        """The codes of this tick and which parts of them arrived; the slot is free from now on."""
        slot = tick % SLOTS
        codes = self.codes[slot, :legs]
        present = self.present[slot, :legs].copy()
        self.present[slot, :legs] = 0
        return codes, present
