"""A bounded, lazy reading of one SIP message's bytes (RFC 3261 §7), for the edge, identity and the ladder."""

from __future__ import annotations

from dataclasses import dataclass


class SIPMessageError(Exception):
    """The bytes are no SIP message; `str()` is a sentence without any of its contents."""


@dataclass(frozen=True, slots=True)
class SIPMessage:
    """Start line, headers in order (names lower-case, compact forms expanded) and body."""

    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> tuple[str, ...]:
        """Values of every header of that (lower-case) name, in order, not split at commas."""
        return tuple(value for key, value in self.headers if key == name)

    def first(self, name: str) -> str | None:
        """First value of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)
