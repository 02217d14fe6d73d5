"""Offer and answer of one leg (RFC 3264): one G.711 stream and telephone-event, everything else declined.

A `Negotiator` holds three things between messages: its o= line, whose version rises with every description
that it makes, the last offer that waits for an answer, and the SRTP keys. It knows no SIP and no socket. The
dialog's order (one offer at a time, glare) is kept by pjsip (RFC 3261 §14).

SRTP by the trunk's policy:

- *off*: `RTP/AVP` only; `a=crypto` in it is not looked at, and answered by none.
- *required*: `RTP/SAVP` only, in offers and answers (RFC 4568 §6: SDES belongs to that profile).
- *optional*: of an offer the `RTP/SAVP` stream, else the `RTP/AVP` one. There is no RFC for an offer that is
  content with either, and `RTP/SAVP` alone would lose the calls of peers that have no SRTP. So our first offer, and
  an offer that we meet, may be what baresip, Asterisk and pjsua call optional: `RTP/AVP` with `a=crypto`, which
  who does not know it ignores (RFC 8866 §5.13); an answer with `a=crypto` is SRTP, one without is in clear. Later
  offers name what is in use.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from sipivr.ua.sdes import Keying, MediaKeys, SRTPPolicy
from sipivr.ua.sdp import (
    UNSPECIFIED,
    Codec,
    CryptoLine,
    Direction,
    MediaDescription,
    NoCommonCodec,
    NotAcceptable,
    PayloadFormat,
    SessionDescription,
)

_CLOCK_RATE_HZ: Final = 8000
_EVENTS: Final = "0-15"
_SHORTEST_PTIME_MS: Final = 10
_LONGEST_PTIME_MS: Final = 60
_DEFAULT_PTIME_MS: Final = 20
_CLEAR: Final = "RTP/AVP"
_SECURE: Final = "RTP/SAVP"


@dataclass(frozen=True, slots=True)
class MediaTerms:
    """What one trunk allows and how we describe ourselves on it.

    Attributes:
        codecs: allowed codecs; their order is that of our offers (answers follow the offer's order).
        ptime_ms: what we offer.
        event_payload_type: payload type of telephone-event in our offers; None: neither offer nor accept it.
        rtcp_mux: accept it when offered (RFC 5761); we do not offer it.
        srtp: whether media is encrypted; what does not fit is refused with 488.
    """

    codecs: tuple[Codec, ...] = (Codec.PCMU, Codec.PCMA)
    ptime_ms: int = 20
    event_payload_type: int | None = 101
    rtcp_mux: bool = True
    srtp: SRTPPolicy = SRTPPolicy.OFF


@dataclass(frozen=True, slots=True)
class NegotiatedAudio:
    """What both ends agreed on for the audio stream.

    Attributes:
        codec: for both directions.
        remote_address, remote_port: numeric address where our RTP goes; `0.0.0.0` or `::` while an RFC 2543
            peer holds (`direction` then excludes sending).
        event_payload_type: the number under which we send and receive telephone-event, None = not agreed.
        ptime_ms: packet time for what we send (the peer's wish, within 10–60 and its maxptime).
        direction: as we see it (SENDONLY: we send and do not listen).
        remote_holds: the peer asked us to stop sending (hold).
        rtcp_mux: both ends do RFC 5761.
        remote_rtcp_port: where RTCP goes.
        srtp: suite and keys of both directions, None for media in clear.
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
    srtp: MediaKeys | None = None


class Negotiator:
    """The offer/answer state of one leg. No I/O.

    Args:
        address: our numeric RTP address as the peer must see it.
        port: our RTP port.
        terms: what this leg's trunk allows.
    """

    def __init__(self, address: str, port: int, terms: MediaTerms) -> None:
        self._address = address
        self._port = port
        self._terms = terms
        # pjmedia reads both numbers of o= into 32 bits.
        self._session_id = secrets.randbits(31)
        self._version = 0
        self._offer: MediaDescription | None = None
        self._keying = Keying()
        self._protocol: str | None = None

    def renew_keys(self) -> bool:
        """Our next offer has a fresh key, for a media worker that does not know how far the old one was used.

        The peer's key stays its own business: it gives another in its answer, as RFC 3711 §9.1 wants of who
        begins anew, or goes on.

        Returns:
            Whether the leg's media is encrypted at all.
        """
        self._keying.renew()
        return self._keying.secured

    def move(self, address: str, port: int) -> None:
        """RTP goes to another of our sockets from the next description on."""
        self._address = address
        self._port = port

    def peer(self, offer: SessionDescription) -> tuple[str, int]:
        """Address and port of the stream that `answer` would take. Changes nothing.

        Raises:
            NotAcceptable: as `answer`.
        """
        _, theirs = self._choose(offer)
        return theirs.address, theirs.port

    def offer(self, direction: Direction = Direction.SENDRECV) -> SessionDescription:
        """A new offer, o= version risen."""
        formats = [_audio_format(codec) for codec in self._terms.codecs]
        if self._terms.event_payload_type is not None:
            formats.append(_event_format(self._terms.event_payload_type))
        protocol, crypto = self._offered_profile()
        self._offer = self._audio(
            tuple(formats),
            self._terms.ptime_ms,
            direction,
            rtcp_mux=False,
            protocol=protocol,
            crypto=crypto,
        )
        return self._description((self._offer,))

    def answer(
        self, offer: SessionDescription, direction: Direction = Direction.SENDRECV
    ) -> tuple[SessionDescription, NegotiatedAudio]:
        """Answers `offer`; `direction` is the most that we want (our view).

        Raises:
            NoCommonCodec: nothing in common (488).
            NotAcceptable: no usable audio stream, or none that the trunk's policy on SRTP allows (488).
        """
        index, theirs = self._choose(offer)
        codec = self._first_codec(theirs)
        crypto: tuple[CryptoLine, ...] = ()
        keys = None
        if self._terms.srtp is not SRTPPolicy.OFF and self._keying.usable(theirs.crypto):
            line, keys = self._keying.answer(theirs.crypto, _destination(theirs))
            crypto = (line,)
        else:
            self._keying.clear()
        self._protocol = theirs.protocol
        agreed = self._agree(theirs, codec, self._event_type(theirs), direction, keys)
        formats = [_audio_format(codec)]
        if agreed.event_payload_type is not None:
            formats.append(_event_format(agreed.event_payload_type))
        ours = self._audio(
            tuple(formats),
            agreed.ptime_ms,
            agreed.direction,
            rtcp_mux=agreed.rtcp_mux,
            protocol=theirs.protocol,
            crypto=crypto,
        )
        # RFC 3264 §6: as many m= lines as the offer has, in its order; declined ones have port 0.
        media = tuple(ours if i == index else _declined(m) for i, m in enumerate(offer.media))
        return self._description(media), agreed

    def accept(self, answer: SessionDescription) -> NegotiatedAudio:
        """Reads the peer's answer to our last offer.

        Raises:
            NotAcceptable: the peer declined the audio stream or answered outside our offer.
        """
        ours = self._offer
        if ours is None:
            raise NotAcceptable("An answer came without an offer of ours.")
        theirs = answer.media[0] if answer.media else None
        if theirs is None or theirs.kind != "audio" or not theirs.port:
            raise NotAcceptable("The answer declines the audio stream.")
        if theirs.protocol != ours.protocol:
            raise NotAcceptable("The answer changes the transport protocol.")
        codec = self._first_codec(theirs)
        keys = None
        if ours.protocol == _SECURE or (ours.crypto and theirs.crypto):
            keys = self._keying.accept(theirs.crypto, _destination(theirs))
        else:
            self._keying.clear()
        self._protocol = theirs.protocol
        return self._agree(theirs, codec, self._event_type(theirs), ours.direction, keys)

    def _offered_profile(self) -> tuple[str, tuple[CryptoLine, ...]]:
        policy = self._terms.srtp
        if policy is SRTPPolicy.OFF:
            return _CLEAR, ()
        if policy is SRTPPolicy.REQUIRED:
            return _SECURE, self._keying.offer()
        if self._protocol is not None and not self._keying.secured:
            return _CLEAR, ()
        return self._protocol or _CLEAR, self._keying.offer()

    def _choose(self, offer: SessionDescription) -> tuple[int, MediaDescription]:
        streams = [(i, m) for i, m in enumerate(offer.media) if m.kind == "audio" and m.port]
        secure = [item for item in streams if item[1].protocol == _SECURE]
        clear = [item for item in streams if item[1].protocol == _CLEAR]
        policy = self._terms.srtp
        keyed = [item for item in secure if self._keying.usable(item[1].crypto)]
        if policy is not SRTPPolicy.OFF and keyed:
            return keyed[0]
        if policy is not SRTPPolicy.REQUIRED and clear:
            return clear[0]
        if policy is SRTPPolicy.OFF and any("SAVP" in media.protocol for _, media in streams):
            raise NotAcceptable("The offer demands SRTP, which this trunk does not do.")
        if secure:
            raise NotAcceptable("No crypto line of the offer can be used.")
        if clear:
            raise NotAcceptable("The offer is in clear, and this trunk demands SRTP.")
        raise NotAcceptable("The offer holds no usable audio stream.")

    def _first_codec(self, media: MediaDescription) -> Codec:
        for item in media.formats:
            for codec in self._terms.codecs:
                if (
                    item.payload_type == codec.value
                    and item.encoding.upper() == codec.name
                    and item.clock_rate_hz == _CLOCK_RATE_HZ
                    and item.channels == 1
                ):
                    return codec
        raise NoCommonCodec("No codec of the other side is allowed on this trunk.")

    def _event_type(self, media: MediaDescription) -> int | None:
        if self._terms.event_payload_type is None:
            return None
        for item in media.formats:
            # RFC 4733 §2.4.1: the clock rate is that of the audio it accompanies.
            if item.encoding.lower() == "telephone-event" and item.clock_rate_hz == _CLOCK_RATE_HZ:
                return item.payload_type
        return None

    def _agree(
        self,
        theirs: MediaDescription,
        codec: Codec,
        event_type: int | None,
        wanted: Direction,
        keys: MediaKeys | None,
    ) -> NegotiatedAudio:
        offered = theirs.direction
        if theirs.address in UNSPECIFIED:
            offered = offered.within(Direction.SENDONLY)
        mux = theirs.rtcp_mux and self._terms.rtcp_mux
        rtcp_port = theirs.port if mux else theirs.rtcp_port or min(theirs.port + 1, 65535)
        return NegotiatedAudio(
            codec=codec,
            remote_address=theirs.address,
            remote_port=theirs.port,
            event_payload_type=event_type,
            ptime_ms=_packet_time(theirs),
            direction=offered.reversed().within(wanted),
            remote_holds=theirs.on_hold,
            rtcp_mux=mux,
            remote_rtcp_port=rtcp_port,
            srtp=keys,
        )

    def _audio(
        self,
        formats: tuple[PayloadFormat, ...],
        ptime_ms: int,
        direction: Direction,
        *,
        rtcp_mux: bool,
        protocol: str,
        crypto: tuple[CryptoLine, ...],
    ) -> MediaDescription:
        return MediaDescription(
            kind="audio",
            port=self._port,
            protocol=protocol,
            formats=formats,
            address=self._address,
            direction=direction,
            ptime_ms=ptime_ms,
            rtcp_mux=rtcp_mux,
            crypto=crypto,
        )

    def _description(self, media: tuple[MediaDescription, ...]) -> SessionDescription:
        self._version += 1
        return SessionDescription(self._session_id, self._version, self._address, media)


def _audio_format(codec: Codec) -> PayloadFormat:
    return PayloadFormat(codec.value, codec.name, _CLOCK_RATE_HZ)


def _event_format(payload_type: int) -> PayloadFormat:
    return PayloadFormat(payload_type, "telephone-event", _CLOCK_RATE_HZ, 1, _EVENTS)


def _destination(media: MediaDescription) -> tuple[str, int] | None:
    return None if media.address in UNSPECIFIED else (media.address, media.port)


def _declined(media: MediaDescription) -> MediaDescription:
    return MediaDescription(
        kind=media.kind, port=0, protocol=media.protocol, raw_formats=media.raw_formats[:1] or ("0",)
    )


def _packet_time(media: MediaDescription) -> int:
    """What the peer asks for (RFC 8866 §6.4), in whole tens of ms so that samples fit packets."""
    wish = media.ptime_ms or _DEFAULT_PTIME_MS
    longest = min(_LONGEST_PTIME_MS, media.maxptime_ms or _LONGEST_PTIME_MS)
    return max(_SHORTEST_PTIME_MS, min(wish, longest) // 10 * 10)
