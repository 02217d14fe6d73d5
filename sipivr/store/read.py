"""Every query on `switch.db`, on a read-only connection; the only module of the store that `api` imports.

Each function reads to the end before it returns, so no read transaction outlives it (a long one would stop
the WAL from being checkpointed). `merchant=None` means any merchant and is for the platform and for `sipivr`;
an object of another merchant is None, as one that does not exist. `api` has no field keys: what it may show
of a caller is the masked form in `Call.caller`; functions that take `keys` are for `sipivr`.

A connection belongs to one thread at a time. Pages go from the newest to the oldest; the cursor is the last
id of the page before.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlite_utils import Database

from sipivr.store import crypto, rows
from sipivr.store.crypto import StoreKeys
from sipivr.store.database import hold_open, open_readonly
from sipivr.store.errors import Invalid, NotFound
from sipivr.store.records import (
    Call,
    CallerNumber,
    CallStatus,
    Connector,
    EventRecord,
    LadderEntry,
    Merchant,
    Number,
    Payment,
    PaymentChange,
    PaymentSession,
    PaymentStatus,
    Principal,
    SessionStatus,
    Shop,
    Trunk,
)

__all__ = ["Counts", "Page", "hold_open", "open_readonly"]

MAX_LIMIT: Final = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list, newest first."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures for the metrics."""

    sessions: Mapping[str, int]
    payments_unsettled: Mapping[str, int]
    calls_running: int
    identification_numbers_open: int
    newest_sequence: int


def merchant(db: Database, id: str) -> Merchant | None:
    """A merchant."""
    return _one(db, rows.merchant, rows.MERCHANT + " WHERE id = ?", [id])


def merchants(db: Database) -> tuple[Merchant, ...]:
    """All merchants."""
    return _all(db, rows.merchant, rows.MERCHANT + " ORDER BY id", [])


def number(db: Database, id: str) -> Number | None:
    """A number by its id."""
    return _one(db, rows.number, rows.NUMBER + " WHERE id = ?", [id])


def number_by_e164(db: Database, e164: str) -> Number | None:
    """The number that was called; `active` is for the caller to look at."""
    return _one(db, rows.number, rows.NUMBER + " WHERE e164 = ?", [e164])


def numbers(db: Database, merchant: str) -> tuple[Number, ...]:
    """All numbers of a merchant."""
    return _all(db, rows.number, rows.NUMBER + " WHERE merchant = ? ORDER BY id", [merchant])


def shop(db: Database, id: str, merchant: str | None = None) -> Shop | None:
    """A shop."""
    return _owned(_one(db, rows.shop, rows.SHOP + " WHERE id = ?", [id]), merchant)


def shops(db: Database, merchant: str) -> tuple[Shop, ...]:
    """All shops of a merchant."""
    return _all(db, rows.shop, rows.SHOP + " WHERE merchant = ? ORDER BY id", [merchant])


def shop_password(db: Database, keys: StoreKeys, shop: str) -> str:
    """The shop's password at its gateway, in the clear: to be wrapped into the gateway's `Secret` at once.

    Raises:
        NotFound: no such shop.
        StoreCorrupt: sealed by a key that is not there.
    """
    row = db.execute("SELECT password_sealed FROM shop WHERE id = ?", [shop]).fetchone()
    if row is None:
        raise NotFound("no such shop")
    return crypto.unseal(keys, row[0], f"shop.password:{shop}")


def connector(db: Database, id: str) -> Connector | None:
    """Where a shop's cards go."""
    return _one(db, rows.connector, rows.CONNECTOR + " WHERE id = ?", [id])


def connectors(db: Database) -> tuple[Connector, ...]:
    """All connectors."""
    return _all(db, rows.connector, rows.CONNECTOR + " ORDER BY id", [])


def trunks(db: Database) -> tuple[Trunk, ...]:
    """All trunks, those switched off too."""
    return _all(db, rows.trunk, rows.TRUNK + " ORDER BY id", [])


