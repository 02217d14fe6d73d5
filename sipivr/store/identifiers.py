"""Ids and times as they stand in the database.

An id is a prefix and a ULID: 48 bits of milliseconds and 80 random bits in Crockford's base 32, so ids of one
table sort by creation and pages can be cut by them. Times are ISO 8601 UTC with milliseconds and `Z`: as text
they sort by time.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"

#: What each prefix names; ids are `<prefix>_<26 characters>`.
PREFIXES: Final = {
    "mer": "merchant",
    "num": "number",
    "con": "connector",
    "cpr": "connector proposal",
    "shop": "shop",
    "trk": "trunk",
    "prn": "principal",
    "ps": "payment session",
    "call": "call",
    "leg": "leg",
    "pay": "payment",
    "chg": "change of a payment",
    "evt": "event",
}


def new_id(prefix: str, now: dt.datetime | None = None) -> str:
    """A new id, e.g. `call_01j…`. `prefix` is one of `PREFIXES`."""
    if prefix not in PREFIXES:
        raise ValueError(f"{prefix!r} is no prefix of an id")
    milliseconds = int((now or utc_now()).timestamp() * 1000)
    value = (milliseconds << 80) | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def utc_now() -> dt.datetime:
    """The clock."""
    return dt.datetime.now(dt.UTC)


def timestamp(now: dt.datetime | None = None) -> str:
    """`2026-11-23T06:37:33.123Z`."""
    moment = (now or utc_now()).astimezone(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
