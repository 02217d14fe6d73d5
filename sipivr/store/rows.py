"""Rows to records, and records to the snapshots that events carry."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sipivr.store import number_rules, trunk_rules
from sipivr.store.errors import Invalid
from sipivr.store.number_rules import NumberRules
from sipivr.store.records import (
    BridgeMask,
    Call,
    CallerNumber,
    CallStatus,
    ChangeKind,
    ChangeStatus,
    Connector,
    EventRecord,
    LadderEntry,
    Leg,
    Mask,
    Merchant,
    Mode,
    Number,
    NumberUse,
    Payment,
    PaymentChange,
    PaymentSession,
    PaymentStatus,
    Principal,
    Role,
    SessionStatus,
    Shop,
    TimelineEntry,
    Trunk,
    TrunkSRTP,
)
from sipivr.store.trunk_rules import TrunkRules

Row = Sequence[Any]

log = logging.getLogger(__name__)


def _select(record: type, table: str, **expressions: str) -> str:
    """The SELECT of a record's fields in their order; `expressions` where a column is called otherwise."""
    columns = [
        expressions.get(f.name, f.name) for f in dataclasses.fields(record) if f.name not in _ELSEWHERE
    ]
    return f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - our own names


#: A caller is known by a part of its keyed hash, which tells nothing of the number.
CALLER_ID: Final = "cn_"
CALLER_ID_DIGITS: Final = 32
#: Fields of a call that other tables hold.
_ELSEWHERE: Final = {"legs", "timeline"}

MERCHANT: Final = _select(Merchant, "merchant")
NUMBER: Final = _select(Number, "number")
CALLER_NUMBER: Final = _select(
    CallerNumber, "allowed_caller", id=f"'{CALLER_ID}' || substr(caller_hash, 1, {CALLER_ID_DIGITS}) AS id"
)
#: The same as a table, in which an id can be asked for.
CALLER_NUMBERS: Final = f"SELECT * FROM ({CALLER_NUMBER})"  # noqa: S608 - our own names
CONNECTOR: Final = _select(Connector, "connector")
PAYMENT_CHANGE: Final = _select(PaymentChange, "payment_change")
SHOP: Final = _select(Shop, "shop")
TRUNK: Final = _select(Trunk, "trunk", rules="options")
PRINCIPAL: Final = _select(Principal, "principal")
SESSION: Final = (
    _select(
        PaymentSession,
        "payment_session s",
        **{f.name: f"s.{f.name}" for f in dataclasses.fields(PaymentSession)}
        | {
            "identification_number": "i.digits",
            "identification_number_expires_at": "i.expires_at",
            "dial": "n.e164",
        },
    )
    + " LEFT JOIN identification_number i ON i.session = s.id AND i.status <> 'retired'"
    " LEFT JOIN number n ON n.id = s.number"
)
CALL: Final = _select(Call, "call", caller="caller_display")
LEG: Final = _select(Leg, "leg")
PAYMENT: Final = _select(Payment, "payment")
EVENT: Final = _select(EventRecord, "event")
LADDER: Final = _select(LadderEntry, "ladder")
TIMELINE: Final = _select(TimelineEntry, "timeline")


def _fields(record: type, row: Row) -> dict[str, Any]:
    names = (f.name for f in dataclasses.fields(record) if f.name not in _ELSEWHERE)
    return dict(zip(names, row, strict=True))


def merchant(row: Row) -> Merchant:
    """A row of `MERCHANT`."""
    values = _fields(Merchant, row)
    values["mode"] = Mode(values["mode"])
    values["mask"] = Mask(values["mask"])
    values["bridge_mask"] = BridgeMask(values["bridge_mask"])
    values["clamp_allowed"] = bool(values["clamp_allowed"])
    values["active"] = bool(values["active"])
    return Merchant(**values)


def number(row: Row) -> Number:
    """A row of `NUMBER`. One whose rules are not understood is off."""
    values = _fields(Number, row)
    values["use"] = NumberUse(values["use"])
    values["active"] = bool(values["active"])
    try:
        values["rules"] = number_rules.read(json.loads(values["rules"]))
    except Invalid as error:
        log.error("number %s is off: %s", values["id"], error)
        values["rules"], values["active"] = NumberRules(), False
    return Number(**values)