def principal(db: Database, id: str) -> Principal | None:
    """A principal."""
    return _one(db, rows.principal, rows.PRINCIPAL + " WHERE id = ?", [id])


def principals(db: Database, merchant: str) -> tuple[Principal, ...]:
    """All principals of a merchant."""
    return _all(db, rows.principal, rows.PRINCIPAL + " WHERE merchant = ? ORDER BY id", [merchant])


def caller_allowed(db: Database, merchant: str, caller_hash: str) -> bool:
    """Whether the caller (`crypto.caller_hash`) is on the merchant's list of allowed callers."""
    sql = "SELECT 1 FROM allowed_caller WHERE merchant = ? AND caller_hash = ?"
    return db.execute(sql, [merchant, caller_hash]).fetchone() is not None


def allowed_callers(
    db: Database, merchant: str, *, starting_after: str | None = None, limit: int = 20
) -> Page[CallerNumber]:
    """A page of a merchant's allowed callers, in the order of their ids."""
    where = {"merchant = ?": merchant, "id < ?": starting_after}
    return _page(db, rows.caller_number, rows.CALLER_NUMBERS, where, key="id", limit=limit)


def allowed_caller(db: Database, merchant: str, id: str) -> CallerNumber | None:
    """One of a merchant's allowed callers."""
    return _one(
        db, rows.caller_number, rows.CALLER_NUMBERS + " WHERE merchant = ? AND id = ?", [merchant, id]
    )


def caller_blocked(db: Database, merchant: str, caller_hash: str) -> bool:
    """Whether the caller is on the merchant's block list."""
    sql = "SELECT 1 FROM blocked_caller WHERE merchant = ? AND caller_hash = ?"
    return db.execute(sql, [merchant, caller_hash]).fetchone() is not None


def payment_session(db: Database, id: str, merchant: str | None = None) -> PaymentSession | None:
    """A payment session with its identification number while it has one."""
    return _owned(_one(db, rows.session, rows.SESSION + " WHERE s.id = ?", [id]), merchant)


def payment_sessions(
    db: Database,
    merchant: str | None,
    *,
    status: SessionStatus | None = None,
    order_id: str | None = None,
    shop: str | None = None,
    starting_after: str | None = None,
    limit: int = 20,
) -> Page[PaymentSession]:
    """A page of payment sessions."""
    where = {
        "s.merchant = ?": merchant,
        "s.status = ?": status,
        "s.order_id = ?": order_id,
        "s.shop = ?": shop,
        "s.id < ?": starting_after,
    }
    return _page(db, rows.session, rows.SESSION, where, key="s.id", limit=limit)


def call(db: Database, id: str, merchant: str | None = None) -> Call | None:
    """A call with its legs and timeline, as of one moment."""
    # One statement would be one snapshot; three need a transaction to be.
    db.execute("BEGIN")
    try:
        row = db.execute(rows.CALL + " WHERE id = ?", [id]).fetchone()
        if row is None or (merchant is not None and row[1] != merchant):
            return None
        legs = _all(db, rows.leg, rows.LEG + " WHERE call = ? ORDER BY id", [id])
        timeline = _all(db, rows.timeline_entry, rows.TIMELINE + " WHERE call = ? ORDER BY id", [id])
    finally:
        db.execute("COMMIT")
    return dataclasses.replace(rows.call(row), legs=legs, timeline=timeline)


def calls(
    db: Database,
    merchant: str | None,
    *,
    status: CallStatus | None = None,
    outcome: str | None = None,
    refusal: str | None = None,
    number: str | None = None,
    session: str | None = None,
    started_from: str | None = None,
    started_before: str | None = None,
    starting_after: str | None = None,
    limit: int = 20,
) -> Page[Call]:
    """A page of calls, without legs and timeline. Times as in `identifiers.timestamp`."""
    where = {
        "merchant = ?": merchant,
        "status = ?": status,
        "outcome = ?": outcome,
        "refusal = ?": refusal,
        "number = ?": number,
        "session = ?": session,
        "started_at >= ?": started_from,
        "started_at < ?": started_before,
        "id < ?": starting_after,
    }
    return _page(db, rows.call, rows.CALL, where, key="id", limit=limit)


