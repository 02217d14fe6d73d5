"""Where SRTP keys pass from signalling to the media plane, and what is said when they passed in clear."""

from __future__ import annotations

import logging
from collections.abc import Callable

from media.protocol import CryptoSuite, SRTPKeys
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.sdp import SessionDescription

log = logging.getLogger(__name__)


def media_keys(agreed: NegotiatedAudio | None) -> SRTPKeys | None:
    """The keys of what was negotiated as a media worker takes them."""
    if agreed is None or agreed.srtp is None:
        return None
    keys = agreed.srtp
    return SRTPKeys(CryptoSuite(keys.suite.value), keys.send, keys.receive)


class ExposedKeys:
    """Keys that went over signalling without TLS: counted each time, said once for each trunk.

    RFC 4568 §7 wants SDES under signalling that hides it. A carrier's UDP trunk in a private network may be that,
    which nobody can see from here: so the call goes on, and who runs the switch is told.

    Args:
        count: counts one more of something.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._told: set[str] = set()

    def note(self, trunk: str, transport: str, *descriptions: SessionDescription | None) -> None:
        """What was received and sent on a trunk by `UDP`, `TCP` or `TLS`."""
        named = any(media.crypto for sdp in descriptions if sdp for media in sdp.media)
        if not named or transport == "TLS":
            return
        self._count("srtp_keys_in_clear_signalling")
        if trunk not in self._told:
            self._told.add(trunk)
            log.warning(
                "trunk %s: SRTP keys pass through SIP over %s in clear; who sees the signalling can decrypt "
                "the media (RFC 4568 §7)",
                trunk,
                transport or "an unknown transport",
            )
