"""What each leg receives: its timeline, its ring, and what was counted.

A leg's timeline is born with its first packet: that packet is played `depth` later, and from then on every
tick plays the next 160 timestamps. Packets with the leg's SSRC whose timestamps lie within the ring are
filed by arithmetic on whole columns. The others are looked at one by one, few of them in a tick:

- another SSRC: taken as the new one at its second packet in a row;
- too late or too far ahead: when three ticks in a row brought nothing else, the sender has jumped.

Either way the timeline starts anew at that packet (RFC 3550 §8.2, appendix A.1 do the same for sequence
numbers).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int16, Int32, Int64, UInt8, UInt32, grown
from media.dsp import g711
from media.protocol import FRAME_SAMPLES
from media.rtp.packet import Columns
from media.rtp.ring import FIRST_HALF, FULL, SECOND_HALF, Ring

NO_TYPE: Final = 255
COMFORT_NOISE_TYPE: Final = 13
#: A packet further ahead than this is a jump, or a sender whose clock has run away.
FURTHEST_AHEAD: Final = 300 * 8
STRANGE_TICKS: Final = 3
#: Packets looked at one by one in a tick; a flood beyond that is dropped.
MOST_SLOW: Final = 256
#: Lost frames that are covered by fading repetition before silence.
_FADING_FRAMES: Final = 4
_NO_SSRC: Final = -1


class Events(NamedTuple):
    """The telephone-event packets of a tick: leg rows and indices into the batch."""

    rows: Index
    packets: Index


class Reception(NamedTuple):
    """What is counted of the stream that a leg hears now, for RTCP (RFC 3550 §6.4.1 and A.3)."""

    ssrc: int
    highest_sequence: int
    """Extended by the times that it went round."""
    expected: int
    received: int
    jitter: int
    """In timestamp units."""


class Streams:
    """Receiving side of all legs, one column entry each."""

    def __init__(self, capacity: int, depth_ms: int) -> None:
        self._depth = depth_ms * 8
        self.ring = Ring(capacity)
        self.payload_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.event_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.old_event_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.listening: Bool = np.zeros(capacity, np.bool_)
        self.ssrc: Int64 = np.full(capacity, _NO_SSRC, np.int64)
        self.play_timestamp: UInt32 = np.zeros(capacity, np.uint32)
        self.missed: Int32 = np.zeros(capacity, np.int32)
        self.last_tick: Int64 = np.zeros(capacity, np.int64)
        self.received: Int64 = np.zeros(capacity, np.int64)
        self.late: Int64 = np.zeros(capacity, np.int64)
        self.refused: Int64 = np.zeros(capacity, np.int64)
        self.resyncs: Int64 = np.zeros(capacity, np.int64)
        self.jitter: Float32 = np.zeros(capacity, np.float32)
        self._transit: UInt32 = np.zeros(capacity, np.uint32)
        self._lost_before: Int64 = np.zeros(capacity, np.int64)
        self._first_sequence: Int64 = np.zeros(capacity, np.int64)
        self._last_sequence: Int64 = np.zeros(capacity, np.int64)
        self._since_start: Int64 = np.zeros(capacity, np.int64)
        self._candidate: Int64 = np.full(capacity, _NO_SSRC, np.int64)
        self._strange: Int32 = np.zeros(capacity, np.int32)
        self._strange_tick: Int64 = np.zeros(capacity, np.int64)

    _FILLS: Final = {
        "payload_type": NO_TYPE,
        "event_type": NO_TYPE,
        "old_event_type": NO_TYPE,
        "ssrc": _NO_SSRC,
        "_candidate": _NO_SSRC,
    }

    def _columns(self) -> list[str]:
        return [name for name, value in vars(self).items() if isinstance(value, np.ndarray)]

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        for name in self._columns():
            setattr(self, name, grown(getattr(self, name), capacity, self._FILLS.get(name, 0)))
        self.ring.grow(capacity)

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a leg."""
        for name in self._columns():
            getattr(self, name)[row] = self._FILLS.get(name, 0)
        self.ring.clear(row)

    def restart(self, row: int) -> None:
        """The next packet starts the leg's timeline anew (re-INVITE to another source or law)."""
        self._close_count(row)
        self.ssrc[row] = _NO_SSRC
        self.ring.forget(row)

    def last_sequence(self, row: int) -> int:
        """The highest sequence number of the stream that the leg's `ssrc` names."""
        return int(self._last_sequence[row]) & 0xFFFF

    def lost(self, row: int) -> int:
        """Packets that a leg's peer sent and that never came (RFC 3550 A.3)."""
        return max(0, int(self._lost_before[row]) + self._lost_since_start(row))

    def _lost_since_start(self, row: int) -> int:
        if self.ssrc[row] == _NO_SSRC:
            return 0
        expected = int(self._last_sequence[row] - self._first_sequence[row]) + 1
        return expected - int(self._since_start[row])

    def _close_count(self, row: int) -> None:
        self._lost_before[row] += max(0, self._lost_since_start(row))
        self._since_start[row] = 0

    def reception(self, row: int) -> Reception | None:
        """What RTCP says of a leg's stream; None before its first packet."""
        ssrc = int(self.ssrc[row])
        if ssrc == _NO_SSRC:
            return None
        highest = int(self._last_sequence[row])
        return Reception(
            ssrc,
            highest & 0xFFFFFFFF,
            highest - int(self._first_sequence[row]) + 1,
            int(self._since_start[row]),
            int(self.jitter[row]),
        )

    def receive(self, tick: int, rows: Index, packets: Index, columns: Columns, slots: UInt8) -> Events:
        """Files the audio of packets whose legs are known.

        Args:
            tick: number of this tick.
            rows: leg of each packet.
            packets: index of each packet in the batch and in `columns`.
            columns: headers of the whole batch.
            slots: the batch.

        Returns:
            The telephone-event packets, not looked into.
        """
        if len(packets) == len(columns.valid):
            payload_type, valid, size = columns.payload_type, columns.valid, columns.size
            ssrc, timestamp, sequence = columns.ssrc, columns.timestamp, columns.sequence
        else:
            payload_type, valid, size = (
                columns.payload_type[packets],
                columns.valid[packets],
                columns.size[packets],
            )
            ssrc, timestamp, sequence = (
                columns.ssrc[packets],
                columns.timestamp[packets],
                columns.sequence[packets],
            )
        audio = valid & (payload_type == self.payload_type[rows]) & (size > 0)
        events = np.zeros(0, np.intp)
        known = audio
        if not audio.all():
            event = (payload_type == self.event_type[rows]) | (payload_type == self.old_event_type[rows])
            event &= valid & (payload_type != NO_TYPE)
            known = audio | event | (valid & (payload_type == COMFORT_NOISE_TYPE))
            np.add.at(self.refused, rows[~known], 1)
            events = np.flatnonzero(event & self.listening[rows])
        self.last_tick[rows[known]] = tick
        self.received += np.bincount(rows[known], minlength=len(self.received))
        filed = audio & self.listening[rows]
        same = self.ssrc[rows] == ssrc
        ahead = (timestamp - self.play_timestamp[rows]).view(np.int32)
        fits = same & (ahead > -size) & (ahead <= FURTHEST_AHEAD)
        slow = np.flatnonzero(filed & ~fits)
        if slow.size:
            np.add.at(self.refused, rows[slow[MOST_SLOW:]], 1)
            for at in slow[:MOST_SLOW].tolist():
                self._reconsider(
                    tick, int(rows[at]), int(ssrc[at]), int(timestamp[at]), int(sequence[at]), int(size[at])
                )
            same = self.ssrc[rows] == ssrc
            ahead = (timestamp - self.play_timestamp[rows]).view(np.int32)
            fits = same & (ahead > -size) & (ahead <= FURTHEST_AHEAD)
        chosen = np.flatnonzero(filed & fits)
        if chosen.size:
            self._file(tick, rows[chosen], ahead[chosen], slots, packets[chosen], columns, timestamp[chosen])
        counted = np.flatnonzero(known & same)
        self._count(rows[counted], sequence[counted])
        return Events(rows[events], packets[events])

    def _file(
        self,
        tick: int,
        rows: Index,
        ahead: Int32,
        slots: UInt8,
        packets: Index,
        columns: Columns,
        timestamp: UInt32,
    ) -> None:
        self.ring.write(tick, rows, ahead, slots, packets, columns.offset[packets], columns.size[packets])
        self._strange[rows] = 0
        self._candidate[rows] = _NO_SSRC
        # RFC 3550 A.8, with the tick as arrival time.
        transit = np.uint32(tick * FRAME_SAMPLES & 0xFFFFFFFF) - timestamp
        change = np.abs((transit - self._transit[rows]).view(np.int32)).astype(np.float32)
        jitter = self.jitter[rows]
        self.jitter[rows] = jitter + (change - jitter) / 16
        self._transit[rows] = transit

    def _count(self, rows: Index, sequence: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> None:
        last = self._last_sequence[rows]
        step = (sequence - last.astype(np.uint16)).view(np.int16)
        np.maximum.at(self._last_sequence, rows, last + step)
        self._since_start += np.bincount(rows, minlength=len(self._since_start))

    def _reconsider(self, tick: int, row: int, ssrc: int, timestamp: int, sequence: int, size: int) -> None:
        """One packet that does not fit the leg's timeline."""
        current = int(self.ssrc[row])
        if current == ssrc:
            ahead = (timestamp - int(self.play_timestamp[row]) + 0x80000000) % 0x100000000 - 0x80000000
            if -size < ahead <= FURTHEST_AHEAD:
                return
            self.late[row] += ahead <= -size
            if self._strange_tick[row] != tick:
                self._strange_tick[row] = tick
                self._strange[row] += 1
            if self._strange[row] < STRANGE_TICKS:
                return
        elif current != _NO_SSRC and self._candidate[row] != ssrc:
            self._candidate[row] = ssrc
            return
        self._start(tick, row, ssrc, timestamp, sequence)

    def _start(self, tick: int, row: int, ssrc: int, timestamp: int, sequence: int) -> None:
        self._close_count(row)
        self.resyncs[row] += self.ssrc[row] != _NO_SSRC
        self.ssrc[row] = ssrc
        self.play_timestamp[row] = (timestamp - self._depth) & 0xFFFFFFFF
        self._first_sequence[row] = self._last_sequence[row] = sequence
        self._transit[row] = (tick * FRAME_SAMPLES - timestamp) & 0xFFFFFFFF
        self._strange[row] = 0
        self._candidate[row] = _NO_SSRC
        self.ring.forget(row)

    def play(self, tick: int, legs: int, alaw_rows: Index, pcm: Int16, previous: Int16) -> tuple[Bool, Bool]:
        """Decodes what each leg plays in this tick and moves the timelines on.

        Args:
            tick: number of this tick.
            legs: rows in use.
            alaw_rows: legs with A-law.
            pcm: `(legs, samples)` to fill. What did not arrive is the fading last frame, then silence.
            previous: what `pcm` was in the tick before.

        Returns:
            For each half of the frame, which legs' audio arrived whole.
        """
        codes, present = self.ring.play(tick, legs)
        g711.decode(codes, alaw_rows, pcm)
        self.play_timestamp[:legs] += np.uint32(FRAME_SAMPLES)
        whole = present == FULL
        missed = self.missed[:legs]
        np.copyto(missed, 0, where=whole)
        bad = np.flatnonzero(~whole)
        if not bad.size:
            return whole, whole
        faded = (previous[bad] >> 1) * (missed[bad] < _FADING_FRAMES)[:, None].astype(np.int16)
        missed[bad] = np.minimum(missed[bad] + 1, 1000)
        bits = present[bad]
        if bits.any():
            there = (bits[:, None] >> np.arange(20, dtype=np.uint32) & 1).astype(np.bool_)
            pcm[bad] = np.where(there.repeat(8, axis=1), pcm[bad], faded)
        else:
            pcm[bad] = faded
        return present & FIRST_HALF == FIRST_HALF, present & SECOND_HALF == SECOND_HALF
