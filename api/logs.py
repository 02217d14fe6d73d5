"""Structured logs on standard error: an event name and fields, never a body, a query or a secret."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

_FIELDS: Final = "sipivr_fields"


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": "api",
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = record.exc_info[0].__name__
            fields["where"] = where(record.exc_info[2])
        if self._as_json:
            return json.dumps(fields, ensure_ascii=True, default=str)
        head = f"{fields.pop('time')} {fields.pop('level')} {fields.pop('process')}"
        fields.pop("logger")
        return f"{head} {fields.pop('message')} " + " ".join(
            f"{k}={json.dumps(v)}" for k, v in fields.items()
        )


def where(trace: TracebackType | None) -> list[str]:
    """The frames, without the exception's message: that can quote what was sent."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)[-12:]]


def configure(level: str, as_json: bool) -> None:
    """Sets up the root logger of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # They name addresses with their query strings at INFO.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def say(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """One line: what happened, and its fields."""
    logger.log(level, event, extra={_FIELDS: fields})
