"""Logs on standard error: one record, one line, whatever a peer has put into it.

JSON for machines, text for people. Control characters, line separators and the marks that turn writing
direction are escaped in both, so that a SIP header cannot forge a record or a terminal sequence
(CWE-117). Call `start` once, in a process's composition root; modules use `logging.getLogger(__name__)`.
Values in `extra` become fields of the JSON object.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Final, TextIO

#: C0, DEL, C1, line and paragraph separators, bidirectional controls, byte order mark.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def escaped(text: str) -> str:
    r"""`text` without anything that could end a line or steer a terminal: `\n` becomes `\x0a`."""
    return _UNSAFE.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


def _instant(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, process, logger, message, the record's extras, exception."""

    def __init__(self, process: str, node: str) -> None:
        super().__init__()
        self._fixed = {"process": process, "node": node}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII-safe JSON."""
        fields: dict[str, object] = {
            "time": _instant(record),
            "level": record.levelname,
            **self._fixed,
            "logger": record.name,
            "message": escaped(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD and name not in fields:
                fields[name] = value if isinstance(value, int | float | bool | None) else escaped(str(value))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """`time level process: message name=value`, a traceback's lines behind ` | `."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, plus one marked line for each line of a traceback."""
        extras = "".join(
            f" {name}={escaped(str(value))}"
            for name, value in record.__dict__.items()
            if name not in _STANDARD
        )
        message = escaped(record.getMessage())
        line = f"{_instant(record)} {record.levelname:<7} {self._process}: {message}{extras}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n  | {escaped(part)}" for part in trace)
        return line


def start(
    *, level: str, form: str, process: str, node: str = "", stream: TextIO | None = None
) -> logging.Handler:
    """Sends all records of this process to `stream` (standard error when None); returns the handler.

    Args:
        level: one of `LEVELS`.
        form: `json` or `text`.
        process: which process speaks: `supervisor`, `sipivr`, `media-0`, `api`.
        node: the node's name, in JSON records.
        stream: for tests.

    Raises:
        ValueError: an unknown level or form.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    if form not in {"json", "text"}:
        raise ValueError(f"log format {form!r} is neither json nor text")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter(process, node) if form == "json" else TextFormatter(process))
    logging.captureWarnings(True)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    return handler
