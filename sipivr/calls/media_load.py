"""How busy a media worker is, from what it says of its ticks: where the next call goes, and where none goes.

A worker is *overloaded* while its ticks cost more CPU time than `BUSY`, or more of them start late than `LATE`,
and until both have fallen below the lower marks; then it takes no new call, and the calls that it has keep
their audio.
"""

from __future__ import annotations

from typing import Final

from media.protocol import TICK_MS, WorkerStatistics

#: Shares of a tick's 20 ms, and of all ticks, between which an overloaded worker stays so.
BUSY: Final = (0.75, 0.6)
LATE: Final = (0.5, 0.25)
#: Figures over fewer ticks than this say nothing.
FEWEST_TICKS: Final = 10
#: What a leg is taken to cost before anything was measured.
LEG_US: Final = 10.0
_TICK_US: Final = TICK_MS * 1000


class WorkerLoad:
    """Of one worker; fed with its statistics."""

    def __init__(self) -> None:
        self._ticks = 0
        self._late = 0
        self._cost_us = 0.0
        self._legs = 0
        self.overloaded = False

    def note(self, figures: WorkerStatistics) -> None:
        """Takes what the worker says."""
        ticks, late = figures.ticks - self._ticks, figures.late_ticks - self._late
        if ticks < FEWEST_TICKS:
            return
        self._ticks, self._late = figures.ticks, figures.late_ticks
        self._cost_us, self._legs = figures.tick_cost_us, figures.legs
        mark = 1 if self.overloaded else 0
        self.overloaded = self._cost_us > BUSY[mark] * _TICK_US or late > LATE[mark] * ticks

    def expected_us(self, legs: int) -> float:
        """CPU time of a tick with so many legs: those beyond the measured ones cost what those cost."""
        leg_us = self._cost_us / self._legs if self._legs else LEG_US
        return self._cost_us + (legs - self._legs) * leg_us
