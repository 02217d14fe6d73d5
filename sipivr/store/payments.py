"""Attempts to charge: an order is charged at most once (design: exactly once; invariant 3).

    INTENT ──► ENTERED ──► EXECUTING ──► APPROVED
      │           │            ├───────► DECLINED
      │           │            ├───────► NOT_CHARGED      nothing was sent, or the gateway knows of no charge
      └───────────┴────────────┴───────► UNKNOWN ──► any of the three, by asking the gateway

- `begin_payment` is committed, on the disk, before the first request; `payment_executing` before the first
  byte of ExecTran. So after a crash INTENT and ENTERED were surely never executed; EXECUTING must be
  asked about.
- The unique index `payment_live_order` refuses a second live attempt of an order, whatever this code does.
- Every commit here is `synchronous=FULL`.
- Of the card only brand and last 4; the access password of a trade is sealed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from sipivr.store import claims, crypto, rows, sessions
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import (
    Conflict,
    IntentOpen,
    Invalid,
    NotFound,
    OrderAlreadyPaid,
    SessionNotPayable,
    TooManyAttempts,
)
from sipivr.store.identifiers import new_id
from sipivr.store.records import SYSTEM, Actor, Payment, PaymentStatus, SessionStatus

MAX_ATTEMPTS_A_SESSION: Final = 5
#: A suffix has two digits at most (gateway order ids have 27 characters).
MAX_SUFFIX: Final = 99

_LAST4: Final = re.compile(r"[0-9]{4}", re.ASCII)

_S = PaymentStatus
#: From where each status may be reached.
_BEFORE: Final = {
    _S.ENTERED: {_S.INTENT, _S.UNKNOWN},
    _S.EXECUTING: {_S.ENTERED},
    _S.UNKNOWN: {_S.INTENT, _S.ENTERED, _S.EXECUTING},
    _S.APPROVED: {_S.EXECUTING, _S.UNKNOWN},
    _S.DECLINED: {_S.INTENT, _S.ENTERED, _S.EXECUTING, _S.UNKNOWN},
    _S.NOT_CHARGED: {_S.INTENT, _S.ENTERED, _S.EXECUTING, _S.UNKNOWN},
}


def begin_payment(
    store: WritableStore,
    *,
    session: str,
    call: str,
    brand: str | None,
    last4: str | None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Payment:
    """Writes the intent to charge the session's order; nothing may be sent before this has returned.

    The gateway's order id is `order_id`, then `order_id-2` …, counted over all sessions of the order.

    Raises:
        SessionNotPayable: not claimed by this call, or its shop or gateway was switched off.
        IntentOpen: an attempt at this order is open or unknown; `related` is its id.
        OrderAlreadyPaid: an attempt at this order was approved.
        TooManyAttempts: the session or the order has no attempt left.
        Invalid: `last4` is not four digits.
    """
    if last4 is not None and not _LAST4.fullmatch(last4):
        raise Invalid("last4: four digits")
    with transaction(store, now) as tx:
        current = sessions.require(tx, session)
        _refuse_live_attempt(tx, current.shop, current.order_id)
        if current.status is not SessionStatus.CLAIMED or current.call != call:
            raise SessionNotPayable(f"the session is {current.status}", session)
        if not tx.row(
            "SELECT 1 FROM shop s JOIN connector c ON c.id = s.connector"
            " WHERE s.id = ? AND s.active AND c.active AND c.mode = ?",
            [current.shop, current.mode],
        ):
            raise SessionNotPayable("the shop or its gateway is switched off", session)
        (tried,) = tx.row("SELECT count(*) FROM payment WHERE session = ?", [session]) or (0,)
        (used,) = tx.row(
            "SELECT coalesce(max(attempt), 0) FROM payment WHERE shop = ? AND order_id = ?",
            [current.shop, current.order_id],
        ) or (0,)
        if tried >= MAX_ATTEMPTS_A_SESSION or used >= MAX_SUFFIX:
            raise TooManyAttempts(f"{tried} attempts were made in this session", session)
        attempt = used + 1
        payment = id or new_id("pay", tx.now)
        tx.run(
            "INSERT INTO payment (id, merchant, session, call, shop, order_id, gateway_order_id, attempt,"
            " amount, currency, mode, status, brand, last4, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'intent', ?, ?, ?)",
            [
                payment,
                current.merchant,
                session,
                call,
                current.shop,
                current.order_id,
                current.order_id if attempt == 1 else f"{current.order_id}-{attempt}",
                attempt,
                current.amount,
                current.currency,
                current.mode,
                brand,
                last4,
                tx.at,
            ],
        )
        sessions.move(tx, session, SessionStatus.AUTHORIZING)
        tx.run("UPDATE payment_session SET payment = ? WHERE id = ?", [payment, session])
        sessions.tell(tx, session, "payment_session.authorizing")
        begun = _tell(tx, payment, "payment.created")
        tx.audit(
            SYSTEM,
            "payment.begin",
            payment,
            current.merchant,
            {"session": session, "gateway_order_id": begun.gateway_order_id, "amount": begun.amount},
        )
    return begun


def payment_entered(
    store: WritableStore,
    *,
    payment: str,
    access_id: str,
    access_pass: str,
    now: dt.datetime | None = None,
) -> Payment:
    """The gateway has the trade (EntryTran answered, or our lost one was adopted).

    Raises:
        NotFound, Conflict: no such payment, or ExecTran was already begun.
    """
    with transaction(store, now) as tx:
        current = _advance(tx, payment, _S.ENTERED)
        if current.executed_at is not None:
            raise Conflict("the charge was already sent", payment)
        tx.run(
            "UPDATE payment SET access_id = ?, access_pass_sealed = ? WHERE id = ?",
            [access_id, crypto.seal(store.keys, access_pass, f"payment.access_pass:{payment}"), payment],
        )
        return _with_session(tx, payment, SessionStatus.AUTHORIZING, "payment.entered")


def payment_executing(store: WritableStore, *, payment: str, now: dt.datetime | None = None) -> Payment:
    """To be committed before the first byte of ExecTran is sent.

    Raises:
        NotFound, Conflict: the payment is not entered; it must not be sent then.
    """
    with transaction(store, now) as tx:
        _advance(tx, payment, _S.EXECUTING)
        tx.run("UPDATE payment SET executed_at = ? WHERE id = ?", [tx.at, payment])
        return _tell(tx, payment, "payment.executing")


def payment_unknown(
    store: WritableStore,
    *,
    payment: str,
    error_codes: Iterable[str] = (),
    now: dt.datetime | None = None,
) -> Payment:
    """An answer did not come: the order stays locked until the gateway has been asked. May be called
    again.
    """
    with transaction(store, now) as tx:
        current = _require(tx, payment)
        if current.status is _S.UNKNOWN:
            return current
        _advance(tx, payment, _S.UNKNOWN)
        tx.run(
            "UPDATE payment SET error_codes = ? WHERE id = ?",
            [msgspec.json.encode(list(error_codes)).decode(), payment],
        )
        tx.audit(SYSTEM, "payment.unknown", payment, current.merchant)
        return _with_session(tx, payment, SessionStatus.UNKNOWN, "payment.unknown")


def payment_closed(
    store: WritableStore,
    *,
    payment: str,
    status: PaymentStatus,
    approval_number: str | None = None,
    transaction_id: str | None = None,
    forward: str | None = None,
    error_codes: Iterable[str] = (),
    error_category: str | None = None,
    final: bool = False,
    actor: Actor = SYSTEM,
    now: dt.datetime | None = None,
) -> Payment:
    """The outcome is known.

    The session becomes PAID; or, when nothing was charged, CLAIMED again for another card. It is let go
    instead (DECLINED, or open while its number is valid) when its call has ended, its attempts are used up or
    `final` says that the dialogue will not ask for another card.

    Args:
        store: the writable store.
        payment: the attempt.
        status: APPROVED, DECLINED or NOT_CHARGED.
        approval_number: of an approval.
        transaction_id: the gateway's, of an approval.
        forward: code of the company that the gateway forwarded to.
        error_codes: of a decline, most decisive first.
        error_category: of a decline, in the words of `gateway.port.Category`.
        final: no other card will be asked for.
        actor: who found it out.
        now: for tests.

    Raises:
        NotFound: no such payment.
        Conflict: already closed otherwise (the same outcome again is answered with the record).
        ValueError: `status` is not an outcome.
    """
    if status not in (_S.APPROVED, _S.DECLINED, _S.NOT_CHARGED):
        raise ValueError(f"{status} is not an outcome")
    with transaction(store, now) as tx:
        current = _require(tx, payment)
        if current.status is status:
            return current
        _advance(tx, payment, status)
        tx.run(
            "UPDATE payment SET approval_number = ?, transaction_id = ?, forward = ?, error_codes = ?,"
            " error_category = ?, closed_at = ? WHERE id = ?",
            [
                approval_number,
                transaction_id,
                forward,
                msgspec.json.encode(list(error_codes)).decode(),
                error_category,
                tx.at,
                payment,
            ],
        )
        tx.audit(actor, f"payment.{status}", payment, current.merchant, {"session": current.session})
        closed = _tell(tx, payment, f"payment.{status}")
        _close_session(tx, closed, final)
    return closed


def _close_session(tx: Transaction, payment: Payment, final: bool) -> None:
    session = payment.session
    if payment.status is _S.APPROVED:
        sessions.move(tx, session, SessionStatus.PAID)
        sessions.tell(tx, session, "payment_session.paid")
        return
    calling = tx.row("SELECT 1 FROM call WHERE id = ? AND ended_at IS NULL", [payment.call])
    (tried,) = tx.row("SELECT count(*) FROM payment WHERE session = ?", [session]) or (0,)
    # CLAIMED first in every case: it is the state that `leave_call` starts from.
    sessions.move(tx, session, SessionStatus.CLAIMED)
    if calling and not final and tried < MAX_ATTEMPTS_A_SESSION:
        sessions.tell(tx, session, "payment_session.claimed")
    else:
        claims.leave_call(tx, session)


def _with_session(tx: Transaction, payment: str, status: SessionStatus, event: str) -> Payment:
    told = _tell(tx, payment, event)
    if sessions.require(tx, told.session).status is not status:
        sessions.move(tx, told.session, status)
        sessions.tell(tx, told.session, f"payment_session.{status}")
    return told


def _refuse_live_attempt(tx: Transaction, shop: str, order_id: str) -> None:
    row = tx.row(
        "SELECT id, status, session FROM payment WHERE shop = ? AND order_id = ?"
        " AND status IN ('intent', 'entered', 'executing', 'unknown', 'approved')",
        [shop, order_id],
    )
    if row is None:
        return
    if row[1] == _S.APPROVED:
        raise OrderAlreadyPaid("this order is paid", row[2])
    raise IntentOpen(f"an attempt at this order is {row[1]}", row[0])


def _require(tx: Transaction, payment: str) -> Payment:
    row = tx.row(rows.PAYMENT + " WHERE id = ?", [payment])
    if row is None:
        raise NotFound("no such payment")
    return rows.payment(row)


def _advance(tx: Transaction, payment: str, status: PaymentStatus) -> Payment:
    current = _require(tx, payment)
    if current.status not in _BEFORE[status]:
        raise Conflict(f"the payment is {current.status}, not to become {status}", payment)
    tx.run("UPDATE payment SET status = ? WHERE id = ?", [status, payment])
    return current


def _tell(tx: Transaction, payment: str, event: str) -> Payment:
    tx.run("UPDATE payment SET version = version + 1 WHERE id = ?", [payment])
    current = _require(tx, payment)
    tx.event(event, current.merchant, current.mode, rows.payment_snapshot(current))
    return current
