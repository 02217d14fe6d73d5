"""What was received of each leg's stream, as RFC 3550 counts it.

Sequence numbers are followed as in appendix A.1: extended beyond 16 bits, late by a hundred or early by three
thousand at most; a number further away is believed when its successor comes, and then the count starts anew.
Loss is appendix A.3's, without the duplicates: what was sent and never came. Jitter is appendix A.8's, with the
tick as the arrival clock: a difference in transit below one tick may be the clock's own and counts as none, so
that a steady stream has no jitter whatever its ptime.

Packets of one tick come grouped by leg and sorted by sequence, so that each packet's neighbour is the one
before it; `first` marks where groups begin, None says that no leg has two.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int64, UInt16, UInt32, UInt64
from media.columns import ColumnSet
from media.protocol import FRAME_SAMPLES
from media.rtp.arrivals import firsts

MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100
_WINDOW_BITS: Final = 64
_ONE: Final = np.uint64(1)


class Counted(NamedTuple):
    """What the sequence numbers of a batch say."""

    duplicate: Bool
    skips: Bool
    """Numbers are missing between the newest packet before this one and it, or may be."""
    behind: Bool
    """The packet was overtaken by one that came before."""
    jumped: Index
    """Rows whose numbers have moved elsewhere."""


class Counts(ColumnSet):
    """Counters of every leg."""

    FILLS: ClassVar[dict[str, int]] = {"_expected": -1}

    def __init__(self, capacity: int) -> None:
        self.jitter: Float32 = np.zeros(capacity, np.float32)
        """Samples."""
        self.duplicates: Int64 = np.zeros(capacity, np.int64)
        self.first_sequence: Int64 = np.zeros(capacity, np.int64)
        self.highest_sequence: Int64 = np.zeros(capacity, np.int64)
        """Extended: the upper bits count how often the 16 bits wrapped."""
        self.since_start: Int64 = np.zeros(capacity, np.int64)
        """Packets counted since `first_sequence`, without duplicates."""
        self._lost_before: Int64 = np.zeros(capacity, np.int64)
        self._duplicates_before: Int64 = np.zeros(capacity, np.int64)
        self._window: UInt64 = np.zeros(capacity, np.uint64)
        self._transit: UInt32 = np.zeros(capacity, np.uint32)
        self._broken: Bool = np.zeros(capacity, np.bool_)
        self._expected: Int64 = np.full(capacity, -1, np.int64)

    def lost(self, row: int) -> int:
        """Packets that a leg's peer sent and that never came (RFC 3550 A.3, duplicates left out)."""
        return max(0, int(self._lost_before[row]) + int(self._lost_now(np.array([row]))[0]))

    def arrived(self, row: int) -> int:
        """Packets since the count's start as RFC 3550 §6.4.1 wants them, duplicates included."""
        return int(self.since_start[row] + self.duplicates[row] - self._duplicates_before[row])

    def _lost_now(self, rows: Index) -> Int64:
        expected = self.highest_sequence[rows] - self.first_sequence[rows] + 1
        lost: Int64 = np.where(self.since_start[rows] > 0, expected - self.since_start[rows], 0)
        return lost

    def close(self, rows: Index) -> None:
        """Ends a count; what is lost so far stays lost."""
        self._lost_before[rows] += np.maximum(self._lost_now(rows), 0)
        self.since_start[rows] = 0
        self._duplicates_before[rows] = self.duplicates[rows]
        self._window[rows] = 0
        self._expected[rows] = -1

    def start(self, rows: Index, sequence: UInt16, tick: int, timestamp: UInt32) -> None:
        """Starts a count with the packets that are about to be counted; rows occur once."""
        self.close(rows)
        self._broken[rows] = False
        self.first_sequence[rows] = self.highest_sequence[rows] = sequence
        self.rebase(rows, tick, timestamp)

    def rebase(self, rows: Index, tick: int, timestamp: UInt32) -> None:
        """A jump of the timestamp is no jitter."""
        self._transit[rows] = np.uint32(tick * FRAME_SAMPLES & 0xFFFFFFFF) - timestamp

    def order(self, rows: Index, sequence: UInt16) -> Index:
        """The order that groups a batch by leg and sorts each group by sequence."""
        return np.argsort((rows << 16) | (self._steps(rows, sequence) + 0x8000), kind="stable")

    def _steps(self, rows: Index, sequence: UInt16) -> Int64:
        newest = self.highest_sequence[rows].astype(np.uint16)
        return (sequence - newest).view(np.int16).astype(np.int64)

    def count(self, rows: Index, sequence: UInt16, first: Bool | None) -> Counted:
        """Counts packets; see the module for the order in which they come."""
        step = self._steps(rows, sequence)
        wild = (step > MAX_DROPOUT) | (step < -MAX_MISORDER)
        if not wild.any():
            return self._count(rows, step, first)
        jumped = self._jump(rows[wild], sequence[wild])
        duplicate, skips, behind = np.zeros((3, len(rows)), np.bool_)
        skips[:] = True
        steps = self._steps(rows, sequence)
        calm = np.flatnonzero(~wild & (steps <= MAX_DROPOUT) & (steps >= -MAX_MISORDER))
        if calm.size:
            some = rows[calm]
            counted = self._count(some, steps[calm], firsts(some))
            duplicate[calm], skips[calm], behind[calm] = counted[:3]
        return Counted(duplicate, skips, behind, jumped)

    def _count(self, rows: Index, step: Int64, first: Bool | None) -> Counted:
        window = self._window[rows]
        if first is None:
            skips = step != 1
            if not skips.any():
                self._window[rows] = window << _ONE | _ONE
                self.highest_sequence[rows] += 1
                self.since_start[rows] += 1
                return Counted(skips, skips, skips, rows[:0])
            skips = step > 1
            starts = np.arange(len(rows))
            duplicate = np.zeros(len(rows), np.bool_)
            top = np.maximum(step, 0)
            group = starts
        else:
            starts = np.flatnonzero(first)
            group = np.cumsum(first) - 1
            change = np.empty_like(step)
            change[1:] = step[1:] - step[:-1]
            change[starts] = step[starts]
            skips = change > 1
            duplicate = ~first & (change == 0)
            ends = np.append(starts[1:], len(rows)) - 1
            top = np.maximum(step[ends], 0)
        behind = np.clip(-step, 0, _WINDOW_BITS - 1).astype(np.uint64)
        duplicate |= (step <= 0) & (step > -_WINDOW_BITS) & (window >> behind & _ONE != 0)
        back = top[group] - step
        known = back < _WINDOW_BITS
        bits = _ONE << np.where(known, back, 0).astype(np.uint64)
        bits[~known] = 0
        leaders = rows[starts]
        kept = np.where(top < _WINDOW_BITS, top, 0).astype(np.uint64)
        moved = np.where(top < _WINDOW_BITS, window[starts] << kept, np.uint64(0))
        self._window[leaders] = moved | np.bitwise_or.reduceat(bits, starts)
        # The first to come may have overtaken others.
        np.minimum.at(self.first_sequence, rows, self.highest_sequence[rows] + step)
        self.highest_sequence[leaders] += top
        np.add.at(self.since_start, rows, ~duplicate)
        np.add.at(self.duplicates, rows, duplicate)
        return Counted(duplicate, skips, step < 0, rows[:0])

    def unbroken(self, rows: Index, counted: Counted, audio: Bool, first: Bool | None) -> Bool:
        """Whether nothing was lost between each packet of audio and the newest one before it.

        What comes between them, events and comfort noise, shows losses, too: `_broken` keeps them.
        """
        skips = counted.skips
        leading = audio & ~counted.behind
        if first is None:
            follows = ~(skips | self._broken[rows])
            self._broken[rows] = ~follows & ~leading
            return follows
        starts = np.flatnonzero(first)
        group = np.cumsum(first) - 1
        skips = skips.copy()
        skips[starts] |= self._broken[rows[starts]]
        total = np.cumsum(skips)
        before: Int64 = (total - skips)[starts]
        # Skips up to and with the last packet of audio before each one of the group.
        marks = np.maximum.accumulate(np.where(leading, total, -1))
        last = np.concatenate(([-1], marks[:-1]))
        last = np.maximum(last, before[group])
        ends = np.append(starts[1:], len(rows)) - 1
        self._broken[rows[starts]] = total[ends] > np.maximum(marks[ends], before)
        unbroken: Bool = total == last
        return unbroken

    def _jump(self, rows: Index, sequence: UInt16) -> Index:
        """Numbers far from where they should be (A.1: two in a row restart the count)."""
        believed = self._expected[rows] == sequence
        believed[1:] |= (rows[1:] == rows[:-1]) & (sequence[1:] == sequence[:-1] + np.uint16(1))
        self._expected[rows] = sequence + np.uint16(1)
        if not believed.any():
            return rows[:0]
        # The last of each row; the one before it was received, too.
        moved, at = np.unique(rows[believed][::-1], return_index=True)
        newest = sequence[believed][::-1][at].astype(np.int64)
        self.close(moved)
        self.first_sequence[moved] = newest - 1
        self.highest_sequence[moved] = newest
        self.since_start[moved] = 2
        self._window[moved] = 3
        return moved

    def note_transit(self, rows: Index, tick: int, timestamp: UInt32, first: Bool | None) -> None:
        """Jitter of packets that belong to the leg's timeline."""
        transit = np.uint32(tick * FRAME_SAMPLES & 0xFFFFFFFF) - timestamp
        before = self._transit[rows]
        if first is not None:
            before[~first] = transit[np.flatnonzero(~first) - 1]
        change = np.abs((transit - before).view(np.int32)).astype(np.float32)
        change[change < FRAME_SAMPLES] = 0
        self._transit[rows] = transit
        if first is None:
            jitter = self.jitter[rows]
            self.jitter[rows] = jitter + (change - jitter) / 16
            return
        starts = np.flatnonzero(first)
        counts = np.diff(np.append(starts, len(rows)))
        after = np.repeat(counts, counts) - 1 - (np.arange(len(rows)) - np.repeat(starts, counts))
        leaders = rows[starts]
        added = np.add.reduceat(change / 16 * np.power(15 / 16, after), starts)
        self.jitter[leaders] = self.jitter[leaders] * np.power(15 / 16, counts) + added
