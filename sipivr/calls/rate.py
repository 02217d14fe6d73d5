"""How many new calls a second a node takes (overload control by a token bucket)."""

from __future__ import annotations


class CallRate:
    """A bucket that fills with `per_s` tokens a second and holds one second's worth."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._tokens = per_s
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more call may come in at `now` (seconds of any monotonic clock)."""
        if self._at is not None:
            self._tokens = min(self._per_s, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
