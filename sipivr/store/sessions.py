"""Payment sessions: registered, claimed by one call, and ended.

    OPEN ──claim──► CLAIMED ──intent──► AUTHORIZING ──► PAID
     │  ◄─release──    │  ◄──another try──   │  └────► UNKNOWN ──► PAID | DECLINED | CLAIMED
     ├──► EXPIRED      └──► DECLINED ◄───────┘
     └──► CANCELED ◄── (from CLAIMED too)

An order has at most one session that is OPEN, CLAIMED, AUTHORIZING, UNKNOWN or PAID (the unique index
`payment_session_live_order` holds it). A session whose number ran out is EXPIRED; a new number opens it
again. A claimed session lives as long as its call: when the call ends it is DECLINED if a card was, else
open again while its number is still valid.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sipivr.store import crypto, identification, rows
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Conflict, Invalid, NotFound, OrderAlreadyPaid, OrderInProgress
from sipivr.store.identifiers import new_id
from sipivr.store.records import (
    Actor,
    Mask,
    NumberUse,
    PaymentSession,
    SessionStatus,
)
from sipivr.store.registry import check_e164, check_mask

#: A suffix of an attempt follows it, so it is shorter than the gateway's 27 and must not look as if it had
#: one.
ORDER_ID: Final = re.compile(r"(?!.*-[0-9]{1,2}\Z)[A-Za-z0-9-]{1,24}", re.ASCII)
MAX_AMOUNT: Final = 99_999_999
_LANGUAGE: Final = re.compile(r"[a-z]{2}", re.ASCII)
_METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_DIGIT_RUN: Final = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}", re.ASCII)


def create_payment_session(
    store: WritableStore,
    actor: Actor,
    *,
    merchant: str,
    shop: str,
    order_id: str,
    amount: int,
    currency: str = "JPY",
    language: str | None = None,
    number: str | None = None,
    metadata: Mapping[str, str] | None = None,
    mask: Mask | None = None,
    caller: str | None = None,
    now: dt.datetime | None = None,
) -> PaymentSession:
    """Registers what is to be paid and issues an identification number.

    Args:
        store: the writable store.
        actor: who asks.
        merchant: whose session it is.
        shop: id of an active shop of the merchant.
        order_id: 1 to 24 of `[A-Za-z0-9-]`, not ending in `-` and one or two digits.
        amount: in the currency's minor unit, 1 to 99,999,999.
        currency: the shop's currency.
        language: of the dialogue; None: the number's, else the merchant's.
        number: id of the merchant's number to dial; None: its first active one.
        metadata: up to 20 short texts of the merchant's own.
        mask: of the capture on an inline call; None: the merchant's.
        caller: E.164 of the telephone that the transfer will come from: it takes the session without a keyed number,
            if no other open session names it too. Only its hash and a masked form are kept.
        now: for tests.

    Raises:
        NotFound: shop or number.
        Invalid: a value outside its format.
        OrderInProgress: `related` is the live session of this order.
        OrderAlreadyPaid: `related` is the session that paid it.
        IdentificationNumbersExhausted: nothing was created.
    """
    metadata = dict(metadata or {})
    _check_values(order_id, amount, language, metadata)
    with transaction(store, now) as tx:
        found = tx.row(
            "SELECT s.currency, c.mode, m.language, m.mode, m.identification_digits, m.clamp_allowed"
            " FROM shop s JOIN connector c ON c.id = s.connector JOIN merchant m ON m.id = s.merchant"
            " WHERE s.id = ? AND s.merchant = ? AND s.active AND c.active AND m.active",
            [shop, merchant],
        )
        if found is None:
            raise NotFound("shop: no active shop of this id")
        shop_currency, mode, merchant_language, merchant_mode, digits, clamp_allowed = found
        if mask is not None:
            check_mask(mask, clamp_allowed=bool(clamp_allowed))
        if caller is not None:
            check_e164(caller, "caller")
        if currency != shop_currency:
            raise Invalid(f"currency: this shop charges in {shop_currency}")
        if mode != merchant_mode:
            raise Invalid("shop: its gateway and the merchant are not both in test or both in live mode")
        dial = _number_to_dial(tx, merchant, number)
        refuse_second_session(tx, shop, order_id)
        session = new_id("ps", tx.now)
        tx.run(
            "INSERT INTO payment_session (id, merchant, shop, order_id, amount, currency, language, status,"
            " mode, number, metadata, mask, caller, caller_hash, created_by, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                session,
                merchant,
                shop,
                order_id,
                amount,
                currency,
                language or (dial[2] if dial else merchant_language),
                mode,
                dial[0] if dial else None,
                msgspec.json.encode(metadata).decode(),
                mask,
                crypto.masked(caller) if caller else None,
                crypto.caller_hash(store.keys, caller) if caller else None,
                actor.principal,
                tx.at,
            ],
        )
        identification.issue(tx, merchant, session, _length(digits, dial[1] if dial else None))
        created = tell(tx, session, "payment_session.created")
        tx.audit(
            actor,
            "payment_session.create",
            session,
            merchant,
            {"shop": shop, "order_id": order_id, "amount": amount},
        )
    return created


def issue_identification_number(
    store: WritableStore,
    actor: Actor,
    *,
    session: str,
    merchant: str | None = None,
    now: dt.datetime | None = None,
) -> PaymentSession:
    """Issues a new number for an open or expired session and retires the old one.

    Raises:
        NotFound: no such session of the merchant.
        Conflict: the session is claimed or has ended otherwise.
        OrderInProgress: the session had expired and the order has another one now; OrderAlreadyPaid alike.
        IdentificationNumbersExhausted: the old number stays.
    """
    with transaction(store, now) as tx:
        current = require(tx, session, merchant)
        if current.status not in (SessionStatus.OPEN, SessionStatus.EXPIRED):
            raise Conflict(f"the session is {current.status}", session)
        if current.status is SessionStatus.EXPIRED:
            refuse_second_session(tx, current.shop, current.order_id)
        found = tx.row(
            "SELECT m.identification_digits, n.use FROM payment_session s"
            " JOIN merchant m ON m.id = s.merchant LEFT JOIN number n ON n.id = s.number WHERE s.id = ?",
            [session],
        )
        digits, use = found or (6, None)
        identification.retire(tx, session)
        identification.issue(tx, current.merchant, session, _length(digits, use))
        tx.run("UPDATE payment_session SET status = 'open', closed_at = NULL WHERE id = ?", [session])
        changed = tell(tx, session, "payment_session.identification_number_issued")
        tx.audit(actor, "payment_session.issue_identification_number", session, current.merchant)
    return changed


def cancel_session(
    store: WritableStore,
    actor: Actor,
    *,
    session: str,
    merchant: str | None = None,
    now: dt.datetime | None = None,
) -> PaymentSession:
    """Cancels a session that is open or claimed. From this commit on no intent can be begun for it.

    Raises:
        NotFound: no such session of the merchant.
        Conflict: a charge is under way or the session has ended.
    """
    with transaction(store, now) as tx:
        current = require(tx, session, merchant)
        if current.status is SessionStatus.CANCELED:
            return current
        if current.status not in (SessionStatus.OPEN, SessionStatus.CLAIMED):
            raise Conflict(f"the session is {current.status}", session)
        move(tx, session, SessionStatus.CANCELED)
        changed = tell(tx, session, "payment_session.canceled")
        tx.audit(actor, "payment_session.cancel", session, current.merchant)
    return changed


def expire_sessions(store: WritableStore, *, now: dt.datetime | None = None) -> tuple[str, ...]:
    """Expires every open session whose number has run out; returns their ids. To be run every few seconds."""
    with transaction(store, now, durable=False) as tx:
        due = tx.rows(
            "SELECT s.id FROM payment_session s LEFT JOIN identification_number i"
            " ON i.session = s.id AND i.status <> 'retired'"
            " WHERE s.status = 'open' AND (i.expires_at IS NULL OR i.expires_at <= ?)",
            [tx.at],
        )
        for (session,) in due:
            move(tx, session, SessionStatus.EXPIRED)
            tell(tx, session, "payment_session.expired")
    return tuple(row[0] for row in due)


# What the other modules of the store need of sessions, inside their own transactions.


def require(tx: Transaction, session: str, merchant: str | None = None) -> PaymentSession:
    """The session, or NotFound."""
    row = tx.row(rows.SESSION + " WHERE s.id = ?", [session])
    if row is None or (merchant is not None and row[1] != merchant):
        raise NotFound("no such payment session")
    return rows.session(row)


def tell(tx: Transaction, session: str, event: str) -> PaymentSession:
    """Counts the version up, writes the event, and returns the session as it is now."""
    tx.run("UPDATE payment_session SET version = version + 1 WHERE id = ?", [session])
    current = require(tx, session)
    tx.event(event, current.merchant, current.mode, rows.session_snapshot(current))
    return current


def move(tx: Transaction, session: str, status: SessionStatus) -> None:
    """Sets the status; an ended session loses its identification number and gets its time of closing."""
    live = status in (
        SessionStatus.OPEN,
        SessionStatus.CLAIMED,
        SessionStatus.AUTHORIZING,
        SessionStatus.UNKNOWN,
    )
    if not live:
        identification.retire(tx, session)
    tx.run(
        "UPDATE payment_session SET status = ?, closed_at = ? WHERE id = ?",
        [status, None if live else tx.at, session],
    )


def refuse_second_session(tx: Transaction, shop: str, order_id: str) -> None:
    """Raises `OrderInProgress` or `OrderAlreadyPaid` when the order has a live session."""
    row = tx.row(
        "SELECT id, status FROM payment_session WHERE shop = ? AND order_id = ?"
        " AND status IN ('open', 'claimed', 'authorizing', 'unknown', 'paid')",
        [shop, order_id],
    )
    if row is None:
        return
    if row[1] == SessionStatus.PAID:
        raise OrderAlreadyPaid("this order is paid", row[0])
    raise OrderInProgress(f"a payment session of this order is {row[1]}", row[0])


def _check_values(order_id: str, amount: int, language: str | None, metadata: Mapping[str, str]) -> None:
    if not ORDER_ID.fullmatch(order_id):
        raise Invalid("order_id: 1 to 24 of A-Z a-z 0-9 -, not ending in - and one or two digits")
    if not 1 <= amount <= MAX_AMOUNT:
        raise Invalid(f"amount: 1 to {MAX_AMOUNT}")
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise Invalid("language: two lower-case letters (ISO 639-1)")
    if len(metadata) > 20:
        raise Invalid("metadata: at most 20 entries")
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key) or len(value) > 500:
            raise Invalid("metadata: keys are 1 to 40 of A-Z a-z 0-9 _ . -, values at most 500 characters")
        # A card number typed into a free text would be stored and shown for years (invariant 2).
        if any(_looks_like_card(run) for run in _DIGIT_RUN.findall(value)):
            raise Invalid(f"metadata.{key}: looks like a card number")


def _looks_like_card(run: str) -> bool:
    digits = [int(c) for c in run if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return digits[0] in (2, 3, 4, 5, 6) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _number_to_dial(tx: Transaction, merchant: str, number: str | None) -> tuple[str, str, str] | None:
    """(id, use, language) of the number that the customer is transferred to."""
    if number is None:
        row = tx.row(
            "SELECT id, use, language FROM number WHERE merchant = ? AND active"
            " ORDER BY use <> 'transfer_in', id LIMIT 1",
            [merchant],
        )
        return (row[0], row[1], row[2]) if row else None
    row = tx.row(
        "SELECT id, use, language FROM number WHERE id = ? AND merchant = ? AND active", [number, merchant]
    )
    if row is None:
        raise NotFound("number: no active number of this id")
    return row[0], row[1], row[2]


def _length(digits: int, use: str | None) -> int:
    # Anybody may call a self-service number and try: ten digits there.
    return identification.UNLISTED_CALLER_DIGITS if use == NumberUse.SELF_SERVICE else digits
