"""What each leg plays in a tick: what arrived, and something for what did not.

A frame is *whole*, or parts of it are missing. What is missing is one of three:

- *lost*, as far as one knows: concealed, then silent (`media.dsp.conceal`), and not valid for the detector;
- *silence* that the peer did not send: after a comfort noise packet (RFC 3389) until audio comes again, or
  between two packets with neighbouring numbers and a gap between their timestamps. It is noise of the level that
  the peer said, or nothing, and as real as audio: a pause between two keys ends the first;
- the leg's depth that changes (`media.rtp.depth`): two frames are blended and the result is nobody's audio.

Silence that shows itself only later was concealed meanwhile; it is taken out of the count again.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import numpy as np

from media.arrays import Bool, Float32, Index, Int16, Int32, Int64, UInt8, UInt32
from media.columns import ColumnSet
from media.dsp import conceal, g711
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES
from media.rtp.depth import Depth, Look
from media.rtp.ring import BLOCK, BLOCKS, FIRST_HALF, FULL, SECOND_HALF, Ring

#: Searches for a pitch in one tick; what is lost beyond that repeats whole frames.
MOST_SEARCHED: Final = 32
_NOISE_FRAMES: Final = 256
#: An end of silence that is still to come.
_OPEN: Final = 1 << 30
#: Missing for so long, nothing can be split any more by a change of depth.
_LONG_GONE: Final = 8
#: 0 dBov, to which comfort noise packets refer (RFC 3389 §3.1), is a square wave at the overload of G.711.
_OVERLOAD: Final = AMPLITUDE_0_DBM0 * 10 ** (3.17 / 20)
#: Louder noise is no comfort, -dBov.
_LOUDEST_NOISE: Final = 30
#: The detector finds a key's start this near behind a hole when it starts in it, and no key's is further back.
_NEAR_HOLE: Final = 80
_LONGEST_HOLE: Final = 960
_NONE: Final = np.zeros(0, np.intp)


class _Change(NamedTuple):
    """What happens to depths in a tick."""

    added: Index
    dropped: Index
    blended: Index
    """Those of them that play something of their own: `frames`."""
    frames: Int16


class Playout(ColumnSet):
    """Playing side of all legs."""

    FILLS: ClassVar[dict[str, int]] = {"_period": FRAME_SAMPLES}

    def __init__(self, capacity: int) -> None:
        self.missed: Int32 = np.zeros(capacity, np.int32)
        """Ticks in a row for which nothing had arrived."""
        self.concealed: Int64 = np.zeros(capacity, np.int64)
        self._provisional: Int32 = np.zeros(capacity, np.int32)
        self._hole_start: UInt32 = np.zeros(capacity, np.uint32)
        self._hole_end: UInt32 = np.zeros(capacity, np.uint32)
        self._period: Int32 = np.full(capacity, FRAME_SAMPLES, np.int32)
        self._silence_start: UInt32 = np.zeros(capacity, np.uint32)
        self._silence_end: UInt32 = np.zeros(capacity, np.uint32)
        self._open: Bool = np.zeros(capacity, np.bool_)
        self._noise_gain: Float32 = np.zeros(capacity, np.float32)
        self._stock = _Noise()

    def start(self, rows: Index) -> None:
        """Timelines begin."""
        self._silence_start[rows] = self._silence_end[rows] = 0
        self._open[rows] = False
        self._hole_start[rows] = self._hole_end[rows] = 0

    def hole_before(self, row: int, timestamp: int) -> int:
        """Samples that were lost right before a place: by so much a key that was heard there may be older.

        Args:
            row: the leg.
            timestamp: of the place, within the last second.
        """
        start, end = int(self._hole_start[row]), int(self._hole_end[row])
        apart = (timestamp - end + 0x80000000) % 0x100000000 - 0x80000000
        if start == end or not -FRAME_SAMPLES * 3 <= apart <= _NEAR_HOLE:
            return 0
        return min(max((timestamp - start + 0x80000000) % 0x100000000 - 0x80000000, 0), _LONGEST_HOLE)

    # What is known of silence

    def comfort_noise(self, rows: Index, timestamp: UInt32, level: Int32) -> None:
        """The peer has fallen silent.

        Args:
            rows: legs; the last packet of a leg counts.
            timestamp: where the silence starts.
            level: -dBov, 127 for nothing at all.
        """
        fresh = ~self._open[rows]
        self._silence_start[rows[fresh]] = timestamp[fresh]
        self._silence_end[rows] = self._silence_start[rows] + np.uint32(_OPEN)
        self._open[rows] = True
        rms = _OVERLOAD * 10 ** (-np.maximum(level, _LOUDEST_NOISE) / 20)
        self._noise_gain[rows] = np.where(level < 127, rms, 0)
        self.concealed[rows] -= self._provisional[rows]
        self._provisional[rows] = 0

    def speak(self, rows: Index, timestamp: UInt32) -> None:
        """Audio has come; where it comes after the start of a silence, that ends."""
        some = np.flatnonzero(self._open[rows])
        if not some.size:
            return
        rows, timestamp = rows[some], timestamp[some]
        within = (timestamp - self._silence_start[rows]).view(np.int32) >= 0
        self._silence_end[rows[within]] = timestamp[within]
        self._open[rows[within]] = False

    def suppressed(self, rows: Index, start: UInt32, end: UInt32) -> None:
        """Nothing was sent between two timestamps, as is known now."""
        self._silence_start[rows] = start
        # What a comfort noise packet began keeps its level.
        self._noise_gain[rows[self._silence_end[rows] != end]] = 0
        self._silence_end[rows] = end
        self.concealed[rows] -= self._provisional[rows]
        self._provisional[rows] = 0

    def _silent_bits(self, rows: Index, play_timestamp: UInt32) -> UInt32:
        """Which blocks of the frames that start here were never sent."""
        start = (self._silence_start[rows] - play_timestamp).view(np.int32)
        end = (self._silence_end[rows] - play_timestamp).view(np.int32)
        low = np.clip(-(-start // BLOCK), 0, BLOCKS)
        high = np.clip(end // BLOCK, 0, BLOCKS)
        bits = (np.left_shift(1, high) - 1) & ~(np.left_shift(1, low) - 1)
        return np.where((high > low) & (end > start), bits, 0).astype(np.uint32)

    # The tick

    def play(
        self,
        tick: int,
        ring: Ring,
        depth: Depth,
        play_timestamp: UInt32,
        alaw_rows: Index,
        pcm: Int16,
        previous: Int16,
    ) -> tuple[Bool, Bool]:
        """One frame of every leg; see `media.rtp.stream.Streams.play`."""
        legs = len(pcm)
        wishes = depth.wishes(tick, legs)
        change = None
        if wishes.size:
            change = self._adjust(wishes, ring, depth, play_timestamp, alaw_rows, previous)
            ring.move(change.dropped, 1)
            play_timestamp[change.dropped] += np.uint32(FRAME_SAMPLES)
        codes, present = ring.play(legs, _NONE if change is None else change.added)
        whole = present == FULL
        missed = self.missed[:legs]
        bad = np.flatnonzero(~whole)
        if not bad.size:
            g711.decode(codes, alaw_rows, pcm)
            missed[:] = 0
            self._provisional[:legs] = 0
            first = second = whole
        else:
            older = pcm[bad]
            g711.decode(codes, alaw_rows, pcm)
            silent = self._silent_bits(bad, play_timestamp[bad])
            self._note_holes(bad[present[bad] | silent != FULL], play_timestamp)
            self._fill(tick, bad, older, present[bad], silent, ring, alaw_rows, pcm, previous)
            np.copyto(missed, 0, where=present != 0)
            np.copyto(self._provisional[:legs], 0, where=whole)
            present[bad] |= silent
            first, second = present & FIRST_HALF == FIRST_HALF, present & SECOND_HALF == SECOND_HALF
        play_timestamp[:legs] += np.uint32(FRAME_SAMPLES)
        if change is not None:
            rows = change.blended
            pcm[rows] = change.frames
            first[rows] = second[rows] = False
            added = change.added
            play_timestamp[added] -= np.uint32(FRAME_SAMPLES)
            # The position has not passed what was missing.
            missed[added] = np.maximum(missed[added] - 1, 0)
            depth.changed(added, 1)
            depth.changed(change.dropped, -1)
        return first, second

    def _note_holes(self, rows: Index, play_timestamp: UInt32) -> None:
        now = play_timestamp[rows]
        apart = (now - self._hole_end[rows]).view(np.int32)
        fresh = (apart < -FRAME_SAMPLES) | (apart > FRAME_SAMPLES)
        self._hole_start[rows[fresh]] = now[fresh]
        self._hole_end[rows] = now + np.uint32(FRAME_SAMPLES)

    def _adjust(
        self,
        rows: Index,
        ring: Ring,
        depth: Depth,
        play_timestamp: UInt32,
        alaw_rows: Index,
        previous: Int16,
    ) -> _Change:
        """Which legs play a frame more, and which leave one out."""
        worth = depth.listen(rows, previous[rows])
        worth |= ring.present[ring.head[rows], rows] == 0
        rows = rows[worth]
        codes, there = ring.peek(rows, 0)
        codes_after, there_after = ring.peek(rows, 1)
        absent = there == 0
        missed = self.missed[rows]
        silent = self._silent_bits(rows, play_timestamp[rows]) == FULL
        look = Look(
            rows,
            previous[rows],
            _decoded(codes, rows, alaw_rows),
            _decoded(codes_after, rows, alaw_rows),
            (there == FULL) & (there_after == FULL),
            absent & (there_after != 0) & (missed == 0),
            absent & (there_after == 0) & (silent | (missed >= _LONG_GONE)),
        )
        add, drop = depth.decide(look)
        added = np.flatnonzero(add & look.whole)
        dropped = np.flatnonzero(drop & look.whole)
        # No step at either end: one more starts as what comes next and ends as what was before it.
        frames = conceal.blend(
            np.concatenate((look.now[added], look.now[dropped])),
            np.concatenate((look.before[added], look.after[dropped])),
            conceal.FRAME_RAMP,
        )
        blended = np.concatenate((rows[added], rows[dropped]))
        return _Change(rows[add], rows[drop], blended, frames)

    def _fill(
        self,
        tick: int,
        bad: Index,
        older: Int16,
        present: UInt32,
        silent: UInt32,
        ring: Ring,
        alaw_rows: Index,
        pcm: Int16,
        previous: Int16,
    ) -> None:
        missed = self.missed[bad]
        self.missed[bad] = np.minimum(missed + 1, 1000)
        made = np.zeros((len(bad), FRAME_SAMPLES), np.int16)
        lost = np.flatnonzero((missed < len(conceal.FADES)) & (present | silent != FULL))
        if lost.size:
            some = bad[lost]
            history = np.concatenate((older[lost], previous[some]), axis=1)
            made[lost] = self._conceal(some, history, missed[lost], ring, alaw_rows)
            counted = some[history.any(axis=1)]
            self.concealed[counted] += 1
            self._provisional[counted] += 1
        if silent.any():
            quiet = np.flatnonzero(silent)
            rows = bad[quiet]
            noise = self._stock.take(tick, rows, self._noise_gain[rows])
            made[quiet] = np.where(_samples_of(silent[quiet]), noise, made[quiet])
        partly = np.flatnonzero(present)
        if partly.size:
            made[partly] = np.where(_samples_of(present[partly]), pcm[bad[partly]], made[partly])
        pcm[bad] = made

    def _conceal(self, rows: Index, history: Int16, missed: Int32, ring: Ring, alaw_rows: Index) -> Int16:
        begins = np.flatnonzero(missed == 0)
        self._period[rows[begins]] = FRAME_SAMPLES
        searched = begins[:MOST_SEARCHED]
        if searched.size:
            self._period[rows[searched]] = conceal.periods(history[searched])
        period = self._period[rows]
        made = conceal.extend(history, period, missed)
        codes, there = ring.peek(rows, 0)
        followed = np.flatnonzero(there == FULL)
        if followed.size:
            following = _decoded(codes[followed], rows[followed], alaw_rows)
            joined = made[followed]
            conceal.join(joined, following, period[followed])
            made[followed] = joined
        return made


def _samples_of(bits: UInt32) -> Bool:
    """Blocks as samples."""
    there = (bits[:, None] >> np.arange(BLOCKS, dtype=np.uint32) & 1).astype(np.bool_)
    samples: Bool = there.repeat(BLOCK, axis=1)
    return samples


def _decoded(codes: UInt8, rows: Index, alaw_rows: Index) -> Int16:
    """Codes of some legs as samples."""
    alaw = np.flatnonzero(np.isin(rows, alaw_rows)) if alaw_rows.size else _NONE
    pcm = np.empty(codes.shape, np.int16)
    g711.decode(codes, alaw, pcm)
    return pcm


class _Noise:
    """A stock of soft noise with a mean square of one."""

    def __init__(self) -> None:
        white = np.random.default_rng(3389).standard_normal(_NOISE_FRAMES * FRAME_SAMPLES + 1)
        soft = white[1:] + white[:-1]
        self._frames: Float32 = (soft / soft.std()).astype(np.float32).reshape(_NOISE_FRAMES, FRAME_SAMPLES)

    def take(self, tick: int, rows: Index, rms: Float32) -> Int16:
        """One frame for each row."""
        picks = (rows * 61 + tick * 37) % _NOISE_FRAMES
        loud = np.clip(self._frames[picks] * rms[:, None], -32000, 32000)
        noise: Int16 = np.rint(loud).astype(np.int16)
        return noise
