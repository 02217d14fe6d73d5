"""What each leg receives: its timeline, its ring, and what was counted.

A leg's timeline is born with its first packet: that packet is played `depth` later, and from then on every
tick plays the next 160 timestamps, but for the ticks in which the depth changes (`media.rtp.depth`). Packets
with the leg's SSRC whose timestamps lie within the ring are filed by arithmetic on whole columns. The others are
few:

- another SSRC is taken as the new one at its second packet in a row (RFC 3550 §8.2); these packets are looked
  at one by one, a few of each leg and a bounded number in a tick;
- a packet whose turn has passed is played yet, when nothing real was played since: the timeline goes back;
- too late or too far ahead, three times in a row over two ticks with nothing that fits: the sender has jumped, and
  the timeline starts anew there.

Timestamps stay the sender's through all of this: `play_timestamp` is what the leg plays in the coming tick.

A tick takes `MOST_OF_A_LEG` packets of a leg. Whatever a peer sends, it costs its own leg only.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int16, Int32, Int64, UInt8, UInt32
from media.columns import ColumnSet
from media.protocol import FRAME_SAMPLES
from media.rtp.arrivals import Arrivals, bounded, firsts
from media.rtp.counts import Counts
from media.rtp.depth import LEAST_DEPTH, MOST_DEPTH, WINDOW_TICKS, Depth
from media.rtp.packet import Columns
from media.rtp.playout import Playout
from media.rtp.ring import Ring
from media.rtp.sockets import BATCH

NO_TYPE: Final = 255
COMFORT_NOISE_TYPE: Final = 13
#: A packet further ahead than this is a jump, or a sender whose clock has run away.
FURTHEST_AHEAD: Final = 300 * 8
#: Packets in a row that do not fit, before the timeline starts anew.
STRANGE_PACKETS: Final = 3
_STRANGE_TICKS: Final = 2
#: Packets of one leg in a tick: 240 ms at a ptime of 10 ms. The rest is dropped.
MOST_OF_A_LEG: Final = 24
#: Packets with another SSRC looked at in a tick, of one leg and of all.
_MOST_STRANGERS_OF_A_LEG: Final = 4
MOST_SLOW: Final = 256
#: Frames by which a timeline goes back for a late packet: after a longer hole the detector has let go of a key.
_MOST_RESCUED: Final = 6
_NO_SSRC: Final = -1
_NUMBERS: Final = np.arange(BATCH, dtype=np.int32)


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


class Streams(ColumnSet):
    """Receiving side of all legs, one column entry each.

    Args:
        capacity: rows to have room for at first.
        depth_ms: depth of a leg of which nothing is known yet.
    """

    FILLS: ClassVar[dict[str, int]] = {
        "payload_type": NO_TYPE,
        "event_type": NO_TYPE,
        "old_event_type": NO_TYPE,
        "ssrc": _NO_SSRC,
        "_candidate": _NO_SSRC,
        "_strange_tick": -1,
    }

    def __init__(self, capacity: int, depth_ms: int) -> None:
        frames = round(depth_ms * 8 / FRAME_SAMPLES)
        self._first_depth = min(max(frames * FRAME_SAMPLES, LEAST_DEPTH), MOST_DEPTH)
        self.ring = Ring(capacity)
        self.counts = Counts(capacity)
        self.depth = Depth(capacity)
        self.playout = Playout(capacity)
        self.payload_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.event_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.old_event_type: UInt8 = np.full(capacity, NO_TYPE, np.uint8)
        self.comfort_noise: Bool = np.zeros(capacity, np.bool_)
        self.listening: Bool = np.zeros(capacity, np.bool_)
        self.ssrc: Int64 = np.full(capacity, _NO_SSRC, np.int64)
        self.play_timestamp: UInt32 = np.zeros(capacity, np.uint32)
        self.last_tick: Int64 = np.zeros(capacity, np.int64)
        self.received: Int64 = np.zeros(capacity, np.int64)
        self.late: Int64 = np.zeros(capacity, np.int64)
        self.refused: Int64 = np.zeros(capacity, np.int64)
        self.resyncs: Int64 = np.zeros(capacity, np.int64)
        self._next_timestamp: UInt32 = np.zeros(capacity, np.uint32)
        self._candidate: Int64 = np.full(capacity, _NO_SSRC, np.int64)
        self._strange: Int32 = np.zeros(capacity, np.int32)
        self._strange_ticks: Int32 = np.zeros(capacity, np.int32)
        self._strange_tick: Int64 = np.full(capacity, -1, np.int64)
        self._suspicious = False
        """Whether any leg has packets that did not fit, or a candidate."""
        self._scratch: Int32 = np.zeros(capacity, np.int32)

    @property
    def jitter(self) -> Float32:
        """RFC 3550 A.8, samples."""
        return self.counts.jitter

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        super().grow(capacity)
        for part in (self.ring, self.counts, self.depth, self.playout):
            part.grow(capacity)

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a leg."""
        super().clear(row)
        for part in (self.ring, self.counts, self.depth, self.playout):
            part.clear(row)

    def restart(self, row: int) -> None:
        """The next packet starts the leg's timeline anew (re-INVITE to another source or law)."""
        rows = np.array([row])
        self.counts.close(rows)
        self.playout.start(rows)
        self.depth.wait[row] = 0
        self.ssrc[row] = _NO_SSRC
        self.ring.forget(row)

    def last_sequence(self, row: int) -> int:
        """The highest sequence number of the stream that the leg's `ssrc` names."""
        return int(self.counts.highest_sequence[row]) & 0xFFFF

    def lost(self, row: int) -> int:
        """Packets that a leg's peer sent and that never came (RFC 3550 A.3)."""
        return self.counts.lost(row)

    def reception(self, row: int) -> Reception | None:
        """What RTCP says of a leg's stream; None before its first packet."""
        ssrc = int(self.ssrc[row])
        if ssrc == _NO_SSRC:
            return None
        highest = int(self.counts.highest_sequence[row])
        return Reception(
            ssrc,
            highest & 0xFFFFFFFF,
            highest - int(self.counts.first_sequence[row]) + 1,
            self.counts.arrived(row),
            int(self.jitter[row]),
        )

    def now(self, row: int) -> int:
        """The timestamp, on the leg's timeline, of what its peer sends now, as far as is known."""
        return (int(self.play_timestamp[row]) + int(self.depth.wait[row])) & 0xFFFFFFFF

    # Receiving

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
        number = _NUMBERS[: len(rows)]
        self._scratch[rows] = number
        distinct = bool((self._scratch[rows] == number).all())
        if not distinct:
            kept = bounded(rows, MOST_OF_A_LEG)
            if not kept.all():
                np.add.at(self.refused, rows[~kept], 1)
                rows, packets = rows[kept], packets[kept]
        every = len(packets) == len(columns.valid)
        valid = columns.valid if every else columns.valid[packets]
        payload_type = columns.payload_type if every else columns.payload_type[packets]
        come = Arrivals(
            rows,
            packets,
            columns.ssrc if every else columns.ssrc[packets],
            columns.sequence if every else columns.sequence[packets],
            columns.timestamp if every else columns.timestamp[packets],
            columns.size if every else columns.size[packets],
        )
        audio = valid & (payload_type == self.payload_type[rows]) & (come.size > 0)
        events = Events(rows[:0], packets[:0])
        noise = None
        if not audio.all():
            event = (payload_type == self.event_type[rows]) | (payload_type == self.old_event_type[rows])
            event &= valid & (payload_type != NO_TYPE)
            noise = valid & (payload_type == COMFORT_NOISE_TYPE) & ~audio
            known = audio | event | noise
            np.add.at(self.refused, rows[~known], 1)
            heard = np.flatnonzero(event & self.listening[rows])
            events = Events(rows[heard], packets[heard])
            come, audio, noise = come.only(known), audio[known], noise[known]
            rows = come.rows
        if not rows.size:
            return events
        self.last_tick[rows] = tick
        self.received += np.bincount(rows, minlength=len(self.received))
        same = self.ssrc[rows] == come.ssrc
        strangers = audio & ~same & self.listening[rows]
        if strangers.any():
            self._meet(tick, come, np.flatnonzero(strangers))
            same = self.ssrc[rows] == come.ssrc
        if not same.all():
            come, audio = come.only(same), audio[same]
            noise = None if noise is None else noise[same]
        first = None
        if not distinct and come.rows.size:
            order = self.counts.order(come.rows, come.sequence)
            come, audio = come.only(order), audio[order]
            noise = None if noise is None else noise[order]
            first = firsts(come.rows)
        if come.rows.size:
            self._take(tick, come, audio, noise, first, columns, slots)
        return events

    def _take(
        self,
        tick: int,
        come: Arrivals,
        audio: Bool,
        noise: Bool | None,
        first: Bool | None,
        columns: Columns,
        slots: UInt8,
    ) -> None:
        """Packets of the streams that are known, whatever they hold."""
        counted = self.counts.count(come.rows, come.sequence, first)
        jumped = counted.jumped
        resyncs = self.resyncs[jumped]
        if noise is not None and noise.any():
            self._take_noise(come.only(noise & ~counted.duplicate), columns, slots)
        useful = audio & ~counted.duplicate & self.listening[come.rows]
        follows, behind = self.counts.unbroken(come.rows, counted, useful, first), counted.behind
        if not useful.all():
            come, follows, behind = come.only(useful), follows[useful], behind[useful]
            first = None if first is None else firsts(come.rows)
        if come.rows.size:
            self._take_audio(tick, come, follows, behind, first, columns, slots)
        # Where the timestamps jumped with the numbers, they say so when they are believed.
        self.resyncs[jumped] += (self._strange[jumped] == 0) & (self.resyncs[jumped] == resyncs)

    def _take_audio(
        self,
        tick: int,
        come: Arrivals,
        follows: Bool,
        behind: Bool,
        first: Bool | None,
        columns: Columns,
        slots: UInt8,
    ) -> None:
        ahead = (come.timestamp - self.play_timestamp[come.rows]).view(np.int32)
        if (ahead < 0).any():
            ahead = self._rescue(come.rows, ahead)
        fits = (ahead > -come.size) & (ahead <= FURTHEST_AHEAD)
        if not fits.all():
            fits, ahead = self._doubt(tick, come, ahead, fits, behind)
            come, ahead, follows = come.only(fits), ahead[fits], follows[fits]
            if not come.rows.size:
                return
            first = None if first is None else firsts(come.rows)
        self._file(tick, come, ahead, follows, first, columns, slots)

    def _take_noise(self, come: Arrivals, columns: Columns, slots: UInt8) -> None:
        """RFC 3389 §4: the first byte is the level. Where it was not negotiated it is plain silence."""
        if not come.rows.size:
            return
        sized = come.size > 0
        level = slots[come.packets, np.where(sized, columns.offset[come.packets], 0)] & 0x7F
        level[~sized | ~self.comfort_noise[come.rows]] = 0x7F
        self.playout.comfort_noise(come.rows, come.timestamp, level.astype(np.int32))

    def _file(
        self,
        tick: int,
        come: Arrivals,
        ahead: Int32,
        follows: Bool,
        first: Bool | None,
        columns: Columns,
        slots: UInt8,
    ) -> None:
        rows, timestamp = come.rows, come.timestamp
        left = self.ring.write(rows, ahead, slots, come.packets, columns.offset[come.packets], come.size)
        if left.size:
            np.add.at(self.refused, rows[left], 1)
        if self._suspicious:
            self._strange[rows] = self._strange_ticks[rows] = 0
            self._candidate[rows] = _NO_SSRC
            self._suspicious = bool(self._strange.any() or (self._candidate != _NO_SSRC).any())
        self.counts.note_transit(rows, tick, timestamp, first)
        self.depth.note(rows, ahead, distinct=first is None)
        self.playout.speak(rows, timestamp)
        end = timestamp + come.size.astype(np.uint32)
        before = self._next_timestamp[rows]
        if first is not None:
            within = np.flatnonzero(~first)
            before[within] = end[within - 1]
        gap = (timestamp - before).view(np.int32)
        resumed = np.flatnonzero(follows & (gap > 0))
        if resumed.size:
            self.playout.suppressed(rows[resumed], before[resumed], timestamp[resumed])
        newest = (end - self._next_timestamp[rows]).view(np.int32) > 0
        if newest.all():
            self._next_timestamp[rows] = end
        else:
            self._next_timestamp[rows[newest]] = end[newest]

    # What does not fit

    def _meet(self, tick: int, come: Arrivals, strangers: Index) -> None:
        """Audio with another SSRC than the leg's: the first of all, or a new one."""
        self._suspicious = True
        rows = come.rows[strangers]
        unborn = strangers[self.ssrc[rows] == _NO_SSRC]
        if unborn.size:
            born, at = np.unique(come.rows[unborn], return_index=True)
            self._begin(tick, born, come.only(unborn[at]))
            strangers = strangers[self.ssrc[rows] != come.ssrc[strangers]]
            rows = come.rows[strangers]
        # In turn, so that no leg's flood keeps another leg waiting for ever.
        few = np.flatnonzero(bounded(rows, _MOST_STRANGERS_OF_A_LEG))
        chosen = np.roll(few, -tick * MOST_SLOW)[:MOST_SLOW]
        looked = np.zeros(len(rows), np.bool_)
        looked[chosen] = True
        np.add.at(self.refused, rows[~looked], 1)
        for at in strangers[np.sort(chosen)].tolist():
            row, ssrc = int(come.rows[at]), int(come.ssrc[at])
            if self.ssrc[row] == ssrc:
                continue
            if self._candidate[row] != ssrc:
                self._candidate[row] = ssrc
                continue
            self.resyncs[row] += 1
            self._begin(tick, np.array([row]), come.only(np.array([at])))

    def _begin(self, tick: int, rows: Index, come: Arrivals) -> None:
        """New streams; rows occur once."""
        self.ssrc[rows] = come.ssrc
        self.counts.start(rows, come.sequence, tick, come.timestamp)
        self._place(rows, come.timestamp)

    def _place(self, rows: Index, timestamp: UInt32) -> None:
        """Timelines start anew, as deep as is known to be needed."""
        learned = np.rint(self.depth.wait[rows] / FRAME_SAMPLES) * FRAME_SAMPLES
        wanted = np.where(learned > 0, np.clip(learned, LEAST_DEPTH, MOST_DEPTH), self._first_depth)
        self.play_timestamp[rows] = timestamp - wanted.astype(np.uint32)
        self._next_timestamp[rows] = timestamp
        # What still waits is played first: the new begins where the old ends.
        self.ring.forget_beyond(rows, (wanted // FRAME_SAMPLES).astype(np.intp))
        self.depth.start(rows, wanted.astype(np.float32))
        self.playout.start(rows)
        self._strange[rows] = self._strange_ticks[rows] = 0
        self._candidate[rows] = _NO_SSRC

    def _rescue(self, rows: Index, ahead: Int32) -> Int32:
        """Goes back for late packets where nothing real was played since their turn."""
        late = np.flatnonzero(ahead < 0)
        some = rows[late]
        frames = -(ahead[late] // FRAME_SAMPLES)
        able = np.minimum(np.minimum(self.playout.missed[some], self.depth.room(some)), _MOST_RESCUED)
        saved = frames <= able
        if not saved.any():
            return ahead
        again = np.unique(some[saved])
        self._scratch[rows] = 0
        np.maximum.at(self._scratch, some[saved], frames[saved])
        back = self._scratch[again].copy()
        self.ring.move(again, -back.astype(np.intp))
        self.play_timestamp[again] -= (back * FRAME_SAMPLES).astype(np.uint32)
        self.depth.changed(again, back.astype(np.intp))
        moved: Int32 = ahead + self._scratch[rows] * FRAME_SAMPLES
        return moved

    def _doubt(self, tick: int, come: Arrivals, ahead: Int32, fits: Bool, behind: Bool) -> tuple[Bool, Int32]:
        """Packets outside the ring: late ones, and the beginnings of another timeline."""
        self._suspicious = True
        misfit = np.flatnonzero(~fits)
        rows = come.rows[misfit]
        late = ahead[misfit] <= -come.size[misfit]
        np.add.at(self.late, rows[late], 1)
        self.depth.ask(rows[late], -(ahead[misfit][late] // FRAME_SAMPLES))
        self._scratch[rows] = 0
        self._scratch[come.rows[fits]] = 1
        # What was overtaken is late and says nothing of where the sender is.
        alone = (self._scratch[rows] == 0) & ~behind[misfit]
        misfit, rows = misfit[alone], rows[alone]
        again = np.unique(rows[self._strange_tick[rows] != tick])
        self._strange_ticks[again] += 1
        self._strange_tick[again] = tick
        np.add.at(self._strange, rows, 1)
        jumped = self._strange[rows] >= STRANGE_PACKETS
        jumped &= self._strange_ticks[rows] >= _STRANGE_TICKS
        if jumped.any():
            moved, at = np.unique(rows[jumped], return_index=True)
            timestamp = come.timestamp[misfit[jumped][at]]
            self.resyncs[moved] += 1
            self._place(moved, timestamp)
            self.counts.rebase(moved, tick, timestamp)
            ahead = (come.timestamp - self.play_timestamp[come.rows]).view(np.int32)
            fits = (ahead > -come.size) & (ahead <= FURTHEST_AHEAD)
        return fits, ahead

    # Playing

    def play(self, tick: int, legs: int, alaw_rows: Index, pcm: Int16, previous: Int16) -> tuple[Bool, Bool]:
        """Decodes what each leg plays in this tick and moves the timelines on.

        Args:
            tick: number of this tick.
            legs: rows in use.
            alaw_rows: legs with A-law.
            pcm: `(legs, samples)` to fill; holds what was played two ticks ago.
            previous: what was played in the tick before.

        Returns:
            For each half of the frame, which legs' audio is what the peer sent, silence that it did not send
            included.
        """
        if tick % WINDOW_TICKS == 0 and tick:
            ours = np.uint32(tick * FRAME_SAMPLES & 0xFFFFFFFF)
            self.depth.close_window(legs, (self.play_timestamp[:legs] - ours).view(np.int32))
        return self.playout.play(
            tick, self.ring, self.depth, self.play_timestamp, alaw_rows, pcm[:legs], previous
        )
