"""Passwords of people, and how often somebody failed to guess one.

A failure counts against the pair of name and source address and, with more patience, against the name from
everywhere: one stranger cannot easily lock an administrator out, and many cannot share the guessing.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlite_utils import Database

from api.store.schema import immediate, now_text

# 2^15 blocks of 8·128 bytes: 32 MB and about 0.1 s for each guess (OWASP's minimum for r = 8 is 2^17 with
# p = 1 or 2^15 with p = 3; we take p = 3).
_COST: Final = 2**15
_PARALLEL: Final = 3

FREE_TRIES: Final = 5
FREE_TRIES_FROM_EVERYWHERE: Final = 50
LONGEST_LOCK_S: Final = 900.0
_FORGET_AFTER_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A name, whose principal it is, and the password's digest."""

    name: str
    principal: str
    salt: bytes
    digest: bytes
    cost: int


class CredentialExistsError(Exception):
    """There is a credential of this name."""


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=_PARALLEL).derive(password.encode())


def add(db: Database, *, name: str, principal: str, password: str, cost: int = _COST) -> None:
    """Stores a credential.

    Raises:
        CredentialExistsError: the name is taken.
    """
    salt = os.urandom(16)
    digest = _scrypt(password, salt, cost)
    with immediate(db, durable=True):
        if find(db, name) is not None:
            raise CredentialExistsError(name)
        db.execute(
            """
            INSERT INTO credentials (name, principal, salt, digest, cost, created_at)
            VALUES (:name, :principal, :salt, :digest, :cost, :now)
            """,
            {
                "name": name,
                "principal": principal,
                "salt": salt,
                "digest": digest,
                "cost": cost,
                "now": now_text(),
            },
        )


def find(db: Database, name: str) -> Credential | None:
    """The credential of this name."""
    row = next(iter(db.query("SELECT * FROM credentials WHERE name = :name", {"name": name})), None)
    if row is None:
        return None
    return Credential(row["name"], row["principal"], row["salt"], row["digest"], row["cost"])


def matches(credential: Credential | None, password: str) -> bool:
    """Whether the password is right. Takes as long for a name that does not exist (no database needed)."""
    if credential is None:
        _scrypt(password, bytes(16), _COST)
        return False
    return hmac.compare_digest(_scrypt(password, credential.salt, credential.cost), credential.digest)


def locked_for_s(db: Database, subjects: tuple[str, ...], now: float) -> float:
    """Seconds until the next try is taken, 0 for at once."""
    marks = ",".join("?" * len(subjects))
    row = db.execute(
        f"SELECT max(locked_until) FROM login_failures WHERE subject IN ({marks})",  # noqa: S608  (marks)
        list(subjects),
    ).fetchone()
    return max(0.0, (row[0] or 0.0) - now)


def note_failure(db: Database, subject: str, now: float, free_tries: int) -> None:
    """Counts a failure; after the free tries each one doubles the wait, up to a quarter of an hour."""
    with immediate(db, durable=False):
        db.execute("DELETE FROM login_failures WHERE last_failure_at < ?", [now - _FORGET_AFTER_S])
        row = db.execute("SELECT failures FROM login_failures WHERE subject = ?", [subject]).fetchone()
        failures = (row[0] if row else 0) + 1
        over = failures - free_tries
        lock_s = min(LONGEST_LOCK_S, 2.0 ** min(over, 10)) if over >= 0 else 0.0
        db.execute(
            """
            INSERT INTO login_failures (subject, failures, last_failure_at, locked_until)
            VALUES (:subject, :failures, :now, :until)
            ON CONFLICT (subject) DO UPDATE
            SET failures = :failures, last_failure_at = :now, locked_until = :until
            """,
            {"subject": subject, "failures": failures, "now": now, "until": now + lock_s},
        )


def note_success(db: Database, name: str, subject: str) -> None:
    """Forgets this pair's failures and notes the use; the count from everywhere stays."""
    with immediate(db, durable=False):
        db.execute("DELETE FROM login_failures WHERE subject = ?", [subject])
        db.execute("UPDATE credentials SET last_used_at = ? WHERE name = ?", [now_text(), name])
