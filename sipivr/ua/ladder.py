"""The SIP ladder: what may be kept of a message, made from an allow-list of headers and from typed SDP.

INFO is "INFO" and nothing else of its body: digits travel in it (PCI DSS 3.3.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Way(enum.StrEnum):
    """Direction of a message as the switch sees it."""

    RECEIVED = "received"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """One message of a ladder.

    Attributes:
        at: seconds since the epoch.
        way, transport, local, remote: `local`/`remote` are `address:port` ("" where unknown).
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
    raise NotImplementedError
