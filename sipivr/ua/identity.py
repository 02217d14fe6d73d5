"""Who is calling and which number was called, read from an INVITE (RFC 3325, RFC 7044, RFC 5806, RFC 3966)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sipivr.ua.message import SIPMessage


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
    """A sip:, sips: or tel: URI with its display name, as read; `user` is percent-decoded."""

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


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """One trunk's rules.

    Attributes:
        called_from: where to look for the called number, in order.
        trust_asserted: P-Asserted-Identity counts (RFC 3325 trust domain).
        trust_from: From counts when nothing is asserted (trunks bound to one merchant only).
        country_code: for national numbers (`0X…` → `+<cc>X…`).
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


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """The outcome under one trunk's rules.

    Attributes:
        caller: E.164 (`+81…`) or a short/national form that could not be normalised, None when unknown.
        caller_from: where it was read.
        private: `Privacy: id`/`user`/`header`: the number may admit the call but is never shown or stored.
        no_caller_reason: why there is no number ("anonymous", "not asserted", "untrusted", "unavailable",
            "payphone", …), "" when there is one.
        called_candidates: distinct normalised called numbers in the trunk's order; the first that names one
            of our numbers wins.
    """

    caller: str | None
    caller_from: CallerFrom | None
    private: bool
    no_caller_reason: str
    called_candidates: tuple[str, ...]


def read_invite(message: SIPMessage) -> InviteReading:
    """Reads an INVITE; unreadable headers are left out, never an exception."""
    raise NotImplementedError


def identify(reading: InviteReading, rules: IdentityRules) -> CallIdentity:
    """Applies one trunk's rules."""
    raise NotImplementedError


def normalise_number(user: str, country_code: str = "81") -> str | None:
    """E.164 with `+` where it can be told, digits as they are otherwise, None when it is no number.

    `03-1234-5678` → `+81312345678`; `0081…`/`010 81…` are not guessed; `+81…` stays; `1234` (extension)
    stays `1234`.
    """
    raise NotImplementedError