def caller_number(row: Row) -> CallerNumber:
    """A row of `CALLER_NUMBER`."""
    return CallerNumber(**_fields(CallerNumber, row))


def connector(row: Row) -> Connector:
    """A row of `CONNECTOR`."""
    values = _fields(Connector, row)
    return Connector(
        **values
        | {
            "mode": Mode(values["mode"]),
            "active": bool(values["active"]),
            "networks": tuple(msgspec.json.decode(values["networks"])),
        }
    )


def payment_change(row: Row) -> PaymentChange:
    """A row of `PAYMENT_CHANGE`."""
    values = _fields(PaymentChange, row)
    return PaymentChange(
        **values
        | {
            "kind": ChangeKind(values["kind"]),
            "status": ChangeStatus(values["status"]),
            "error_codes": tuple(msgspec.json.decode(values["error_codes"])),
        }
    )


def shop(row: Row) -> Shop:
    """A row of `SHOP`."""
    values = _fields(Shop, row)
    values["name_spoken"] = json.loads(values["name_spoken"])
    values["brands"] = tuple(json.loads(values["brands"]))
    values["security_code_required"] = bool(values["security_code_required"])
    values["active"] = bool(values["active"])
    return Shop(**values)


def trunk(row: Row) -> Trunk:
    """A row of `TRUNK`. One whose rules are not understood is off: they may have been there to keep something out."""
    values = _fields(Trunk, row)
    values["networks"] = tuple(json.loads(values["networks"]))
    values["trust_identity"] = bool(values["trust_identity"])
    values["srtp"] = TrunkSRTP(values["srtp"])
    values["active"] = bool(values["active"])
    try:
        values["rules"] = trunk_rules.read(json.loads(values["rules"]))
    except Invalid as error:
        log.error("trunk %s is off: %s", values["id"], error)
        values["rules"], values["active"] = TrunkRules(), False
    return Trunk(**values)


def principal(row: Row) -> Principal:
    """A row of `PRINCIPAL`."""
    values = _fields(Principal, row)
    values["role"] = Role(values["role"])
    values["permissions"] = tuple(json.loads(values["permissions"]))
    values["active"] = bool(values["active"])
    return Principal(**values)


def session(row: Row) -> PaymentSession:
    """A row of `SESSION`."""
    values = _fields(PaymentSession, row)
    values["status"] = SessionStatus(values["status"])
    values["mode"] = Mode(values["mode"])
    values["metadata"] = json.loads(values["metadata"])
    values["mask"] = Mask(values["mask"]) if values["mask"] else None
    return PaymentSession(**values)


def call(row: Row) -> Call:
    """A row of `CALL`, without legs and timeline."""
    values = _fields(Call, row)
    values["status"] = CallStatus(values["status"])
    values["mode"] = Mode(values["mode"]) if values["mode"] else None
    return Call(**values)


def leg(row: Row) -> Leg:
    """A row of `LEG`."""
    values = _fields(Leg, row)
    return Leg(**values | {"rtp": json.loads(values["rtp"])})


def payment(row: Row) -> Payment:
    """A row of `PAYMENT`."""
    values = _fields(Payment, row)
    values["mode"] = Mode(values["mode"])
    values["status"] = PaymentStatus(values["status"])
    values["error_codes"] = tuple(json.loads(values["error_codes"]))
    return Payment(**values)


def event(row: Row) -> EventRecord:
    """A row of `EVENT`."""
    values = _fields(EventRecord, row)
    values["mode"] = Mode(values["mode"]) if values["mode"] else None
    values["object"] = json.loads(values["object"])
    return EventRecord(**values)


def ladder_entry(row: Row) -> LadderEntry:
    """A row of `LADDER`."""
    return LadderEntry(**_fields(LadderEntry, row))


def timeline_entry(row: Row) -> TimelineEntry:
    """A row of `TIMELINE`."""
    values = _fields(TimelineEntry, row)
    return TimelineEntry(**values | {"detail": json.loads(values["detail"])})


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
