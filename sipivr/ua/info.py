"""Keys in INFO: `application/dtmf-relay` and `application/dtmf`. Bodies are digits: never logged or shown."""

from __future__ import annotations

import re
from typing import Final

from sipivr.ua.message import SIPMessage

_KEYS: Final = {character: code for code, character in enumerate("0123456789*#ABCD")}
_SIGNAL: Final = re.compile(r"^\s*Signal\s*=\s*([0-9A-D*#]|1[0-5])\s*$", re.IGNORECASE | re.MULTILINE)
_DURATION: Final = re.compile(r"^\s*Duration\s*=\s*([0-9]{1,5})\s*$", re.IGNORECASE | re.MULTILINE)
_DEFAULT_MS: Final = 100
_LONGEST_MS: Final = 10_000


def info_key(message: SIPMessage) -> tuple[int, int] | None:
    """The key of an INFO as (telephone-event code 0–15, duration in ms), None when it carries none."""
    if len(message.body) > 512:
        return None
    body = message.body.decode("ascii", "replace").replace("\r", "\n")
    duration_ms = _DEFAULT_MS
    if message.content_type == "application/dtmf-relay":
        match = _SIGNAL.search(body)
        if length := _DURATION.search(body):
            duration_ms = min(int(length[1]), _LONGEST_MS)
        word = match[1] if match else ""
    elif message.content_type == "application/dtmf":
        word = body.strip()
    else:
        return None
    # Some gateways write * and # as the event codes 10 and 11 (RFC 4733 §3.2).
    if len(word) == 2 and word.isascii() and word.isdigit():
        code = int(word)
        return (code, duration_ms) if 10 <= code <= 15 else None
    key = _KEYS.get(word.upper())
    return None if key is None else (key, duration_ms)