def ladder(db: Database, call: str) -> tuple[LadderEntry, ...]:
    """The SIP messages of a call in order."""
    return _all(db, rows.ladder_entry, rows.LADDER + " WHERE call = ? ORDER BY id", [call])


def caller_number(db: Database, keys: StoreKeys, call: str) -> str | None:
    """The whole number of a caller; None when it is unknown or was withheld."""
    row = db.execute("SELECT caller_sealed FROM call WHERE id = ?", [call]).fetchone()
    return crypto.unseal(keys, row[0], f"call.caller:{call}") if row and row[0] else None


def payment(db: Database, id: str, merchant: str | None = None) -> Payment | None:
    """An attempt to charge."""
    return _owned(_one(db, rows.payment, rows.PAYMENT + " WHERE id = ?", [id]), merchant)


def payments(
    db: Database,
    merchant: str | None,
    *,
    status: PaymentStatus | None = None,
    session: str | None = None,
    order_id: str | None = None,
    shop: str | None = None,
    created_from: str | None = None,
    created_before: str | None = None,
    starting_after: str | None = None,
    limit: int = 20,
) -> Page[Payment]:
    """A page of payments."""
    where = {
        "merchant = ?": merchant,
        "status = ?": status,
        "session = ?": session,
        "order_id = ?": order_id,
        "shop = ?": shop,
        "created_at >= ?": created_from,
        "created_at < ?": created_before,
        "id < ?": starting_after,
    }
    return _page(db, rows.payment, rows.PAYMENT, where, key="id", limit=limit)


def access_pass(db: Database, keys: StoreKeys, payment: str) -> str | None:
    """The password of a trade at the gateway, in the clear: to be wrapped at once."""
    row = db.execute("SELECT access_pass_sealed FROM payment WHERE id = ?", [payment]).fetchone()
    return crypto.unseal(keys, row[0], f"payment.access_pass:{payment}") if row and row[0] else None


def open_intents(db: Database) -> tuple[Payment, ...]:
    """Every attempt without an outcome, oldest first: what the resolver has to find out, also at start-up."""
    where = " WHERE status IN ('intent', 'entered', 'executing', 'unknown') ORDER BY id"
    return _all(db, rows.payment, rows.PAYMENT + where, [])


def lately_not_charged(db: Database, since: str) -> tuple[Payment, ...]:
    """Payments closed as not charged since then whose ExecTran may have been sent, and that were not voided since."""
    where = (
        " WHERE closed_at > ? AND status = 'not_charged' AND executed_at IS NOT NULL"
        " AND error_category IS NOT 'late_approval_voided' ORDER BY closed_at"
    )
    return _all(db, rows.payment, rows.PAYMENT + where, [since])


def payment_change(db: Database, id: str, merchant: str | None = None) -> PaymentChange | None:
    """One change of a payment, only if it is the merchant's when one is given."""
    return _owned(_one(db, rows.payment_change, rows.PAYMENT_CHANGE + " WHERE id = ?", [id]), merchant)


def payment_changes(db: Database, payment: str) -> tuple[PaymentChange, ...]:
    """The changes of a payment, oldest first."""
    return _all(db, rows.payment_change, rows.PAYMENT_CHANGE + " WHERE payment = ? ORDER BY id", [payment])


def open_changes(db: Database) -> tuple[PaymentChange, ...]:
    """Every change without an outcome, oldest first."""
    where = " WHERE status IN ('pending', 'sent', 'unknown') ORDER BY id"
    return _all(db, rows.payment_change, rows.PAYMENT_CHANGE + where, [])


