"""The audit log: who did what to what, from where; append-only and chained.

Each row's MAC is HMAC-SHA256 over the row and the MAC before it, under a key that only `sipivr` has: a row
cannot be changed, added, removed or moved without it. What a chain alone cannot show is a cut at its end
together with SQLite's own counter; so the head is given to syslog each minute, and `verify(heads=…)`
compares.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlite_utils import Database

from sipivr.store.errors import StoreCorrupt
from sipivr.store.identifiers import timestamp
from sipivr.store.records import Actor

GENESIS: Final = "0" * 64
_COLUMNS: Final = "sequence, at, actor, source, action, object, merchant, detail, previous, mac"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row of the chain at some time."""

    sequence: int
    mac: str


def _mac(key: bytes, fields: list[str | int | None]) -> str:
    # A list in JSON and not a join: ("ab", "c") and ("a", "bc") must differ.
    return hmac.new(key, msgspec.json.encode(fields), hashlib.sha256).hexdigest()


def append(
    db: Database,
    key: bytes,
    actor: Actor,
    action: str,
    subject: str,
    *,
    merchant: str | None = None,
    detail: Mapping[str, object] | None = None,
    at: str | None = None,
) -> Head:
    """Adds a row, inside the transaction of the change that it tells of; no personal data in `detail`."""
    newest = head(db)
    row: list[str | int | None] = [
        newest.sequence + 1,
        at or timestamp(),
        actor.principal,
        actor.source,
        action,
        subject,
        merchant,
        msgspec.json.encode(detail or {}, order="sorted").decode(),
        newest.mac,
    ]
    mac = _mac(key, row)
    db.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [*row, mac])  # noqa: S608
    return Head(newest.sequence + 1, mac)


def head(db: Database) -> Head:
    """The newest row, `Head(0, GENESIS)` when there is none."""
    row = db.execute("SELECT sequence, mac FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    return Head(row[0], row[1]) if row else Head(0, GENESIS)


def verify(db: Database, key: bytes, heads: Iterable[Head] = ()) -> int:
    """Walks the whole chain and returns the number of rows.

    Args:
        db: the store.
        key: `StoreKeys.audit_key`.
        heads: heads that were written elsewhere; each must still be in the chain.

    Raises:
        StoreCorrupt: names the first row that does not fit.
    """
    expected = {noted.sequence: noted.mac for noted in heads}
    previous, count = GENESIS, 0
    for row in db.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY sequence"):  # noqa: S608
        *fields, mac = row
        count += 1
        if fields[0] != count or fields[-1] != previous or not hmac.compare_digest(_mac(key, fields), mac):
            raise StoreCorrupt(f"audit row {fields[0]}: the chain is broken here")
        if expected.pop(count, mac) != mac:
            raise StoreCorrupt(f"audit row {count}: differs from the head that was noted elsewhere")
        previous = mac
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if expected or (given and given[0] != count):
        raise StoreCorrupt(f"audit: rows after {count} are missing")
    return count
