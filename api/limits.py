"""Requests a minute, for each key and, where nobody is known, for each address."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60.0


@dataclass(slots=True)
class _Window:
    started: float
    used: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a request stands against its limit."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them."""
        found = {
            "RateLimit-Policy": f'"key";q={self.limit};w={int(WINDOW_S)}',
            "RateLimit": f'"key";r={self.remaining};t={self.reset_s}',
        }
        if not self.allowed:
            found["Retry-After"] = str(self.reset_s)
        return found


class RateLimiter:
    """Fixed windows that begin with the first request. Subjects are bounded: the oldest are forgotten."""

    def __init__(self, limit: int, monotonic: Callable[[], float], max_subjects: int = 10_000) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._max_subjects = max_subjects
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def take(self, subject: str) -> Allowance:
        """Counts one request of the subject."""
        window = self._window(subject)
        window.used += 1
        left_s = window.started + WINDOW_S - self._monotonic()
        remaining = max(0, self._limit - window.used)
        return Allowance(window.used <= self._limit, self._limit, remaining, max(1, math.ceil(left_s)))

    def _window(self, subject: str) -> _Window:
        now = self._monotonic()
        window = self._windows.get(subject)
        if window is None or now - window.started >= WINDOW_S:
            window = self._windows[subject] = _Window(now, 0)
            self._windows.move_to_end(subject)
            while len(self._windows) > self._max_subjects:
                self._windows.popitem(last=False)
        return window
