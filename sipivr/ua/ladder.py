"""The SIP ladder: what may be kept of a message, made from an allow-list of headers and from typed SDP.

INFO is "INFO" and nothing else: digits travel in its body (PCI DSS 3.3.1), and not even its length is kept.
A number that came with `Privacy: id` is not kept either (RFC 3325 §9.3).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import Final

from sipivr.ua.message import SIPMessage, SIPMessageError, parse_message
from sipivr.ua.sdp import SDPError, SessionDescription
from sipivr.ua.sdp_parser import parse_sdp

_DIALOG_HEADERS: Final = frozenset({"via", "from", "to", "call-id", "cseq"})
_KEPT_HEADERS: Final = _DIALOG_HEADERS | {
    "allow",
    "contact",
    "content-type",
    "diversion",
    "expires",
    "history-info",
    "max-forwards",
    "min-se",
    "p-asserted-identity",
    "p-called-party-id",
    "privacy",
    "rack",
    "reason",
    "record-route",
    "require",
    "retry-after",
    "route",
    "rseq",
    "server",
    "session-expires",
    "supported",
    "unsupported",
    "user-agent",
    "warning",
}
_IDENTITY_HEADERS: Final = frozenset({"from", "contact", "p-asserted-identity"})
_MAX_VALUE: Final = 256
_MAX_KEPT: Final = 40
_MAX_NAME: Final = 32
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Way(enum.StrEnum):
    """Direction of a message as the switch sees it."""

    RECEIVED = "received"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """One message of a ladder.

    Attributes:
        at: seconds since the epoch.
        way, transport, local, remote: `local` and `remote` are `address:port` ("" where unknown).
        method: of a request; of a response the one in its CSeq.
        status: of a response, 0 for a request.
        call_id, cseq: as in the message, bounded.
        headers: allow-listed headers in order, bounded, control characters removed.
        sdp: re-rendered from typed values (keys of a=crypto left out), "" when there is none.
        body: "" or type and length class of any other body, e.g. `application/xml, under 1 kB`.
    """

    at: float
    way: Way
    transport: str
    local: str
    remote: str
    method: str
    status: int
    call_id: str
    cseq: str
    headers: tuple[tuple[str, str], ...]
    sdp: str
    body: str


def ladder_entry(
    raw: bytes, *, at: float, way: Way, transport: str, local: str, remote: str
) -> LadderEntry | None:
    """The entry of one message, None when the bytes are no SIP message. Never raises."""
    try:
        message = parse_message(raw)
    except SIPMessageError:
        return None
    method = _clean(message.method or message.cseq_method)[:_MAX_NAME]
    digits = method.upper() == "INFO"
    sdp, body = ("", "") if digits else _body(message)
    return LadderEntry(
        at=at,
        way=way,
        transport=transport,
        local=local,
        remote=remote,
        method=method,
        status=message.status,
        call_id=_clean(message.first("call-id") or ""),
        cseq=_clean(message.first("cseq") or ""),
        headers=_headers(message, _DIALOG_HEADERS if digits else _KEPT_HEADERS),
        sdp=sdp,
        body=body,
    )


def _headers(message: SIPMessage, kept: frozenset[str]) -> tuple[tuple[str, str], ...]:
    private = any(
        word in value.lower() for value in message.all("privacy") for word in ("id", "user", "header")
    )
    headers: list[tuple[str, str]] = []
    for name, value in message.headers:
        if name not in kept or len(headers) == _MAX_KEPT:
            continue
        hidden = private and name in _IDENTITY_HEADERS
        headers.append((name, "(withheld)" if hidden else _clean(value)))
    return tuple(headers)


def _body(message: SIPMessage) -> tuple[str, str]:
    if not message.body:
        return "", ""
    sdp = message.sdp
    if sdp is not None:
        try:
            return _without_keys(parse_sdp(sdp)).render(), ""
        except SDPError:
            return "", "application/sdp, malformed"
    kind = _clean(message.content_type)[:64] or "no type"
    for limit, words in ((1024, "under 1 kB"), (8192, "under 8 kB")):
        if len(message.body) < limit:
            return "", f"{kind}, {words}"
    return "", f"{kind}, 8 kB or more"


def _without_keys(description: SessionDescription) -> SessionDescription:
    if not any(m.crypto for m in description.media):
        return description
    media = tuple(
        replace(m, crypto=tuple(replace(c, parameters="(withheld)") for c in m.crypto))
        for m in description.media
    )
    return replace(description, media=media)


def _clean(value: str) -> str:
    # Control characters and surrogates are not printable, so nearly every value takes the quick way.
    return value[:_MAX_VALUE] if value.isprintable() else _CONTROL.sub("", value)[:_MAX_VALUE]
