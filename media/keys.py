"""One press, one key: the only place where the ways of a key meet.

A press that comes both in band and as telephone-event has nearly the same start on the leg's receive
timeline, whichever arrives first and however much later the other one does. SIP INFO has no timestamp: it is matched
press by press, the oldest first, with presses of the same key that came within two seconds. A press takes each way
once, so that two quick presses of the same key stay two by every way and by all of them.

A leg's own way is learnt. A way that brought two presses is *pinned*, telephone-event before INFO before in-band where
several did. A press that the pinned way does not tell within 300 ms counts all the same, because losing a key is
worse, and is a *disagreement*, which is counted. Two of these in a row, and the leg has changed its way: a bridge has
other telephones in it than before.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Final

from media.dsp.dtmf import Release
from media.protocol import SAMPLE_RATE_HZ, TICK_MS, KeyWay

#: ±60 ms on the media timeline, and 6 ms that the detector's own word of a start may be off (`media.dsp.dtmf`).
TOLERANCE_SAMPLES: Final = 66 * 8
#: INFO comes behind its press, once more after T1 (RFC 3261 §17.1.2.1) if need be.
INFO_TICKS: Final = 2_000 // TICK_MS
#: By then every way has said its word.
_SETTLED_TICKS: Final = 300 // TICK_MS
_PINNED_AFTER: Final = 2
_CHANGED_AFTER: Final = 2
_REMEMBERED: Final = 24
#: By how much they can be trusted.
_PRECEDENCE: Final = (KeyWay.RFC4733, KeyWay.INFO, KeyWay.INBAND)


@dataclasses.dataclass(slots=True, repr=False)
class _Press:
    key: int
    tick: int
    ways: set[KeyWay]
    starts: dict[KeyWay, tuple[int, int]]
    """Timestamp and hole of the ways that have them."""
    judged: bool = False


@dataclasses.dataclass(slots=True, repr=False)
class _Leg:
    recent: collections.deque[_Press] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_REMEMBERED)
    )
    brought: dict[KeyWay, int] = dataclasses.field(default_factory=dict)
    """Presses by each way, up to what pins it."""
    pinned: KeyWay | None = None
    strays: int = 0
    disagreements: int = 0


class Tones:
    """What a leg's keys in band are like: the first thing that one wants to know of a line that loses some."""

    def __init__(self) -> None:
        self._shortest: dict[int, int] = {}
        self._softest: dict[int, float] = {}

    def clear(self, row: int) -> None:
        """Forgets a leg."""
        self._shortest.pop(row, None)
        self._softest.pop(row, None)

    def note(self, release: Release) -> None:
        """A key has ended."""
        row, softer = release.row, min(release.row_dbm0, release.column_dbm0)
        self._shortest[row] = min(release.length, self._shortest.get(row, release.length))
        self._softest[row] = min(softer, self._softest.get(row, softer))

    def shortest_ms(self, row: int) -> float | None:
        """Length of a leg's shortest key; None before the first one's end."""
        samples = self._shortest.get(row)
        return None if samples is None else samples * 1000 / SAMPLE_RATE_HZ

    def softest_dbm0(self, row: int) -> float | None:
        """Level of the softest of its keys' tones."""
        return self._softest.get(row)


class Deduplicator:
    """Recent presses of every leg."""

    def __init__(self) -> None:
        self._legs: dict[int, _Leg] = {}

    def clear(self, row: int) -> None:
        """Forgets a leg."""
        self._legs.pop(row, None)

    def tidy(self, tick: int) -> None:
        """Forgets presses of which no way can have anything to say any more: nobody needs the digits (invariant 2)."""
        for leg in self._legs.values():
            if not leg.recent:
                continue
            self._judge(leg, tick)
            while leg.recent and tick - leg.recent[0].tick > INFO_TICKS:
                leg.recent.popleft()

    def remembered(self, row: int) -> int:
        """Presses of a leg that are still known."""
        leg = self._legs.get(row)
        return len(leg.recent) if leg else 0

    def pinned(self, row: int) -> KeyWay | None:
        """The way of a leg's keys, as far as it is known."""
        leg = self._legs.get(row)
        return leg.pinned if leg else None

    def disagreements(self, row: int) -> int:
        """Presses that a leg's own way did not tell."""
        leg = self._legs.get(row)
        return leg.disagreements if leg else 0

    def accept(
        self, row: int, way: KeyWay, key: int, timestamp: int | None, hole: int = 0, *, tick: int = 0
    ) -> bool:
        """Whether this is a press of its own and not another way's word of an earlier one.

        Args:
            row: the leg.
            way: how it came.
            key: telephone-event code.
            timestamp: start of the press on the leg's receive timeline, RTP units; None for INFO.
            hole: samples lost right before that, in which it may have started.
            tick: in which it came.
        """
        leg = self._legs.setdefault(row, _Leg())
        self._judge(leg, tick)
        press = _find(leg, way, key, timestamp, hole, tick)
        fresh = press is None
        if press is None:
            press = _Press(key, tick, set(), {})
            leg.recent.append(press)
        press.ways.add(way)
        if timestamp is not None:
            press.starts[way] = (timestamp, hole)
        leg.brought[way] = min(leg.brought.get(way, 0) + 1, _PINNED_AFTER)
        leg.pinned = next((each for each in _PRECEDENCE if leg.brought.get(each) == _PINNED_AFTER), None)
        return fresh

    def _judge(self, leg: _Leg, tick: int) -> None:
        """Whether the pinned way told the presses that every way has had its time for."""
        for press in leg.recent:
            if press.judged or tick - press.tick < _SETTLED_TICKS:
                continue
            press.judged = True
            if leg.pinned is None or leg.pinned in press.ways:
                leg.strays = 0
                continue
            leg.disagreements += 1
            leg.strays += 1
            if leg.strays == _CHANGED_AFTER:
                leg.strays = 0
                leg.brought = dict.fromkeys(press.ways, _CHANGED_AFTER)
                leg.pinned = next(each for each in _PRECEDENCE if each in press.ways)


def _find(leg: _Leg, way: KeyWay, key: int, timestamp: int | None, hole: int, tick: int) -> _Press | None:
    """The press that this is another word of."""
    nearest, least = None, TOLERANCE_SAMPLES + 1
    for press in leg.recent:
        if press.key != key or way in press.ways:
            continue
        if timestamp is None or not press.starts:
            if tick - press.tick <= INFO_TICKS:
                return press
            continue
        apart = min(_apart(timestamp, hole, *start) for start in press.starts.values())
        if apart < least:
            nearest, least = press, apart
    return nearest


def _apart(timestamp: int, hole: int, other: int, other_hole: int) -> int:
    """Samples between two starts, of which each may be earlier by its hole."""
    later = (timestamp - other + 0x80000000) % 0x100000000 - 0x80000000
    return max(later - hole, -later - other_hole, 0)
