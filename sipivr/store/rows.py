"""Rows to records, and records to the snapshots that events carry."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sipivr.store.records import (
    Call,
    CallStatus,
    Connector,
    EventRecord,
    LadderEntry,
    Leg,
    Merchant,
    Mode,
    Number,
    NumberUse,
    Payment,
    PaymentSession,
    PaymentStatus,
    Principal,
    Role,
    SessionStatus,
    Shop,
    TimelineEntry,
    Trunk,
)

Row = Sequence[Any]

MERCHANT: Final = "SELECT id, name, mode, language, active, identification_digits FROM merchant"
NUMBER: Final = "SELECT id, merchant, e164, use, line_limit, language, active FROM number"
CONNECTOR: Final = "SELECT id, kind, url, mode, active FROM connector"
SHOP: Final = (
    "SELECT id, merchant, name, name_spoken, gateway_shop_id, connector, brands, security_code_required, job,"
    " currency, active FROM shop"
)
TRUNK: Final = "SELECT id, name, networks, merchant, trust_identity, options, active FROM trunk"
PRINCIPAL: Final = "SELECT id, role, merchant, name, extension, permissions, active FROM principal"
SESSION: Final = (
    "SELECT s.id, s.merchant, s.shop, s.order_id, s.amount, s.currency, s.language, s.status, s.mode, s.metadata,"
    " s.created_by, s.created_at, s.version, i.digits, i.expires_at, n.e164, s.call, s.payment, s.closed_at"
    " FROM payment_session s"
    " LEFT JOIN identification_number i ON i.session = s.id AND i.status <> 'retired'"
    " LEFT JOIN number n ON n.id = s.number"
)
CALL: Final = (
    "SELECT id, merchant, number, called, caller_display, caller_withheld, session, status, outcome, refusal,"
    " sip_status, mode, started_at, answered_at, capture_started_at, capture_ended_at, ended_at, ended_by, node,"
    " version FROM call"
)
LEG: Final = (
    "SELECT id, call, party, sip_call_id, trunk, codec, dtmf, invited_at, ringing_at, answered_at, ended_at,"
    " sip_status, ended_by, rtp FROM leg"
)
PAYMENT: Final = (
    "SELECT id, merchant, session, call, shop, order_id, gateway_order_id, attempt, amount, currency, mode, status,"
    " brand, last4, access_id, approval_number, transaction_id, forward, error_codes, error_category, created_at,"
    " executed_at, closed_at, version FROM payment"
)
EVENT: Final = "SELECT sequence, id, type, merchant, mode, created_at, object FROM event"
LADDER: Final = "SELECT call, at, direction, peer, summary, text, leg FROM ladder"
TIMELINE: Final = "SELECT at, type, detail FROM timeline"


def merchant(row: Row) -> Merchant:
    """A row of `MERCHANT`."""
    return Merchant(row[0], row[1], Mode(row[2]), row[3], bool(row[4]), row[5])


def number(row: Row) -> Number:
    """A row of `NUMBER`."""
    return Number(row[0], row[1], row[2], NumberUse(row[3]), row[4], row[5], bool(row[6]))


def connector(row: Row) -> Connector:
    """A row of `CONNECTOR`."""
    return Connector(row[0], row[1], row[2], Mode(row[3]), bool(row[4]))


def shop(row: Row) -> Shop:
    """A row of `SHOP`."""
    return Shop(
        id=row[0],
        merchant=row[1],
        name=row[2],
        name_spoken=json.loads(row[3]),
        gateway_shop_id=row[4],
        connector=row[5],
        brands=tuple(json.loads(row[6])),
        security_code_required=bool(row[7]),
        job=row[8],
        currency=row[9],
        active=bool(row[10]),
    )


def trunk(row: Row) -> Trunk:
    """A row of `TRUNK`."""
    return Trunk(
        row[0], row[1], tuple(json.loads(row[2])), row[3], bool(row[4]), json.loads(row[5]), bool(row[6])
    )


def principal(row: Row) -> Principal:
    """A row of `PRINCIPAL`."""
    return Principal(row[0], Role(row[1]), row[2], row[3], row[4], tuple(json.loads(row[5])), bool(row[6]))


def session(row: Row) -> PaymentSession:
    """A row of `SESSION`."""
    return PaymentSession(
        *row[:7],
        SessionStatus(row[7]),
        Mode(row[8]),
        json.loads(row[9]),
        *row[10:],
    )


def call(row: Row) -> Call:
    """A row of `CALL`, without legs and timeline."""
    return Call(
        *row[:7],
        CallStatus(row[7]),
        *row[8:11],
        Mode(row[11]) if row[11] else None,
        *row[12:],
    )


def leg(row: Row) -> Leg:
    """A row of `LEG`."""
    return Leg(*row[:13], json.loads(row[13]))


def payment(row: Row) -> Payment:
    """A row of `PAYMENT`."""
    return Payment(
        *row[:10],
        Mode(row[10]),
        PaymentStatus(row[11]),
        *row[12:18],
        tuple(json.loads(row[18])),
        *row[19:],
    )


def event(row: Row) -> EventRecord:
    """A row of `EVENT`."""
    return EventRecord(*row[:4], Mode(row[4]) if row[4] else None, row[5], json.loads(row[6]))


def ladder_entry(row: Row) -> LadderEntry:
    """A row of `LADDER`."""
    return LadderEntry(*row)


def timeline_entry(row: Row) -> TimelineEntry:
    """A row of `TIMELINE`."""
    return TimelineEntry(row[0], row[1], json.loads(row[2]))


def session_snapshot(value: PaymentSession) -> Mapping[str, object]:
    """A session in an event. Its identification number stays out: events are kept 30 days, the number one."""
    return _snapshot("payment_session", value, {"identification_number"})


def call_snapshot(value: Call) -> Mapping[str, object]:
    """A call in an event, without legs and timeline."""
    return _snapshot("call", value, {"legs", "timeline"})


def payment_snapshot(value: Payment) -> Mapping[str, object]:
    """A payment in an event, without what opens the trade at the gateway."""
    return _snapshot("payment", value, {"access_id"})


def _snapshot(kind: str, value: PaymentSession | Call | Payment, without: set[str]) -> Mapping[str, object]:
    kept = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in without}
    return {"object": kind, **kept}