def events_after(
    db: Database, sequence: int, *, merchant: str | None = None, limit: int = MAX_LIMIT
) -> tuple[EventRecord, ...]:
    """Events after a sequence number, in order; `merchant=None` gives all."""
    sql, parameters = rows.EVENT + " WHERE sequence > ?", [sequence]
    if merchant is not None:
        return _all(
            db,
            rows.event,
            sql + " AND merchant = ? ORDER BY sequence LIMIT ?",
            [*parameters, merchant, limit],
        )
    return _all(db, rows.event, sql + " ORDER BY sequence LIMIT ?", [*parameters, limit])


def event(db: Database, id: str, merchant: str | None = None) -> EventRecord | None:
    """One event by its id."""
    return _owned(_one(db, rows.event, rows.EVENT + " WHERE id = ?", [id]), merchant)


def newest_sequence(db: Database) -> int:
    """The sequence number of the newest event, 0 when there is none."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return int(row[0]) if row else 0


def oldest_sequence(db: Database) -> int:
    """The sequence number of the oldest event that is kept: a cursor before it has lost some."""
    row = db.execute("SELECT min(sequence) FROM event").fetchone()
    return int(row[0]) if row[0] is not None else newest_sequence(db) + 1


def claim_failures(db: Database, *, merchant: str, since: str, caller_hash: str | None = None) -> int:
    """How many identification numbers were refused since a time, at a merchant or from one caller."""
    sql = "SELECT count(*) FROM claim_failure WHERE merchant = ? AND at >= ?"
    if caller_hash is None:
        return int(db.execute(sql, [merchant, since]).fetchone()[0])
    return int(db.execute(sql + " AND caller_hash = ?", [merchant, since, caller_hash]).fetchone()[0])


def counts(db: Database) -> Counts:
    """Figures for the metrics; each comes from a small index."""
    live = (
        "SELECT status, count(*) FROM payment_session"
        " WHERE status IN ('open', 'claimed', 'authorizing', 'unknown') GROUP BY status"
    )
    unsettled = (
        "SELECT status, count(*) FROM payment"
        " WHERE status IN ('intent', 'entered', 'executing', 'unknown') GROUP BY status"
    )
    (running,) = db.execute("SELECT count(*) FROM call WHERE ended_at IS NULL").fetchone()
    (opened,) = db.execute("SELECT count(*) FROM identification_number WHERE status = 'open'").fetchone()
    return Counts(
        sessions=dict(db.execute(live).fetchall()),
        payments_unsettled=dict(db.execute(unsettled).fetchall()),
        calls_running=running,
        identification_numbers_open=opened,
        newest_sequence=newest_sequence(db),
    )


def _one(db: Database, build: Callable[[rows.Row], T], sql: str, parameters: list[Any]) -> T | None:
    row = db.execute(sql, parameters).fetchone()
    return None if row is None else build(row)


def _all(db: Database, build: Callable[[rows.Row], T], sql: str, parameters: list[Any]) -> tuple[T, ...]:
    return tuple(build(row) for row in db.execute(sql, parameters).fetchall())


Owned = TypeVar("Owned", Shop, PaymentSession, Call, Payment, PaymentChange, EventRecord)


def _owned(value: Owned | None, merchant: str | None) -> Owned | None:
    return None if value is None or (merchant is not None and value.merchant != merchant) else value


def _page(
    db: Database,
    build: Callable[[rows.Row], T],
    select: str,
    where: Mapping[str, object],
    *,
    key: str,
    limit: int,
) -> Page[T]:
    """A page; `where` holds our own SQL as keys and the values to bind, None for a filter not asked for."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit: 1 to {MAX_LIMIT}")
    asked = {sql: value for sql, value in where.items() if value is not None}
    clause = f" WHERE {' AND '.join(asked)}" if asked else ""
    found = db.execute(
        f"{select}{clause} ORDER BY {key} DESC LIMIT ?", [*asked.values(), limit + 1]
    ).fetchall()
    return Page(tuple(build(row) for row in found[:limit]), len(found) > limit)


StorageError = sqlite3.Error
"""What reading may raise when the database cannot be read; `api` maps it to 503."""
