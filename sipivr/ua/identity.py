"""Who is calling and which number was called, read from an INVITE.

Two steps: `read_invite` collects every candidate from the headers, `identify` applies one trunk's rules.
RFC 3325 (P-Asserted-Identity, Privacy: id), RFC 3323 (Privacy), RFC 7315 §4.2 (P-Called-Party-ID), RFC 7044
(History-Info), RFC 5806 (Diversion), RFC 3966 (tel:).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote

from sipivr.ua.message import SIPMessage, split_list

#: Our own header against loops through other switches.
HOP_HEADER: Final = "X-Sipivr-Hop"

_MAX_URI: Final = 512
_MAX_CANDIDATES: Final = 16
_NAME_ADDR: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^<"]*))\s*<([^>]*)>')
_SIP_URI: Final = re.compile(
    r"(sips?):(?:([^@]*)@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:[;?].*)?",
    re.IGNORECASE | re.ASCII,
)
_TEL_URI: Final = re.compile(r"tel:([^;?@\s]+)(?:[;?].*)?", re.IGNORECASE)
_SEPARATORS: Final = re.compile(r"[-.() ]")
_E164: Final = re.compile(r"\+[1-9][0-9]{4,14}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,32}", re.ASCII)

#: Display names by which Japanese networks say why there is no number (TTC JJ-90.24).
_REASONS: Final = {
    "anonymous": "anonymous",
    "coin line/payphone": "payphone",
    "unavailable": "unavailable",
    "interaction with other service": "service_conflict",
}


class CalledFrom(enum.StrEnum):
    """Where the called number may be read from; a trunk lists these in order of trust."""

    P_CALLED_PARTY_ID = "p-called-party-id"
    REQUEST_URI = "request-uri"
    HISTORY_INFO = "history-info"
    DIVERSION = "diversion"
    TO = "to"


class CallerFrom(enum.StrEnum):
    """Where a caller's number was read from."""

    P_ASSERTED_IDENTITY = "p-asserted-identity"
    FROM = "from"


@dataclass(frozen=True, slots=True)
class AddressURI:
    """A sip:, sips: or tel: URI with its display name, as read; `user` is percent-decoded, no parameters."""

    scheme: str
    user: str
    host: str = ""
    port: int | None = None
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class InviteReading:
    """Everything in an INVITE that says who is who, before any trunk's rules; candidates in header order."""

    call_id: str
    request_uri: AddressURI | None
    from_: AddressURI | None
    to: AddressURI | None
    asserted: tuple[AddressURI, ...]
    called_party: AddressURI | None
    history: tuple[AddressURI, ...]
    diversion: tuple[AddressURI, ...]
    privacy: frozenset[str]
    max_forwards: int | None
    user_agent: str
    hop_marks: tuple[str, ...]


Rewrites: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """One trunk's rules.

    Attributes:
        called_from: where to look for the called number, in order.
        trust_asserted: P-Asserted-Identity counts (RFC 3325 trust domain).
        trust_from: From counts when nothing is asserted (trunks bound to one merchant only).
        country_code: for national numbers (`0X…` → `+<cc>X…`).
        called_rewrite, caller_rewrite: (beginning, what stands for it) of numbers as the trunk writes them; the first
            that fits counts, once, before anything else is made of the number.
    """

    called_from: tuple[CalledFrom, ...] = (
        CalledFrom.P_CALLED_PARTY_ID,
        CalledFrom.REQUEST_URI,
        CalledFrom.HISTORY_INFO,
        CalledFrom.DIVERSION,
        CalledFrom.TO,
    )
    trust_asserted: bool = True
    trust_from: bool = False
    country_code: str = "81"
    called_rewrite: Rewrites = ()
    caller_rewrite: Rewrites = ()


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """The outcome under one trunk's rules.

    Attributes:
        caller: E.164 (`+81…`) or a short form that could not be normalised, None when unknown.
        caller_from: where it was read.
        private: `Privacy: id`, `user` or `header`: the number may admit the call, never be shown or stored.
        no_caller_reason: `anonymous`, `payphone`, `unavailable`, `service_conflict`, `not_asserted`,
            `untrusted`, `no_number`; "" when there is a number.
        called_candidates: distinct normalised called numbers in the trunk's order; the first that names one
            of our numbers wins.
    """

    caller: str | None
    caller_from: CallerFrom | None
    private: bool
    no_caller_reason: str
    called_candidates: tuple[str, ...]


def parse_address(value: str) -> AddressURI | None:
    """A name-addr or addr-spec (RFC 3261 §20.10), None when it is neither."""
    if len(value) > _MAX_URI:
        return None
    name = ""
    uri = value.strip()
    if match := _NAME_ADDR.match(value):
        name = re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2].strip()
        uri = match[3].strip()
    else:
        # RFC 3261 §20: without <>, what follows a semicolon belongs to the header.
        uri = uri.partition(";")[0] if not uri.lower().startswith("tel:") else uri
    if match := _SIP_URI.fullmatch(uri):
        user = unquote((match[2] or "").partition(";")[0].partition(":")[0], errors="replace")
        port = int(match[4]) if match[4] else None
        return AddressURI(match[1].lower(), user, match[3].strip("[]").lower(), port, name)
    if match := _TEL_URI.fullmatch(uri):
        return AddressURI("tel", unquote(match[1], errors="replace"), "", None, name)
    return None


