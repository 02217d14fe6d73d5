"""One press, one key: the only place where the ways of a key meet.

A press that comes both in band and as telephone-event has nearly the same start on the leg's receive
timeline, whichever arrives first and however much later the other one does. Each press pairs with at
most one of the other way, so that two quick presses of the same key stay two.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Final

from media.protocol import KeyWay

#: ±60 ms on the media timeline.
TOLERANCE_SAMPLES: Final = 60 * 8
_REMEMBERED: Final = 12


@dataclasses.dataclass(slots=True, repr=False)
class _Press:
    way: KeyWay
    key: int
    timestamp: int
    hole: int = 0
    paired: bool = False


class Deduplicator:
    """Recent presses of every leg."""

    def __init__(self) -> None:
        self._recent: dict[int, collections.deque[_Press]] = {}

    def clear(self, row: int) -> None:
        """Forgets a leg."""
        self._recent.pop(row, None)

    def accept(self, row: int, way: KeyWay, key: int, timestamp: int, hole: int = 0) -> bool:
        """Whether this is a press of its own and not the other way's word of an earlier one.

        Args:
            row: the leg.
            way: how it came.
            key: telephone-event code.
            timestamp: start of the press on the leg's receive timeline, RTP units.
            hole: samples lost right before that, in which it may have started.
        """
        recent = self._recent.setdefault(row, collections.deque(maxlen=_REMEMBERED))
        press = _Press(way, key, timestamp, hole)
        nearest, least = None, TOLERANCE_SAMPLES + 1
        for other in recent:
            if other.paired or other.way is way or other.key != key:
                continue
            later = (timestamp - other.timestamp + 0x80000000) % 0x100000000 - 0x80000000
            apart = max(later - hole, -later - other.hole, 0)
            if apart < least:
                nearest, least = other, apart
        if nearest is not None:
            nearest.paired = press.paired = True
        recent.append(press)
        return nearest is None
