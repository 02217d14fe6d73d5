"""Payments that were closed as not charged and stand at the gateway all the same.

    NOT_CHARGED ──(the gateway shows our charge)──► late approval, told once
        │ nothing else of the order is under way     ──► APPROVED, the session PAID
        │ the order is under way or its session is claimed ──► wait, look again
        └ the order was paid, or is to be paid, otherwise  ──► void at the gateway, then recorded as voided

`error_category` remembers how far that came, so that a crash in between repeats nothing but the look-up.
"""

from __future__ import annotations

import datetime as dt
import enum
from typing import Final

from sipivr.store import rows, sessions
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import NotFound
from sipivr.store.records import SYSTEM, Payment, PaymentStatus, SessionStatus

LATE: Final = "late_approval"
VOIDED: Final = "late_approval_voided"


class LateDecision(enum.StrEnum):
    """What is to be done about a charge that came late."""

    ADOPTED = "adopted"
    VOID = "void"
    WAIT = "wait"
    SETTLED = "settled"  # it is not `not_charged` any more, or was voided


def late_approval(
    store: WritableStore,
    *,
    payment: str,
    approval_number: str,
    transaction_id: str,
    forward: str,
    now: dt.datetime | None = None,
) -> LateDecision:
    """The gateway shows a charge for a payment that was closed as not charged. May be called again.

    Raises:
        NotFound: no such payment.
    """
    with transaction(store, now) as tx:
        current = _require(tx, payment)
        if current.status is not PaymentStatus.NOT_CHARGED or current.error_category == VOIDED:
            return LateDecision.SETTLED
        if current.error_category != LATE:
            tx.run("UPDATE payment SET error_category = ? WHERE id = ?", [LATE, payment])
            tx.audit(SYSTEM, "payment.late_approval", payment, current.merchant)
            _tell(tx, payment, "payment.late_approval")
        decision = _decide(tx, current)
        if decision is LateDecision.ADOPTED:
            tx.run(
                "UPDATE payment SET status = 'approved', approval_number = ?, transaction_id = ?, forward = ?,"
                " error_codes = '[]', error_category = NULL, closed_at = ? WHERE id = ?",
                [approval_number, transaction_id, forward, tx.at, payment],
            )
            tx.run("UPDATE payment_session SET payment = ? WHERE id = ?", [payment, current.session])
            tx.audit(SYSTEM, "payment.approved", payment, current.merchant, {"session": current.session})
            _tell(tx, payment, "payment.approved")
            sessions.move(tx, current.session, SessionStatus.PAID)
            sessions.tell(tx, current.session, "payment_session.paid")
    return decision


def late_approval_voided(store: WritableStore, *, payment: str, now: dt.datetime | None = None) -> Payment:
    """The charge that came late was voided at the gateway.

    Raises:
        NotFound: no such payment.
    """
    with transaction(store, now) as tx:
        current = _require(tx, payment)
        if current.error_category == VOIDED:
            return current
        tx.run("UPDATE payment SET error_category = ? WHERE id = ?", [VOIDED, payment])
        tx.audit(SYSTEM, "payment.late_approval_voided", payment, current.merchant)
        return _tell(tx, payment, "payment.late_approval_voided")


def _decide(tx: Transaction, payment: Payment) -> LateDecision:
    attempts = {
        status
        for (status,) in tx.rows(
            "SELECT status FROM payment WHERE shop = ? AND order_id = ? AND id <> ?",
            [payment.shop, payment.order_id, payment.id],
        )
    }
    if PaymentStatus.APPROVED in attempts:
        return LateDecision.VOID
    if attempts & {"intent", "entered", "executing", "unknown"}:
        return LateDecision.WAIT
    own = sessions.require(tx, payment.session).status
    if own is SessionStatus.CLAIMED:
        return LateDecision.WAIT  # the customer is on the line and may be keying another card
    if own is SessionStatus.CANCELED:
        return LateDecision.VOID
    others = tx.row(
        "SELECT 1 FROM payment_session WHERE shop = ? AND order_id = ? AND id <> ?"
        " AND status IN ('open', 'claimed', 'authorizing', 'unknown', 'paid')",
        [payment.shop, payment.order_id, payment.session],
    )
    # The customer was told to pay again, and the order was registered for it: that payment is the one.
    return LateDecision.VOID if others else LateDecision.ADOPTED


def _require(tx: Transaction, payment: str) -> Payment:
    row = tx.row(rows.PAYMENT + " WHERE id = ?", [payment])
    if row is None:
        raise NotFound("no such payment")
    return rows.payment(row)


def _tell(tx: Transaction, payment: str, event: str) -> Payment:
    tx.run("UPDATE payment SET version = version + 1 WHERE id = ?", [payment])
    current = _require(tx, payment)
    tx.event(event, current.merchant, current.mode, rows.payment_snapshot(current))
    return current