def read_invite(message: SIPMessage) -> InviteReading:
    """Reads an INVITE; unreadable headers are left out, never an exception."""
    forwards = message.first("max-forwards") or ""
    privacy = {token.strip().lower() for value in message.all("privacy") for token in re.split("[;,]", value)}
    return InviteReading(
        call_id=(message.first("call-id") or "")[:256],
        request_uri=parse_address(f"<{message.request_uri}>"),
        from_=_one(message, "from"),
        to=_one(message, "to"),
        asserted=_many(message, "p-asserted-identity"),
        called_party=_one(message, "p-called-party-id"),
        history=_many(message, "history-info"),
        diversion=_many(message, "diversion"),
        privacy=frozenset(privacy - {""}),
        max_forwards=int(forwards) if _DIGITS.fullmatch(forwards) and len(forwards) < 4 else None,
        user_agent=(message.first("user-agent") or "")[:128],
        hop_marks=message.all(HOP_HEADER.lower())[:_MAX_CANDIDATES],
    )


def read_nothing(call_id: str) -> InviteReading:
    """Of an INVITE that nobody has looked into."""
    return InviteReading(call_id, None, None, None, (), None, (), (), frozenset(), None, "", ())


def identify(reading: InviteReading, rules: IdentityRules) -> CallIdentity:
    """Applies one trunk's rules."""
    caller, source, reason = _caller(reading, rules)
    called: dict[str, None] = {}
    for place in rules.called_from:
        for address in _candidates(reading, place):
            if number := normalise_number(rewritten(address.user, rules.called_rewrite), rules.country_code):
                called[number] = None
    return CallIdentity(
        caller=caller,
        caller_from=source,
        private=bool(reading.privacy & {"id", "user", "header"}),
        no_caller_reason=reason,
        called_candidates=tuple(called),
    )


def rewritten(user: str, rewrites: Rewrites) -> str:
    """A number as it is written in the other network: the first beginning that fits is exchanged.

    Separators count no more than they do in `normalise_number`.
    """
    number = _SEPARATORS.sub("", user.partition(";")[0])
    for prefix, to in rewrites:
        if number.startswith(prefix):
            return to + number[len(prefix) :]
    return user


def normalise_number(user: str, country_code: str = "81") -> str | None:
    """E.164 with `+` where it can be told, digits as they are otherwise, None when it is no number.

    `03-1234-5678` → `+81312345678`; `+81…` stays; `1234` (an extension), `110` and international prefixes
    (`010…`) stay as they are: nothing is guessed.
    """
    number = _SEPARATORS.sub("", user.partition(";")[0])
    if _E164.fullmatch(number):
        # `+81 (0)3 …` is written so on visiting cards, and dialled so.
        trunk_zero = f"+{country_code}0"
        if country_code == "81" and number.startswith(trunk_zero):
            return f"+{country_code}{number[len(trunk_zero) :]}"
        return number
    if not _DIGITS.fullmatch(number):
        return None
    # National numbers of Japan have 10 or 11 digits with the 0 (MIC's numbering plan); `010` is the
    # international prefix, and `00XY` were carrier codes.
    lengths = {10, 11} if country_code == "81" else set(range(7, 14))
    if number[0] == "0" and number[1:2] not in {"0", ""} and len(number) in lengths:
        if country_code == "81" and number.startswith("010"):
            return number
        return f"+{country_code}{number[1:]}"
    return number


def _one(message: SIPMessage, name: str) -> AddressURI | None:
    value = message.first(name)
    return parse_address(value) if value else None


def _many(message: SIPMessage, name: str) -> tuple[AddressURI, ...]:
    addresses = (parse_address(item) for value in message.all(name) for item in split_list(value))
    return tuple(address for address in addresses if address)[:_MAX_CANDIDATES]


def _candidates(reading: InviteReading, place: CalledFrom) -> tuple[AddressURI, ...]:
    match place:
        case CalledFrom.P_CALLED_PARTY_ID:
            found = (reading.called_party,)
        case CalledFrom.REQUEST_URI:
            found = (reading.request_uri,)
        case CalledFrom.TO:
            found = (reading.to,)
        case CalledFrom.HISTORY_INFO:
            # RFC 7044 §4: the last entry is the current target, earlier ones were retargeted.
            return tuple(reversed(reading.history))
        case CalledFrom.DIVERSION:
            return reading.diversion
    return tuple(address for address in found if address)


def _caller(reading: InviteReading, rules: IdentityRules) -> tuple[str | None, CallerFrom | None, str]:
    if rules.trust_asserted:
        for address in reading.asserted:
            if number := _calling_number(address, rules):
                return number, CallerFrom.P_ASSERTED_IDENTITY, ""
    sender = reading.from_
    if sender and rules.trust_from and (number := _calling_number(sender, rules)):
        return number, CallerFrom.FROM, ""
    return None, None, _reason(reading, rules)


def _calling_number(address: AddressURI, rules: IdentityRules) -> str | None:
    return normalise_number(rewritten(address.user, rules.caller_rewrite), rules.country_code)


def _reason(reading: InviteReading, rules: IdentityRules) -> str:
    sender = reading.from_
    if sender:
        if reason := _REASONS.get(sender.display_name.strip().lower()):
            return reason
        if sender.user.lower() == "anonymous" or sender.host == "anonymous.invalid":
            return "anonymous"
    if reading.asserted:
        return "no_number" if rules.trust_asserted else "untrusted"
    if sender and not rules.trust_from and normalise_number(sender.user, rules.country_code):
        return "not_asserted"
    return "no_number"
