"""Whether a call is taken: the checks in their order, each with its own reason, SIP status and counter.

Pure: the facts are read by the switchboard, the verdict is a value. The order is the design's: trunk, overload (of the
node, of the trunk), number, merchant, the number's use and its callers, line limit. The edge has already met unknown
sources with silence; a trunk that is unknown here has been removed since.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from sipivr.store.records import Merchant, Number, NumberUse, Trunk


class Refusal(enum.StrEnum):
    """Why a call was refused; the words of call records, counters and reports."""

    TRUNK_UNKNOWN = "trunk_unknown"
    LOOP = "loop"
    DRAINING = "draining"
    OVERLOAD = "overload"
    TRUNK_CHANNEL_LIMIT = "trunk_channel_limit"
    NUMBER_UNKNOWN = "number_unknown"
    NUMBER_DISABLED = "number_disabled"
    MERCHANT_INACTIVE = "merchant_inactive"
    CALLER_ANONYMOUS = "caller_anonymous"
    CALLER_NOT_ALLOWED = "caller_not_allowed"
    CALLER_BLOCKED = "caller_blocked"
    LINE_LIMIT = "line_limit"
    NO_DESTINATION = "no_destination"
    SDP_UNUSABLE = "sdp_unusable"
    MEDIA_UNAVAILABLE = "media_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"


#: SIP status of each refusal (RFC 3261 §21). 480 says "not now"; 403 and 404 say "do not try again".
STATUS: Mapping[Refusal, int] = {
    Refusal.TRUNK_UNKNOWN: 403,
    Refusal.LOOP: 482,
    Refusal.DRAINING: 503,
    Refusal.OVERLOAD: 503,
    Refusal.TRUNK_CHANNEL_LIMIT: 503,
    Refusal.NUMBER_UNKNOWN: 404,
    Refusal.NUMBER_DISABLED: 404,
    Refusal.NO_DESTINATION: 480,
    Refusal.MERCHANT_INACTIVE: 480,
    Refusal.CALLER_ANONYMOUS: 403,
    Refusal.CALLER_NOT_ALLOWED: 403,
    Refusal.CALLER_BLOCKED: 403,
    Refusal.LINE_LIMIT: 486,
    Refusal.SDP_UNUSABLE: 488,
    Refusal.MEDIA_UNAVAILABLE: 503,
    Refusal.STORE_UNAVAILABLE: 503,
}

RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the decision needs, read before it.

    Attributes:
        trunk: by source address, None when unknown.
        draining, overloaded: state of this node.
        number: the called number as found, None when none of the candidates is ours.
        merchant: of the number.
        caller: E.164, None when there is none.
        caller_allowed: the caller is on the merchant's list (受付可能電話番号).
        caller_blocked: the caller is on the merchant's block list.
        looped: the call has been here before.
        calls_on_trunk: calls that the trunk carries now.
        calls_on_number: calls that the number carries now.
    """

    trunk: Trunk | None
    draining: bool
    overloaded: bool
    number: Number | None
    merchant: Merchant | None
    caller: str | None
    caller_allowed: bool
    calls_on_trunk: int
    calls_on_number: int
    caller_blocked: bool = False
    looped: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call is taken for this number."""

    number: Number
    merchant: Merchant


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is refused with `status` and `headers`."""

    refusal: Refusal
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(refusal: Refusal) -> Refused:
    """The refusal with its status; 503 says when to come back (RFC 3261 §20.33)."""
    status = STATUS[refusal]
    return Refused(refusal, status, {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {})


def decide(facts: Facts) -> Admitted | Refused:
    """Carries out the checks in their order; the first that fails answers."""
    if facts.trunk is None or not facts.trunk.active:
        return refused(Refusal.TRUNK_UNKNOWN)
    if facts.looped:
        return refused(Refusal.LOOP)
    if facts.draining:
        return refused(Refusal.DRAINING)
    if facts.overloaded:
        return refused(Refusal.OVERLOAD)
    limit = facts.trunk.rules.channel_limit
    if limit is not None and facts.calls_on_trunk >= limit:
        return refused(Refusal.TRUNK_CHANNEL_LIMIT)
    number, merchant = facts.number, facts.merchant
    if number is None or merchant is None or facts.trunk.merchant not in {None, merchant.id}:
        return refused(Refusal.NUMBER_UNKNOWN)
    if not number.active:
        return refused(Refusal.NUMBER_DISABLED)
    if not merchant.active:
        return refused(Refusal.MERCHANT_INACTIVE)
    unfit = _unfit(number, facts)
    if unfit is not None:
        return refused(unfit)
    if facts.calls_on_number >= number.line_limit:
        return refused(Refusal.LINE_LIMIT)
    return Admitted(number, merchant)


def _unfit(number: Number, facts: Facts) -> Refusal | None:
    """Why this caller may not call this number for what it is used."""
    if number.use is NumberUse.TRANSFER_IN:
        if facts.caller is None:
            return Refusal.CALLER_ANONYMOUS
        return None if facts.caller_allowed else Refusal.CALLER_NOT_ALLOWED
    if facts.caller_blocked:
        return Refusal.CALLER_BLOCKED
    nowhere = number.use is NumberUse.INLINE and not number.rules.destinations
    return Refusal.NO_DESTINATION if nowhere else None
