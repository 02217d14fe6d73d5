"""What was answered to which Idempotency-Key, for 24 hours.

A record without a status is of a request that is running, or was when a process died: then the next request
with the key takes it over. It cannot do harm, because the switch keeps an order from being open twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlite_utils import Database

from api.store.schema import immediate

LIFETIME_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Record:
    """A request and, once answered, its answer. A replay shows `subject` as it then is."""

    fingerprint: bytes
    status: int | None
    body: str | None
    subject: str | None


def begin(db: Database, owner: str, key: str, fingerprint: bytes, now: float) -> Record | None:
    """Claims the key and returns None, or returns the record that is there."""
    with immediate(db, durable=False):
        db.execute("DELETE FROM idempotency WHERE created_at < ?", [now - LIFETIME_S])
        row = db.execute(
            "SELECT fingerprint, status, body, subject FROM idempotency WHERE owner = ? AND key = ?",
            [owner, key],
        ).fetchone()
        if row is not None:
            return Record(*row)
        db.execute(
            "INSERT INTO idempotency (owner, key, fingerprint, created_at) VALUES (?, ?, ?, ?)",
            [owner, key, fingerprint, now],
        )
    return None


def finish(db: Database, owner: str, key: str, *, status: int, body: str, subject: str | None) -> None:
    """Keeps the answer."""
    with immediate(db, durable=False):
        db.execute(
            "UPDATE idempotency SET status = ?, body = ?, subject = ? WHERE owner = ? AND key = ?",
            [status, body, subject, owner, key],
        )


def abandon(db: Database, owner: str, key: str) -> None:
    """Forgets a request that had no final answer (5xx), so that a retry is carried out."""
    with immediate(db, durable=False):
        db.execute("DELETE FROM idempotency WHERE owner = ? AND key = ? AND status IS NULL", [owner, key])
