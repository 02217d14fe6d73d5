"""What is done with a payment after its charge: settle, void, refund, another amount. One at a time for a payment.

    PENDING ──► SENT ──► DONE
       │         ├─────► REFUSED     surely not done
       │         └─────► UNKNOWN ──► DONE | REFUSED, by asking the gateway
       └───────► REFUSED             nothing was sent

`change_sent` is committed before the first byte; so after a crash PENDING was not sent and may be carried out, SENT and
UNKNOWN must be asked about. The unique index `payment_change_open` refuses a second one meanwhile.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

import msgspec

from sipivr.store import rows
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Conflict, Invalid, NotFound
from sipivr.store.identifiers import new_id
from sipivr.store.records import (
    SYSTEM,
    Actor,
    ChangeKind,
    ChangeStatus,
    Payment,
    PaymentChange,
    PaymentStatus,
)

OPEN: Final = ("pending", "sent", "unknown")
_DONE_EVENTS: Final = {
    ChangeKind.SETTLE: "payment.settled",
    ChangeKind.VOID: "payment.voided",
    ChangeKind.REFUND: "payment.refunded",
    ChangeKind.AMOUNT: "payment.amount_changed",
}


def begin_change(
    store: WritableStore,
    actor: Actor,
    *,
    payment: str,
    kind: ChangeKind,
    amount: int | None = None,
    merchant: str | None = None,
    now: dt.datetime | None = None,
) -> PaymentChange:
    """Writes down what is to be done; it is carried out afterwards.

    Args:
        store: the writable store.
        actor: who asks.
        payment: an approved payment.
        kind: what is to be done.
        amount: REFUND: how much is given back, None for all; AMOUNT: what the payment shall be.
        merchant: whose payment it must be.
        now: for tests.

    Raises:
        NotFound: no such payment of the merchant.
        Conflict: not approved, voided or refunded, or another change of it is under way (`related` is its id).
        Invalid: an amount that does not fit.
    """
    with transaction(store, now) as tx:
        current = _payment(tx, payment)
        if merchant is not None and current.merchant != merchant:
            raise NotFound("no such payment")
        if current.status is not PaymentStatus.APPROVED:
            raise Conflict(f"the payment is {current.status}", payment)
        busy = tx.row(
            "SELECT id FROM payment_change WHERE payment = ? AND status IN ('pending', 'sent', 'unknown')",
            [payment],
        )
        if busy is not None:
            raise Conflict("another change of this payment is under way", busy[0])
        reversed_ = tx.row(
            "SELECT id FROM payment_change WHERE payment = ? AND status = 'done'"
            " AND (kind = 'void' OR (kind = 'refund' AND amount IS NULL))",
            [payment],
        )
        if reversed_ is not None:
            raise Conflict("the payment was given back", reversed_[0])
        amount = _amount(kind, amount, current)
        change = new_id("chg", tx.now)
        tx.run(
            "INSERT INTO payment_change (id, payment, merchant, kind, amount, amount_before, status, requested_by,"
            " created_at) VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
            [change, payment, current.merchant, kind, amount, current.amount, actor.principal, tx.at],
        )
        tx.audit(actor, f"payment.{kind}", payment, current.merchant, {"change": change, "amount": amount})
        return _change(tx, change)


def change_sent(
    store: WritableStore, *, change: str, job: str, now: dt.datetime | None = None
) -> PaymentChange:
    """To be committed before the first byte is sent.

    Raises:
        NotFound, Conflict: it is not pending; it must not be sent then.
    """
    with transaction(store, now) as tx:
        if _change(tx, change).status is not ChangeStatus.PENDING:
            raise Conflict("the change was sent or closed", change)
        tx.run(
            "UPDATE payment_change SET status = 'sent', job = ?, sent_at = ?, version = version + 1 WHERE id = ?",
            [job, tx.at, change],
        )
        return _change(tx, change)


def change_unknown(
    store: WritableStore, *, change: str, codes: Iterable[str] = (), now: dt.datetime | None = None
) -> PaymentChange:
    """The answer did not come. May be called again.

    Raises:
        NotFound: no such change.
    """
    with transaction(store, now) as tx:
        tx.run(
            "UPDATE payment_change SET status = 'unknown', error_codes = ?, version = version + 1"
            " WHERE id = ? AND status = 'sent'",
            [msgspec.json.encode(list(codes)).decode(), change],
        )
        return _change(tx, change)


def change_closed(
    store: WritableStore,
    *,
    change: str,
    done: bool,
    codes: Iterable[str] = (),
    reason: str | None = None,
    now: dt.datetime | None = None,
) -> PaymentChange:
    """What became of it. The same outcome again is answered with the record.

    Raises:
        NotFound: no such change.
        Conflict: closed otherwise.
    """
    status = ChangeStatus.DONE if done else ChangeStatus.REFUSED
    with transaction(store, now) as tx:
        current = _change(tx, change)
        if current.status is status:
            return current
        if current.status.value not in OPEN:
            raise Conflict(f"the change is {current.status}", change)
        tx.run(
            "UPDATE payment_change SET status = ?, error_codes = ?, reason = ?, closed_at = ?,"
            " version = version + 1 WHERE id = ?",
            [status, msgspec.json.encode(list(codes)).decode(), reason, tx.at, change],
        )
        event = "payment.change_refused"
        if done:
            event = _DONE_EVENTS[current.kind]
            tx.run("UPDATE payment SET amount = ? WHERE id = ?", [current.new_amount, current.payment])
        tx.run("UPDATE payment SET version = version + 1 WHERE id = ?", [current.payment])
        payment = _payment(tx, current.payment)
        snapshot = {**rows.payment_snapshot(payment), "change": change}
        tx.event(event, payment.merchant, payment.mode, snapshot)
        tx.audit(SYSTEM, event, payment.id, payment.merchant, {"change": change})
        return _change(tx, change)


def _amount(kind: ChangeKind, amount: int | None, payment: Payment) -> int | None:
    if kind in (ChangeKind.SETTLE, ChangeKind.VOID):
        if amount is not None:
            raise Invalid("amount: settle and void take the whole payment")
        return None
    if kind is ChangeKind.AMOUNT:
        if amount is None or not 1 <= amount <= 99_999_999 or amount == payment.amount:
            raise Invalid("amount: 1 to 99,999,999, and another than it is")
        return amount
    if amount is not None and not 1 <= amount <= payment.amount:
        raise Invalid("amount: 1 to what was paid")
    return None if amount == payment.amount else amount


def _payment(tx: Transaction, id: str) -> Payment:
    row = tx.row(rows.PAYMENT + " WHERE id = ?", [id])
    if row is None:
        raise NotFound("no such payment")
    return rows.payment(row)


def _change(tx: Transaction, id: str) -> PaymentChange:
    row = tx.row(rows.PAYMENT_CHANGE + " WHERE id = ?", [id])
    if row is None:
        raise NotFound("no such change")
    return rows.payment_change(row)
