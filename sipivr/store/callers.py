"""Callers whom a merchant's numbers take, or do not: found by a keyed hash, the number itself sealed.

The audit log is kept longer than any caller: it names a part of the hash.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from sipivr.store import crypto, rows
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Invalid, NotFound
from sipivr.store.records import Actor, CallerNumber
from sipivr.store.registry import check_e164

#: More than any call centre has telephones.
MOST: Final = 10_000


def allow_caller(
    store: WritableStore, actor: Actor, *, merchant: str, e164: str, now: dt.datetime | None = None
) -> CallerNumber:
    """Puts a number on the merchant's list of allowed callers; one that is there stays as it is.

    Raises:
        Invalid: no number, or the list is full.
    """
    digest = _checked(store, e164)
    with transaction(store, now) as tx:
        (count,) = tx.row("SELECT count(*) FROM allowed_caller WHERE merchant = ?", [merchant]) or (0,)
        if count >= MOST:
            raise Invalid(f"number: the list is full ({MOST:,} numbers)")
        _put(tx, store, actor, "allowed_caller", merchant, e164, digest)
        row = tx.row(rows.CALLER_NUMBER + " WHERE merchant = ? AND caller_hash = ?", [merchant, digest])
        assert row is not None, "it was put there a moment ago"
        return rows.caller_number(row)


def block_caller(
    store: WritableStore, actor: Actor, *, merchant: str, e164: str, now: dt.datetime | None = None
) -> None:
    """Puts a number on the merchant's block list.

    Raises:
        Invalid: no number.
    """
    digest = _checked(store, e164)
    with transaction(store, now) as tx:
        _put(tx, store, actor, "blocked_caller", merchant, e164, digest)


def disallow_caller(
    store: WritableStore, actor: Actor, *, merchant: str, id: str, now: dt.datetime | None = None
) -> None:
    """Takes a number from the list of allowed callers, from the next call on.

    Raises:
        NotFound: no such caller of the merchant.
    """
    digits = id.removeprefix(rows.CALLER_ID)
    with transaction(store, now) as tx:
        found = tx.row(
            f"SELECT caller_hash FROM allowed_caller WHERE merchant = ?"  # noqa: S608 - our own names
            f" AND substr(caller_hash, 1, {rows.CALLER_ID_DIGITS}) = ?",
            [merchant, digits],
        )
        if found is None:
            raise NotFound("no such caller")
        tx.run("DELETE FROM allowed_caller WHERE merchant = ? AND caller_hash = ?", [merchant, found[0]])
        tx.audit(actor, "allowed_caller.delete", f"allowed_caller:{digits[:16]}", merchant)


def _checked(store: WritableStore, e164: str) -> str:
    check_e164(e164)
    return crypto.caller_hash(store.keys, e164)


def _put(
    tx: Transaction, store: WritableStore, actor: Actor, table: str, merchant: str, e164: str, digest: str
) -> None:
    tx.run(
        f"INSERT INTO {table} (merchant, caller_hash, sealed, display, created_at)"  # noqa: S608 - our own names
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            merchant,
            digest,
            crypto.seal(store.keys, e164, f"{table}.caller:{merchant}:{digest}"),
            crypto.masked(e164),
            tx.at,
        ],
    )
    tx.audit(actor, f"{table}.put", f"{table}:{digest[:16]}", merchant)
