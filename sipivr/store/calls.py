"""Calls and their legs, timeline and ladder, as they are recorded.

    RINGING ──► ACTIVE ◄──► CAPTURING        any of them ──► ENDED          refused at the door: REFUSED

These records follow what already happened on the line, so they are committed without waiting for the disk
(`durable=False`): a power cut may take the last of them, kill -9 takes none. Personal data: of a caller only
the masked form is readable; the number is sealed, and with `caller_withheld` nothing of it is stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sipivr.store import claims, crypto, rows
from sipivr.store.database import Transaction, WritableStore, transaction
from sipivr.store.errors import Conflict, NotFound
from sipivr.store.identifiers import new_id
from sipivr.store.records import Actor, Call, CallStatus, LadderEntry, Leg, LegQuality, Mode, SessionStatus

MAX_TEXT = 200
MAX_LADDER_TEXT = 8000
_NOTHING_KNOWN = LegQuality()


def call_started(
    store: WritableStore,
    *,
    merchant: str,
    number: str,
    called: str,
    caller: str | None,
    caller_withheld: str | None = None,
    mode: Mode,
    node: str,
    direction: str = "inbound",
    by: Actor | None = None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Call:
    """A call was admitted.

    Args:
        store: the writable store.
        merchant: whose number was called.
        number: id of that number.
        called: the called number as it arrived.
        caller: E.164 of the caller, None when there is none.
        caller_withheld: why the number is missing or may not be kept (`id`, `anonymous`, `unavailable` …);
        with it
            `caller` is not stored in any form.
        mode: the merchant's.
        node: this machine.
        direction: `outbound` if we call the customer: `caller` is then whom we call.
        by: who wanted that; audited.
        id: from `new_id("call")`, when the call had to be named before this commit.
        now: for tests.
    """
    with transaction(store, now, durable=False) as tx:
        call = _insert(
            tx,
            id,
            caller,
            caller_withheld,
            {
                "merchant": merchant,
                "number": number,
                "called": called[:MAX_TEXT],
                "mode": mode,
                "node": node,
                "direction": direction,
                "status": CallStatus.RINGING,
            },
        )
        _moment(tx, call, "call.started", {})
        if by is not None:
            tx.audit(by, "call.dial", call, merchant, {"number": number})
        return _tell(tx, call, "call.started")


def call_refused(
    store: WritableStore,
    *,
    refusal: str,
    sip_status: int,
    called: str,
    node: str,
    merchant: str | None = None,
    number: str | None = None,
    caller: str | None = None,
    caller_withheld: str | None = None,
    mode: Mode | None = None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Call:
    """A call was not admitted; `refusal` is the name of the check that said no, as in the counters."""
    with transaction(store, now, durable=False) as tx:
        call = _insert(
            tx,
            id,
            caller,
            caller_withheld,
            {
                "merchant": merchant,
                "number": number,
                "called": called[:MAX_TEXT],
                "mode": mode,
                "node": node,
                "status": CallStatus.REFUSED,
                "refusal": refusal[:MAX_TEXT],
                "sip_status": sip_status,
                "outcome": "refused",
                "ended_at": tx.at,
                "ended_by": "switch",
            },
        )
        _moment(tx, call, "call.refused", {"reason": refusal, "sip_status": sip_status})
        return _tell(tx, call, "call.refused")


def call_answered(store: WritableStore, *, call: str, now: dt.datetime | None = None) -> Call:
    """The customer's leg was answered."""
    with transaction(store, now, durable=False) as tx:
        _running(tx, call)
        tx.run(
            "UPDATE call SET answered_at = coalesce(answered_at, ?),"
            " status = CASE status WHEN 'ringing' THEN 'active' ELSE status END WHERE id = ?",
            [tx.at, call],
        )
        _moment(tx, call, "call.answered", {})
        return _tell(tx, call, "call.answered")


def capture_started(store: WritableStore, *, call: str, now: dt.datetime | None = None) -> Call:
    """A capture opens; durable, because a merchant's recorder stops at its event `capture.opening`."""
    with transaction(store, now) as tx:
        _running(tx, call)
        tx.run(
            "UPDATE call SET status = 'capturing', capture_started_at = coalesce(capture_started_at, ?),"
            " capture_ended_at = NULL WHERE id = ?",
            [tx.at, call],
        )
        _moment(tx, call, "capture.opening", {})
        return _tell(tx, call, "capture.opening")


