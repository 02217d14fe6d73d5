"""A command that was not carried out."""

from __future__ import annotations

from sipivr.control.messages import ErrorCode


class Failed(Exception):
    """The command was not carried out (`unavailable`: perhaps it was); becomes the reply's error."""

    def __init__(self, code: ErrorCode, detail: str, related: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.related = related
