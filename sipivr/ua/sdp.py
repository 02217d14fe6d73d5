"""Session descriptions of telephone calls as frozen values.

Values are built by `sipivr.ua.negotiation.Negotiator` (one for each leg), written by
`SessionDescription.render` and read by `sipivr.ua.sdp_parser.parse_sdp`. RFC 8866 (SDP), RFC 3264
(offer/answer), RFC 4733 §2.4 (telephone-event), RFC 5761 (rtcp-mux).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class SDPError(Exception):
    """A body that is no usable session description; `str()` is a sentence without any of its contents.

    Attributes:
        status: the SIP status that refuses it.
    """

    status: int = 400


class NotAcceptable(SDPError):
    """A well-formed offer with nothing in it that we can do (RFC 3261 §21.4.26)."""

    status = 488


class NoCommonCodec(NotAcceptable):
    """No codec of the offer (or answer) is allowed on this trunk."""


class Codec(enum.IntEnum):
    """G.711 laws by their static RTP payload types (RFC 3551 §6); same numbers as `media.protocol.Codec`."""

    PCMU = 0
    PCMA = 8


class Direction(enum.StrEnum):
    """RTP direction (RFC 3264 §5.1) of the description that carries it: its author's view."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    def reversed(self) -> Direction:
        """The same agreement seen from the other end."""
        return _REVERSED[self]

    def within(self, allowed: Direction) -> Direction:
        """The largest direction that both `self` and `allowed` (same point of view) permit."""
        send = self in _SENDING and allowed in _SENDING
        receive = self in _RECEIVING and allowed in _RECEIVING
        if send:
            return Direction.SENDRECV if receive else Direction.SENDONLY
        return Direction.RECVONLY if receive else Direction.INACTIVE


_REVERSED: Final = {
    Direction.SENDRECV: Direction.SENDRECV,
    Direction.SENDONLY: Direction.RECVONLY,
    Direction.RECVONLY: Direction.SENDONLY,
    Direction.INACTIVE: Direction.INACTIVE,
}
_SENDING: Final = frozenset({Direction.SENDRECV, Direction.SENDONLY})
_RECEIVING: Final = frozenset({Direction.SENDRECV, Direction.RECVONLY})


#: c= of a held stream in RFC 2543's way; no socket is ever bound to these.
UNSPECIFIED: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104


def _connection(address: str) -> str:
    return f"IN {'IP6' if ':' in address else 'IP4'} {address}"


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One format of an m= line with its rtpmap and fmtp, e.g. `101 telephone-event/8000 0-15`."""

    payload_type: int
    encoding: str = ""
    clock_rate_hz: int = 0
    channels: int = 1
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class CryptoLine:
    """One `a=crypto` (RFC 4568); the key never shows in a repr or in the SIP ladder."""

    tag: int
    suite: str
    parameters: str

    def __repr__(self) -> str:
        """Shows the suite, never the key."""
        return f"CryptoLine(tag={self.tag}, suite={self.suite!r})"


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One m= section.

    Attributes:
        kind: `audio`, `video`, … as written.
        port: UDP port; 0 = declined or disabled.
        protocol: `RTP/AVP`, `RTP/SAVP`, …
        formats: what the m= line lists, in its order (for non-RTP streams `raw_formats` holds the words).
        address: numeric connection address (this section's c= or the session's), "" when there is none.
        direction: this section's or the session's attribute, `sendrecv` by default.
        ptime_ms, maxptime_ms: None when absent.
        rtcp_mux, rtcp_port: RFC 5761, RFC 3605.
        crypto: `a=crypto` lines.
    """

    kind: str
    port: int
    protocol: str
    formats: tuple[PayloadFormat, ...] = ()
    raw_formats: tuple[str, ...] = ()
    address: str = ""
    direction: Direction = Direction.SENDRECV
    ptime_ms: int | None = None
    maxptime_ms: int | None = None
    rtcp_mux: bool = False
    rtcp_port: int | None = None
    crypto: tuple[CryptoLine, ...] = ()

    @property
    def on_hold(self) -> bool:
        """Whether the author asks us to stop sending: RFC 3264 §8.4, and 0.0.0.0 of RFC 2543 peers."""
        return self.address in UNSPECIFIED or self.direction not in _RECEIVING

    def lines(self, session_address: str) -> list[str]:
        """This section's lines; its own c= only where it differs from the session's."""
        formats = [str(f.payload_type) for f in self.formats] or list(self.raw_formats)
        lines = [f"m={self.kind} {self.port} {self.protocol} {' '.join(formats)}"]
        if self.port == 0:
            return lines
        if self.address and self.address != session_address:
            lines.append(f"c={_connection(self.address)}")
        for item in self.formats:
            if item.encoding:
                channels = f"/{item.channels}" if item.channels > 1 else ""
                lines.append(f"a=rtpmap:{item.payload_type} {item.encoding}/{item.clock_rate_hz}{channels}")
            if item.parameters:
                lines.append(f"a=fmtp:{item.payload_type} {item.parameters}")
        if self.ptime_ms:
            lines.append(f"a=ptime:{self.ptime_ms}")
        if self.maxptime_ms:
            lines.append(f"a=maxptime:{self.maxptime_ms}")
        lines.append(f"a={self.direction.value}")
        if self.rtcp_mux:
            lines.append("a=rtcp-mux")
        elif self.rtcp_port:
            lines.append(f"a=rtcp:{self.rtcp_port}")
        lines += [f"a=crypto:{c.tag} {c.suite} {c.parameters}" for c in self.crypto]
        return lines


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One SDP body. `session_version` is o='s third word: it rises with every change (RFC 3264 §8)."""

    session_id: int
    session_version: int
    origin_address: str
    media: tuple[MediaDescription, ...]

    @property
    def audio(self) -> MediaDescription | None:
        """The first audio section with a port, if any."""
        return next((m for m in self.media if m.kind == "audio" and m.port), None)

    def render(self) -> str:
        """The body as it goes on the wire, CRLF line ends."""
        address = next((m.address for m in self.media if m.address), self.origin_address)
        lines = [
            "v=0",
            f"o=- {self.session_id} {self.session_version} {_connection(self.origin_address)}",
            "s=-",
            f"c={_connection(address)}",
            "t=0 0",
        ]
        for media in self.media:
            lines += media.lines(address)
        return "\r\n".join(lines) + "\r\n"
