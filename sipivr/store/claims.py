"""Claims: which call has which payment session.

The identification number is the only tie between the two, so it is taken atomically: the claim is one
`BEGIN IMMEDIATE` transaction of the one writer, and of two calls that key the same digits one wins. A
session goes back when its call ends before a charge was submitted.
"""

from __future__ import annotations

import datetime as dt

from sipivr.store import identification
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Conflict, NotFound
from sipivr.store.records import ClaimRefused, NumberUse, PaymentSession, RefusalReason, SessionStatus
from sipivr.store.sessions import move, require, tell


def claim_identification_number(
    store: WritableStore, *, merchant: str, digits: str, call: str, now: dt.datetime | None = None
) -> PaymentSession | ClaimRefused:
    """Ties a call to the session whose number was keyed; of two calls at once one wins.

    A refusal is recorded with its reason (`read.claim_failures`), never with the digits: somebody may have
    keyed a card number here.

    Raises:
        Conflict: the call has ended or holds another session.
    """
    with transaction(store, now) as tx:
        use, caller = _claiming_call(tx, merchant, call)
        found = None
        if identification.is_valid(digits):
            found = tx.row(
                "SELECT i.session, i.status, i.expires_at, s.status FROM identification_number i"
                " JOIN payment_session s ON s.id = i.session WHERE i.merchant = ? AND i.digits = ?",
                [merchant, digits],
            )
        refused = _refusal(tx, digits, found, use)
        if refused is not None or found is None:
            reason = refused or RefusalReason.WRONG
            tx.run(
                "INSERT INTO claim_failure (merchant, call, caller_hash, reason, at) VALUES (?, ?, ?, ?, ?)",
                [merchant, call, caller, reason, tx.at],
            )
            return ClaimRefused(reason)
        session = str(found[0])
        _tie(tx, session, call)
        return tell(tx, session, "payment_session.claimed")


def claim_session(
    store: WritableStore, *, merchant: str, session: str, call: str, now: dt.datetime | None = None
) -> PaymentSession | ClaimRefused:
    """Ties a running inline call, or one that we make, to a session; whoever has the right to both names it.

    Raises:
        NotFound: no such call of that merchant.
        Conflict: the call has ended, holds another session, or is none with an operator on it.
    """
    with transaction(store, now) as tx:
        use, _ = _claiming_call(tx, merchant, call)
        ours = tx.row("SELECT 1 FROM call WHERE id = ? AND direction = 'outbound'", [call])
        if use != NumberUse.INLINE and not ours:
            raise Conflict("only an inline call takes a session this way", call)
        row = tx.row("SELECT merchant, status FROM payment_session WHERE id = ?", [session])
        if row is None or row[0] != merchant:
            return ClaimRefused(RefusalReason.FOREIGN)
        if row[1] != SessionStatus.OPEN:
            refusals = {
                SessionStatus.CANCELED: RefusalReason.CANCELED,
                SessionStatus.EXPIRED: RefusalReason.EXPIRED,
            }
            return ClaimRefused(refusals.get(SessionStatus(row[1]), RefusalReason.USED))
        _tie(tx, session, call)
        return tell(tx, session, "payment_session.claimed")


def claim_by_caller(
    store: WritableStore, *, merchant: str, call: str, now: dt.datetime | None = None
) -> PaymentSession | None:
    """Ties a transfer to the one open session that names its caller; None if none does, or several do.

    The session has to be as valid as for a keyed number. A caller who is withheld matches nothing.

    Raises:
        NotFound: no such call of that merchant.
        Conflict: the call has ended or holds another session.
    """
    with transaction(store, now) as tx:
        _, caller = _claiming_call(tx, merchant, call)
        if caller is None:
            return None
        found = tx.rows(
            "SELECT s.id FROM payment_session s"
            " JOIN identification_number i ON i.session = s.id AND i.status = 'open'"
            " WHERE s.caller_hash = ? AND s.merchant = ? AND s.status = 'open' AND i.expires_at > ? LIMIT 2",
            [caller, merchant, tx.at],
        )
        if len(found) != 1:
            return None
        session = str(found[0][0])
        _tie(tx, session, call)
        return tell(tx, session, "payment_session.claimed")


def release_claim(
    store: WritableStore, *, session: str, call: str, now: dt.datetime | None = None
) -> PaymentSession:
    """The call gives the session back before anything was submitted; `calls.call_ended` does it by itself.

    Raises:
        Conflict: the session is not claimed by this call (a charge under way is never released).
    """
    with transaction(store, now) as tx:
        current = require(tx, session)
        if current.status is not SessionStatus.CLAIMED or current.call != call:
            raise Conflict(f"the session is {current.status}", session)
        return leave_call(tx, session)


def leave_call(tx: Transaction, session: str) -> PaymentSession:
    """What becomes of a session that its call lets go and that has no charge under way."""
    if tx.row("SELECT 1 FROM payment WHERE session = ? AND status = 'declined'", [session]):
        move(tx, session, SessionStatus.DECLINED)
        return tell(tx, session, "payment_session.declined")
    valid = tx.row(
        "SELECT 1 FROM identification_number WHERE session = ? AND status <> 'retired' AND expires_at > ?",
        [session, tx.at],
    )
    if valid is None:
        move(tx, session, SessionStatus.EXPIRED)
        return tell(tx, session, "payment_session.expired")
    tx.run(
        "UPDATE identification_number SET status = 'open' WHERE session = ? AND status = 'claimed'", [session]
    )
    tx.run("UPDATE payment_session SET status = 'open', call = NULL WHERE id = ?", [session])
    return tell(tx, session, "payment_session.released")


def _tie(tx: Transaction, session: str, call: str) -> None:
    tx.run(
        "UPDATE identification_number SET status = 'claimed' WHERE session = ? AND status = 'open'", [session]
    )
    tx.run("UPDATE payment_session SET status = 'claimed', call = ? WHERE id = ?", [call, session])
    tx.run("UPDATE call SET session = ?, version = version + 1 WHERE id = ?", [session, call])


def _claiming_call(tx: Transaction, merchant: str, call: str) -> tuple[str | None, str | None]:
    row = tx.row(
        "SELECT c.merchant, c.ended_at, n.use, c.caller_hash,"
        " (SELECT s.id FROM payment_session s WHERE s.call = c.id"
        "   AND s.status IN ('claimed', 'authorizing', 'unknown'))"
        " FROM call c LEFT JOIN number n ON n.id = c.number WHERE c.id = ?",
        [call],
    )
    if row is None or row[0] != merchant:
        raise NotFound("no such call")
    if row[1] is not None:
        raise Conflict("the call has ended", call)
    if row[4] is not None:
        raise Conflict("the call holds another payment session", row[4])
    return row[2], row[3]


def _refusal(
    tx: Transaction, digits: str, found: tuple[object, ...] | None, use: str | None
) -> RefusalReason | None:
    if found is None:
        elsewhere = tx.row("SELECT 1 FROM identification_number WHERE digits = ?", [digits[:10]])
        return RefusalReason.FOREIGN if elsewhere else RefusalReason.WRONG
    _, number_status, expires_at, session_status = found
    if session_status == SessionStatus.CANCELED:
        return RefusalReason.CANCELED
    if session_status not in (SessionStatus.OPEN, SessionStatus.EXPIRED):
        return RefusalReason.USED
    if number_status != "open" or session_status == SessionStatus.EXPIRED or str(expires_at) <= tx.at:
        return RefusalReason.EXPIRED
    if use == NumberUse.SELF_SERVICE and len(digits) < identification.UNLISTED_CALLER_DIGITS:
        return RefusalReason.WRONG
    return None
