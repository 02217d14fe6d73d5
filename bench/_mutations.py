"""Packets that are nearly right: valid RTP, RTCP and SRTP of a leg, changed where their structure is.

A `Forger` makes one leg's packets from a seed. It keeps a stream going as a telephone would (so that much of
what it makes goes deep into the receiver), and changes none to three things in most packets: versions, counts,
lengths, padding, extension, numbers at their limits, events and reports that promise more than they hold, bits,
cuts. With SRTP keys some packets are changed before they are protected, so that they pass authentication, and
others after.
"""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import pylibsrtp

from media.protocol import FRAME_SAMPLES, CryptoSuite, SRTPKeys

EVENT_TYPE: Final = 101
_LIMITS_8: Final = (0, 1, 2, 15, 16, 31, 32, 63, 64, 72, 76, 95, 96, 101, 127, 128, 200, 223, 254, 255)
_LIMITS_16: Final = (0, 1, 2, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_LIMITS_32: Final = (0, 1, FRAME_SAMPLES, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFF60, 0xFFFFFFFF)
_SIZES: Final = (0, 1, 3, 4, 79, 80, 81, 159, 161, 240, 320, 480, 481, 552, 553, 564, 1_000, 1_460)
_PROFILES: Final[dict[CryptoSuite, int]] = {
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    CryptoSuite.AEAD_AES_128_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}

Change = Callable[[bytearray, random.Random], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Forged:
    """One datagram; `report` when it began as RTCP."""

    packet: bytes
    report: bool


# Changes of any packet


def _flip(packet: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        if packet:
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)


def _cut(packet: bytearray, rng: random.Random) -> None:
    del packet[rng.randrange(len(packet) + 1) :]


def _cut_short(packet: bytearray, rng: random.Random) -> None:
    del packet[rng.randrange(16) :]


def _limit_8(packet: bytearray, rng: random.Random) -> None:
    if packet:
        packet[rng.randrange(min(len(packet), 64))] = rng.choice(_LIMITS_8)


def _limit_32(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 4:
        place = rng.randrange(min(len(packet), 80) // 4) * 4
        packet[place : place + 4] = rng.choice(_LIMITS_32).to_bytes(4, "big")


def _remove(packet: bytearray, rng: random.Random) -> None:
    if packet:
        place = rng.randrange(len(packet))
        del packet[place : place + rng.randint(1, 8)]


def _insert(packet: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(packet) + 1)
    packet[place:place] = rng.randbytes(rng.randint(1, 8))


def _first(packet: bytearray, rng: random.Random) -> None:
    if packet:
        packet[0] = rng.randrange(256)


# Of RTP


def _sources(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 12:
        count = rng.randrange(16)
        packet[0] = packet[0] & 0xF0 | count
        packet[12:12] = rng.randbytes(4 * rng.choice((count, count, 0, rng.randrange(16))))


def _extension(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 12:
        words = rng.randrange(8)
        packet[0] |= 0x10
        place = min(12 + 4 * (packet[0] & 15), len(packet))
        told = rng.choice((words, words, words + 1, 0x7FFF, 0xFFFF, 138, 139))
        packet[place:place] = (
            rng.choice((b"\xbe\xde", b"\x10\x00")) + told.to_bytes(2, "big") + rng.randbytes(4 * words)
        )


def _padding(packet: bytearray, rng: random.Random) -> None:
    if packet:
        packet[0] |= 0x20
        count = rng.randint(1, 16)
        told = rng.choice((count, count, 0, 255, 1, min(len(packet) + count, 255)))
        packet += bytes(count - 1) + bytes((told,))


def _type(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 2:
        packet[1] = rng.choice((*_LIMITS_8, 0, 8, 13, EVENT_TYPE, EVENT_TYPE | 0x80))


def _sequence(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 4:
        now = int.from_bytes(packet[2:4], "big")
        step = rng.choice((*_LIMITS_16, now - 1, now + 2, now + 3_000, now - 200, rng.randrange(1 << 16)))
        packet[2:4] = (step & 0xFFFF).to_bytes(2, "big")


def _timestamp(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 8:
        now = int.from_bytes(packet[4:8], "big")
        step = rng.choice(
            (*_LIMITS_32, now + 1, now - 160, now + 1_601, now + 80_000, now - 4_800, rng.randrange(1 << 32))
        )
        packet[4:8] = (step & 0xFFFFFFFF).to_bytes(4, "big")


def _source(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 12:
        packet[8:12] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))


def _payload(packet: bytearray, rng: random.Random) -> None:
    del packet[12:]
    packet += rng.randbytes(rng.choice(_SIZES))


def _event(packet: bytearray, rng: random.Random) -> None:
    if len(packet) >= 2:
        packet[1] = EVENT_TYPE | packet[1] & 0x80
        del packet[12:]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            second, duration = rng.randrange(256), rng.choice((*_LIMITS_16, 160, 800))
            packet += struct.pack("!BBH", rng.choice((*range(17), 255)), second, duration)
        del packet[len(packet) - rng.choice((0, 0, 0, 1, 2, 3, 4)) :]


# Of RTCP


def _parts(packet: bytearray) -> list[int]:
    """Where the parts of a compound begin, as far as the chain holds."""
    starts: list[int] = []
    at = 0
    while at + 4 <= len(packet):
        starts.append(at)
        at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    return starts


def _part_count(packet: bytearray, rng: random.Random) -> None:
    for at in _parts(packet)[-1:] or [0][: len(packet)]:
        packet[at] = packet[at] & 0xE0 | rng.choice((0, 1, 2, 30, 31))


def _part_length(packet: bytearray, rng: random.Random) -> None:
    starts = _parts(packet)
    if starts:
        at = rng.choice(starts)
        now = int.from_bytes(packet[at + 2 : at + 4], "big")
        packet[at + 2 : at + 4] = (rng.choice((*_LIMITS_16, now + 1, now - 1)) & 0xFFFF).to_bytes(2, "big")


def _part_type(packet: bytearray, rng: random.Random) -> None:
    starts = _parts(packet)
    if starts:
        packet[rng.choice(starts) + 1] = rng.choice((*range(192, 213), 0, 255))


def _part_flags(packet: bytearray, rng: random.Random) -> None:
    starts = _parts(packet)
    if starts:
        packet[rng.choice(starts)] ^= rng.choice((0x20, 0x40, 0x80, 0xC0))


def _part_again(packet: bytearray, rng: random.Random) -> None:
    starts = [*_parts(packet), len(packet)]
    if len(starts) > 1:
        which = rng.randrange(len(starts) - 1)
        packet += packet[starts[which] : starts[which + 1]] * rng.randint(1, 5)


def _item_length(packet: bytearray, rng: random.Random) -> None:
    for at in _parts(packet):
        if packet[at + 1] == 202 and at + 10 <= len(packet):
            packet[at + 9] = rng.choice((0, 1, 127, 255))


_ANY: Final[tuple[Change, ...]] = (_flip, _cut, _cut_short, _limit_8, _limit_32, _remove, _insert, _first)
_RTP: Final[tuple[Change, ...]] = (
    *(_sources, _extension, _padding, _type, _sequence, _timestamp, _source, _payload, _event, _timestamp),
    *_ANY,
)
_RTCP: Final[tuple[Change, ...]] = (
    *(_part_count, _part_length, _part_type, _part_flags, _part_again, _item_length, _limit_32),
    *_ANY,
)


class Forger:
    """Makes the packets of one leg.

    Args:
        rng: everything is drawn from it.
        payload_type: the leg's audio.
        others: SSRCs to take for its own now and then.
        corpus: packets to begin with now and then.
        keys: the leg's SRTP keys; the peer sends with those by which the leg receives.
        ssrc: of its own.
    """

    def __init__(
        self,
        rng: random.Random,
        payload_type: int,
        others: Sequence[int],
        corpus: Sequence[bytes],
        keys: SRTPKeys | None = None,
    ) -> None:
        self._rng, self._type, self._others, self._corpus = rng, payload_type, list(others), list(corpus)
        self._ssrc = rng.getrandbits(32)
        self._sequence = rng.getrandbits(16)
        self._timestamp = rng.getrandbits(32)
        self._sent = 0
        self._session = None if keys is None else _session(keys)
        self._reported = 0

    def hear(self, packet: bytes) -> None:
        """What the leg has sent: reports are about its SSRC, which SRTP leaves in clear."""
        if len(packet) >= 12 and not 192 <= packet[1] <= 223:
            self._reported = int.from_bytes(packet[8:12], "big")

    def packet(self) -> Forged:
        """The next one."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.05 and self._corpus:
            packet = bytearray(rng.choice(self._corpus))
            report, changes = len(packet) > 1 and 192 <= packet[1] <= 223, _ANY
        elif draw < 0.07:
            packet, report, changes = bytearray(rng.randbytes(rng.randrange(700))), rng.random() < 0.5, _ANY
        elif draw < 0.30:
            packet, report, changes = self._compound(), True, _RTCP
        else:
            packet, report, changes = self._media(), False, _RTP
        count = rng.choice((0, 1, 1, 1, 2, 3))
        after = self._session is not None and rng.random() < 0.5
        if not after:
            self._change(packet, changes, count)
        if self._session is not None and rng.random() < 0.95:
            packet = bytearray(_protected(self._session, bytes(packet), report=report))
        if after:
            self._change(packet, changes, count)
        return Forged(bytes(packet), report)

    def _change(self, packet: bytearray, changes: Sequence[Change], count: int) -> None:
        for _ in range(count):
            self._rng.choice(changes)(packet, self._rng)

    def _media(self) -> bytearray:
        rng = self._rng
        if rng.random() < 0.02:
            self._ssrc = rng.choice((*self._others, rng.getrandbits(32)))
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        self._sent += 1
        kind = rng.random()
        if kind < 0.75:
            word, payload = self._type, rng.randbytes(FRAME_SAMPLES)
        elif kind < 0.95:
            duration = rng.choice((160, 320, 800))
            word, payload = (
                EVENT_TYPE,
                struct.pack("!BBH", rng.randrange(16), rng.choice((10, 0x8A)), duration),
            )
        else:
            word, payload = 13, b"\x3c"
        head = struct.pack("!BBHII", 0x80, word, self._sequence, self._timestamp, self._ssrc)
        return bytearray(head + payload)

    def _compound(self) -> bytearray:
        rng = self._rng
        block = struct.pack(
            "!IIIIII",
            rng.choice((self._reported, self._reported, *self._others, rng.getrandbits(32))),
            rng.getrandbits(32),
            *(rng.choice((*_LIMITS_32, rng.getrandbits(32))) for _ in range(4)),
        )
        blocks = rng.choice((0, 1, 1, 2, 31))
        if rng.random() < 0.5:
            sender = struct.pack(
                "!IIIII",
                rng.getrandbits(32),
                rng.getrandbits(32),
                self._timestamp,
                self._sent,
                160 * self._sent,
            )
            first = _part(200, blocks, self._ssrc, sender + block * blocks)
        else:
            first = _part(201, blocks, self._ssrc, block * blocks)
        name = rng.randbytes(rng.randrange(20))
        items = b"\x01" + bytes((len(name),)) + name
        parts = [first, _part(202, 1, self._ssrc, items + bytes(4 - len(items) % 4))]
        if rng.random() < 0.1:
            reason = rng.randbytes(rng.randrange(12))
            parts.append(_part(203, 1, self._ssrc, (bytes((len(reason),)) + reason).ljust(16, b"\0")))
        if rng.random() < 0.1:
            parts.append(
                _part(rng.choice((204, 205, 206, 207)), rng.randrange(32), self._ssrc, rng.randbytes(12))
            )
        return bytearray(b"".join(parts))


def _part(kind: int, count: int, ssrc: int, body: bytes) -> bytes:
    return struct.pack("!BBHI", 0x80 | count, kind, 1 + len(body) // 4, ssrc) + body


def _session(keys: SRTPKeys) -> Any:
    policy = pylibsrtp.Policy(
        key=keys.receive,
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=_PROFILES[keys.suite],
    )
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy=policy)


def _protected(session: Any, packet: bytes, *, report: bool) -> bytes:
    """The packet with its tag, or as it is where libsrtp will not have it."""
    try:
        return bytes(session.protect_rtcp(packet) if report else session.protect(packet))
    except (pylibsrtp.Error, ValueError, TypeError):
        return packet
