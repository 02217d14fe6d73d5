"""Session descriptions of telephone calls as frozen values, and the offer/answer rules between them.

The switch negotiates one G.711 audio stream and telephone-event; every other stream of an offer is declined
with port 0. Values are built by `Negotiator` (one for each leg), written by `SessionDescription.render` and
read by `sipivr.ua.sdp_parser.parse_sdp`. RFC 8866 (SDP), RFC 3264 (offer/answer), RFC 4733 §2.4
(telephone-event), RFC 5761 (rtcp-mux).
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
        return self.address in {"0.0.0.0", "::"} or self.direction not in _RECEIVING  # noqa: S104 - no bind


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
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class MediaTerms:
    """What one trunk allows and how we describe ourselves on it.

    Attributes:
        codecs: allowed codecs; their order is that of our offers (answers follow the offer's order).
        ptime_ms: what we offer.
        event_payload_type: payload type of telephone-event in our offers, None = do not offer.
        srtp_supported: whether `RTP/SAVP` may be negotiated (issue 3); refused with 488 otherwise.
    """

    codecs: tuple[Codec, ...] = (Codec.PCMU, Codec.PCMA)
    ptime_ms: int = 20
    event_payload_type: int | None = 101
    srtp_supported: bool = False


@dataclass(frozen=True, slots=True)
class NegotiatedAudio:
    """What both ends agreed on for the audio stream.

    Attributes:
        codec: for both directions.
        remote_address, remote_port: numeric address where our RTP goes.
        event_payload_type: the number under which we send and receive telephone-event, None = not agreed.
        ptime_ms: packet time for what we send (the peer's wish, bounded 10–60 and by maxptime).
        direction: as we see it (SENDONLY: we send and do not listen).
        remote_holds: the peer asked us to stop sending (hold).
        rtcp_mux: both ends do RFC 5761.
        remote_rtcp_port: where RTCP goes.
    """

    codec: Codec
    remote_address: str
    remote_port: int
    event_payload_type: int | None
    ptime_ms: int
    direction: Direction
    remote_holds: bool
    rtcp_mux: bool
    remote_rtcp_port: int


class Negotiator:
    """The offer/answer state of one leg: its o= line, its version, the last agreement. No I/O.

    Args:
        address: our numeric RTP address as the peer must see it.
        port: our RTP port.
        terms: what this leg's trunk allows.
    """

    def __init__(self, address: str, port: int, terms: MediaTerms) -> None:
        raise NotImplementedError

    def move(self, address: str, port: int) -> None:
        """RTP goes to another of our sockets from the next description on."""
        raise NotImplementedError

    def offer(self, direction: Direction = Direction.SENDRECV) -> SessionDescription:
        """A new offer, o= version risen."""
        raise NotImplementedError

    def answer(
        self, offer: SessionDescription, direction: Direction = Direction.SENDRECV
    ) -> tuple[SessionDescription, NegotiatedAudio]:
        """Answers `offer`; `direction` is the most that we want (our view).

        Raises:
            NoCommonCodec: nothing in common (488).
            NotAcceptable: no usable audio stream, or SRTP where it is not supported (488).
        """
        raise NotImplementedError

    def accept(self, answer: SessionDescription) -> NegotiatedAudio:
        """Reads the peer's answer to our last offer.

        Raises:
            NotAcceptable: the peer declined the audio stream or answered outside our offer.
        """
        raise NotImplementedError