def capture_ended(store: WritableStore, *, call: str, outcome: str, now: dt.datetime | None = None) -> Call:
    """The capture is over and the mask has been lifted (`completed`, `abandoned`, `taken_back` …)."""
    with transaction(store, now) as tx:
        _running(tx, call)
        tx.run("UPDATE call SET status = 'active', capture_ended_at = ? WHERE id = ?", [tx.at, call])
        _moment(tx, call, "capture.closed", {"outcome": outcome[:MAX_TEXT]})
        return _tell(tx, call, "capture.closed")


def call_ended(
    store: WritableStore,
    *,
    call: str,
    outcome: str,
    ended_by: str,
    sip_status: int | None = None,
    now: dt.datetime | None = None,
) -> Call:
    """The call is over. A session that it holds without a charge under way is released in the same commit.

    Ending a call a second time changes nothing.
    """
    # Durable: the session's release is a promise to whoever claims it next.
    with transaction(store, now) as tx:
        return _end(tx, call, outcome, ended_by, sip_status)


def interrupt_calls(store: WritableStore, *, node: str, now: dt.datetime | None = None) -> tuple[str, ...]:
    """Ends every call that this node left running when it died; to be run at start-up, before the first call.

    Sessions with a charge under way stay as they are: their intents are resolved (`read.open_intents`).
    """
    with transaction(store, now) as tx:
        left = [row[0] for row in tx.rows("SELECT id FROM call WHERE node = ? AND ended_at IS NULL", [node])]
        for call in left:
            tx.run(
                "UPDATE leg SET ended_at = ?, ended_by = 'switch' WHERE call = ? AND ended_at IS NULL",
                [tx.at, call],
            )
            _end(tx, call, "interrupted", "switch", None)
    return tuple(left)


def leg_started(
    store: WritableStore,
    *,
    call: str,
    party: str,
    sip_call_id: str,
    trunk: str | None = None,
    id: str | None = None,
    now: dt.datetime | None = None,
) -> Leg:
    """A leg of a call; `party` is `customer` or `operator`."""
    with transaction(store, now, durable=False) as tx:
        leg = id or new_id("leg", tx.now)
        tx.run(
            "INSERT INTO leg (id, call, party, sip_call_id, trunk, invited_at) VALUES (?, ?, ?, ?, ?, ?)",
            [leg, call, party, sip_call_id[:MAX_TEXT], trunk, tx.at],
        )
        return _leg(tx, leg)


def leg_changed(
    store: WritableStore,
    *,
    leg: str,
    codec: str | None = None,
    dtmf: str | None = None,
    ringing_at: str | None = None,
    answered_at: str | None = None,
    ended_at: str | None = None,
    sip_status: int | None = None,
    ended_by: str | None = None,
    rtp: Mapping[str, float] | None = None,
    quality: LegQuality = _NOTHING_KNOWN,
) -> Leg:
    """Sets what is given, keeps the rest; `rtp` entries are merged into what is there, those of `quality` too.

    Raises:
        NotFound: no such leg.
    """
    with transaction(store, durable=False) as tx:
        tx.run(
            "UPDATE leg SET codec = coalesce(?, codec), dtmf = coalesce(?, dtmf),"
            " ringing_at = coalesce(?, ringing_at), answered_at = coalesce(?, answered_at),"
            " ended_at = coalesce(?, ended_at), sip_status = coalesce(?, sip_status),"
            " ended_by = coalesce(?, ended_by), rtp = json_patch(rtp, ?),"
            " mos = coalesce(?, mos), remote_mos = coalesce(?, remote_mos),"
            " round_trip_ms = coalesce(?, round_trip_ms), remote_lost = coalesce(?, remote_lost),"
            " remote_jitter_ms = coalesce(?, remote_jitter_ms) WHERE id = ?",
            [
                codec,
                dtmf,
                ringing_at,
                answered_at,
                ended_at,
                sip_status,
                ended_by,
                msgspec.json.encode(dict(rtp or {})).decode(),
                quality.mos,
                quality.remote_mos,
                quality.round_trip_ms,
                quality.remote_lost,
                quality.remote_jitter_ms,
                leg,
            ],
        )
        return _leg(tx, leg)


