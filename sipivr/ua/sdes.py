"""SRTP keys in SDP: `a=crypto` lines, and which key is whose in one leg (RFC 4568, RFC 7714 §14).

A `Keying` belongs to one `Negotiator` and holds our master key for each crypto suite that we have named. A key stays
as long as nothing forces another: the peer may change its own in a re-INVITE without any answer from ours, and ours
goes on. Ours changes when the peer's transport address does (its new context begins at roll-over counter zero, and
under the old key that would be a two-time pad, RFC 3711 §9.1), with another crypto suite, after media in clear, and
when `renew` says so. A key that was named and not chosen is forgotten, as is one that has been in use and is not.

Lines that demand what we do not do are passed over as if they were not there: unknown suites, an MKI, several keys,
a key derivation rate, FEC, and whatever turns encryption or authentication off.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sipivr.ua.sdp import CryptoLine, NotAcceptable


class SRTPPolicy(enum.StrEnum):
    """What a trunk says about SRTP."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class CryptoSuite(enum.StrEnum):
    """Crypto suites by their names in SDP; same names as `media.protocol.CryptoSuite`."""

    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"


_KEY_BYTES: Final = {
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: 30,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: 30,
    CryptoSuite.AEAD_AES_128_GCM: 28,
}
#: What an offer of ours names, by preference. Not GCM: Debian's libsrtp has none, so pjsua knows none and ends a call
#: whose first answer chooses it; it lets a peer's offer pass that names GCM beside a suite that it knows.
_OFFERED: Final = (CryptoSuite.AES_CM_128_HMAC_SHA1_80, CryptoSuite.AES_CM_128_HMAC_SHA1_32)
_SUITES: Final = {suite.value: suite for suite in CryptoSuite}
#: RFC 4568 §9.1: key-params, and session parameters after a space.
_INLINE: Final = re.compile(
    r"inline:(?P<key>[A-Za-z0-9+/]{37,40}={0,2})(?:\|(?P<lifetime>2\^[0-9]{1,2}|[0-9]{1,15}))?", re.ASCII
)
#: What may be ignored: hints about the replay window (§6.3.6), and what its author marks so (§6.3.7).
_HARMLESS: Final = re.compile(r"WSH=[0-9]{1,4}|-\S+", re.ASCII)


@dataclass(frozen=True, slots=True)
class MediaKeys:
    """Master key and salt, one after the other, for each direction as we see it."""

    suite: CryptoSuite
    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        """Shows the suite, never a key."""
        return f"MediaKeys({self.suite.value})"


def read_key(line: CryptoLine) -> tuple[CryptoSuite, bytes] | None:
    """Suite and key of a line that we can do, None for any other."""
    suite = _SUITES.get(line.suite)
    words = line.parameters.split()
    match = _INLINE.fullmatch(words[0]) if words else None
    if suite is None or match is None or not all(_HARMLESS.fullmatch(word) for word in words[1:]):
        return None
    # RFC 4568 §6.1: padding may be left out.
    text = match["key"].rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
    return (suite, key) if len(key) == _KEY_BYTES[suite] else None


def write_key(tag: int, suite: CryptoSuite, key: bytes) -> CryptoLine:
    """The line of a key, without lifetime: the longest that RFC 3711 §9.2 allows."""
    return CryptoLine(tag, suite.value, "inline:" + base64.b64encode(key).decode("ascii"))


class Keying:
    """Our keys and the peer's in one leg; see the module."""

    def __init__(self) -> None:
        self._ours: dict[CryptoSuite, bytes] = {}
        self._offered: dict[int, tuple[CryptoSuite, bytes]] = {}
        self._agreed: MediaKeys | None = None
        self._destination: tuple[str, int] | None = None

    @property
    def secured(self) -> bool:
        """Whether what was agreed on last has keys."""
        return self._agreed is not None

    def renew(self) -> None:
        """Our next offer or answer has a key that was never used."""
        self._ours.clear()

    def offer(self) -> tuple[CryptoLine, ...]:
        """Lines for an offer of ours, the suite in use first."""
        in_use = (self._agreed.suite,) if self._agreed else ()
        suites = dict.fromkeys((*in_use, *_OFFERED))
        self._offered = {tag: (suite, self._key(suite)) for tag, suite in enumerate(suites, 1)}
        return tuple(write_key(tag, suite, key) for tag, (suite, key) in self._offered.items())

    def usable(self, lines: Iterable[CryptoLine]) -> bool:
        """Whether an offer holds a line that we can answer."""
        return any(read_key(line) for line in lines)

    def answer(
        self, lines: Iterable[CryptoLine], destination: tuple[str, int] | None
    ) -> tuple[CryptoLine, MediaKeys]:
        """Our line for the answer to an offer: the first of theirs that we can do (RFC 4568 §7.1.2).

        Args:
            lines: of the offer.
            destination: the peer's transport address, None while it names none (hold in RFC 2543's way).

        Raises:
            NotAcceptable: there is none (488).
        """
        for line in lines:
            found = read_key(line)
            if found is not None:
                break
        else:
            raise NotAcceptable("No crypto line of the offer can be used.")
        suite, theirs = found
        if self._destination is not None and destination not in {None, self._destination}:
            self._ours.clear()
        keys = self._settle(suite, self._key(suite), theirs, destination)
        return write_key(line.tag, suite, keys.send), keys

    def accept(self, lines: tuple[CryptoLine, ...], destination: tuple[str, int] | None) -> MediaKeys:
        """The keys that an answer to our last offer agrees on.

        Raises:
            NotAcceptable: it names no line of ours, or not as we offered it.
        """
        line = lines[0] if len(lines) == 1 else None
        offered = self._offered.get(line.tag) if line else None
        found = read_key(line) if line else None
        if offered is None or found is None or found[0] is not offered[0]:
            raise NotAcceptable("The answer's crypto line is none of those that we offered.")
        return self._settle(offered[0], offered[1], found[1], destination)

    def clear(self) -> None:
        """Media in clear was agreed on: no key of before comes back."""
        self._agreed = None
        self._ours.clear()

    def _key(self, suite: CryptoSuite) -> bytes:
        key = self._ours.get(suite)
        if key is None:
            key = self._ours[suite] = secrets.token_bytes(_KEY_BYTES[suite])
        return key

    def _settle(
        self, suite: CryptoSuite, ours: bytes, theirs: bytes, destination: tuple[str, int] | None
    ) -> MediaKeys:
        # RFC 4568 §6.1 wants one key for one direction: a mirror of ours would be a two-time pad.
        if hmac.compare_digest(ours, theirs):
            raise NotAcceptable("The other side's key is a copy of ours.")
        self._ours = {suite: ours}
        self._destination = destination or self._destination
        self._agreed = MediaKeys(suite, ours, theirs)
        return self._agreed