def add_ladder(store: WritableStore, entries: Iterable[LadderEntry]) -> int:
    """Adds SIP messages that were already reduced to the allow-list; returns how many."""
    kept = [
        (e.call, e.leg, e.at, e.direction, e.peer[:MAX_TEXT], e.summary[:MAX_TEXT], e.text[:MAX_LADDER_TEXT])
        for e in entries
    ]
    with transaction(store, durable=False):
        store.db.conn.executemany(
            "INSERT INTO ladder (call, leg, at, direction, peer, summary, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
            kept,
        )
    return len(kept)


def add_timeline(
    store: WritableStore,
    *,
    call: str,
    type: str,
    detail: Mapping[str, Any] | None = None,
    now: dt.datetime | None = None,
) -> None:
    """Adds a moment to a call's timeline; `detail` holds no digits and no personal data."""
    with transaction(store, now, durable=False) as tx:
        _moment(tx, call, type, detail or {})


def _insert(
    tx: Transaction, id: str | None, caller: str | None, withheld: str | None, values: Mapping[str, Any]
) -> str:
    call = id or new_id("call", tx.now)
    row = {"id": call, "started_at": tx.at, **values}
    if withheld is not None:
        row["caller_withheld"] = withheld[:MAX_TEXT]
    elif caller:
        row["caller_display"] = crypto.masked(caller)
        row["caller_sealed"] = crypto.seal(tx.store.keys, caller, f"call.caller:{call}")
        row["caller_hash"] = crypto.caller_hash(tx.store.keys, caller)
    names = ", ".join(row)
    tx.run(f"INSERT INTO call ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))  # noqa: S608
    return call


def _end(tx: Transaction, call: str, outcome: str, ended_by: str, sip_status: int | None) -> Call:
    current = _require(tx, call)
    if current.ended_at is not None:
        return current
    tx.run(
        "UPDATE call SET status = 'ended', outcome = ?, ended_by = ?, sip_status = ?, ended_at = ?,"
        " capture_ended_at = CASE WHEN capture_started_at IS NULL THEN NULL"
        " ELSE coalesce(capture_ended_at, ?) END WHERE id = ?",
        [outcome[:MAX_TEXT], ended_by[:MAX_TEXT], sip_status, tx.at, tx.at, call],
    )
    if current.status is CallStatus.CAPTURING:
        _moment(tx, call, "capture.closed", {"outcome": "call_ended"})
        _tell(tx, call, "capture.closed")
    for (session,) in tx.rows(
        "SELECT id FROM payment_session WHERE call = ? AND status = ?", [call, SessionStatus.CLAIMED]
    ):
        claims.leave_call(tx, session)
    _moment(tx, call, "call.ended", {"outcome": outcome, "ended_by": ended_by, "sip_status": sip_status})
    return _tell(tx, call, "call.ended")


def _require(tx: Transaction, call: str) -> Call:
    row = tx.row(rows.CALL + " WHERE id = ?", [call])
    if row is None:
        raise NotFound("no such call")
    return rows.call(row)


def _running(tx: Transaction, call: str) -> None:
    if _require(tx, call).ended_at is not None:
        raise Conflict("the call has ended", call)


def _leg(tx: Transaction, leg: str) -> Leg:
    row = tx.row(rows.LEG + " WHERE id = ?", [leg])
    if row is None:
        raise NotFound("no such leg")
    return rows.leg(row)


def _moment(tx: Transaction, call: str, type_: str, detail: Mapping[str, Any]) -> None:
    tx.run(
        "INSERT INTO timeline (call, at, type, detail) VALUES (?, ?, ?, ?)",
        [call, tx.at, type_[:MAX_TEXT], msgspec.json.encode(dict(detail)).decode()],
    )


def _tell(tx: Transaction, call: str, event: str) -> Call:
    tx.run("UPDATE call SET version = version + 1 WHERE id = ?", [call])
    current = _require(tx, call)
    tx.event(event, current.merchant, current.mode, rows.call_snapshot(current))
    return current
