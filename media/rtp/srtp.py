"""SRTP and SRTCP of the legs that have keys (RFC 3711, RFC 7714), by libsrtp through pylibsrtp.

Each direction of a leg has a context of its own: one master key, and for every SSRC under it a roll-over counter
and a replay window. A context lives as long as its key: negotiating the same key again continues it, another key
starts a new one, the end of the leg overwrites it. A context that went back to roll-over counter zero under a key
that has been used would encrypt two packets with one key stream (RFC 3711 §9.1), so a key that a leg has sent with
starts no second context.

A peer whose key changes goes on with the old one until our answer reaches it: the old context is kept until the
first packet under the new key has come.

Packets are worked on where they lie, in the batch and in the packet array, one call for each: about 1.5 µs, half
of what copies through `Session.protect` would cost, and no plain text stays behind in a buffer of pylibsrtp's.
Whatever a packet is, it is opened or dropped and counted; nothing is raised into the tick. A leg with keys has no
way to send or take a packet in clear.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from pylibsrtp import Error, Policy, Session
from pylibsrtp._binding import ffi, lib

from media.arrays import Bool, Index, Int32, Int64, UInt8
from media.protocol import CryptoSuite, SRTPKeys
from media.rtp.packet import HEADER_BYTES, HEADER_OFFSET, PACKET_BYTES, SLOT_BYTES, Columns, parse

_PROFILES: Final = {
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    CryptoSuite.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}
#: Bytes of master key and salt (RFC 4568 §6.2, RFC 7714 §12).
KEY_BYTES: Final = {
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: 30,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: 30,
    CryptoSuite.AEAD_AES_128_GCM: 28,
}
#: Bytes that protection adds to an RTP packet.
TAG_BYTES: Final = {
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: 10,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: 4,
    CryptoSuite.AEAD_AES_128_GCM: 16,
}
#: Most of them; packet buffers have this much room behind the payload.
LONGEST_TAG: Final = 16
#: What SRTCP adds at most: the tag and the word of index and E flag (RFC 3711 §3.4).
_LONGEST_RTCP_TRAILER: Final = LONGEST_TAG + 4
_RTCP_HEADER_BYTES: Final = 8
_LONGEST_RTCP: Final = 1_500
#: RFC 5761 §4: second bytes of RTCP on a port that it shares with RTP.
_RTCP_TYPES: Final = range(192, 224)
#: Packets of one leg that are looked at in a tick; a peer at 10 ms sends two, a burst after a stall some more.
MOST_PER_LEG: Final = 24
#: Sources under one key. Each holds a roll-over counter and a replay window, so none is ever forgotten.
_MOST_SOURCES: Final = 64
#: Packets that may be late and are still told from repeated ones (RFC 3711 §3.3.2: 64 at least).
_REPLAY_WINDOW: Final = 128


class SRTPError(Exception):
    """Keys that cannot be used; the text never holds one."""


def check_keys(keys: SRTPKeys) -> None:
    """Whether keys can be used at all.

    Raises:
        SRTPError: a key has the wrong length, or both directions have the same one (a two-time pad as soon as
            both ends choose one SSRC, RFC 3711 §9.1).
    """
    if len(keys.send) != KEY_BYTES[keys.suite] or len(keys.receive) != KEY_BYTES[keys.suite]:
        raise SRTPError("an SRTP key has the wrong length")
    if hmac.compare_digest(keys.send, keys.receive):
        raise SRTPError("both directions have the same SRTP key")


class Context:
    """One direction under one master key.

    Args:
        suite: the transform.
        key: master key and salt.
        mark: by which the key is recognised.
        sending: whether it protects or opens packets.

    Raises:
        SRTPError: libsrtp would not.
    """

    def __init__(self, suite: CryptoSuite, key: bytes, mark: bytes, *, sending: bool) -> None:
        try:
            policy = Policy(
                key,
                Policy.SSRC_ANY_OUTBOUND if sending else Policy.SSRC_ANY_INBOUND,
                srtp_profile=_PROFILES[suite],
            )
            policy.window_size = _REPLAY_WINDOW
            self._session = Session(policy)
        except (Error, ValueError) as error:
            raise SRTPError("libsrtp does not take an SRTP key") from error
        self.mark = mark
        # libsrtp has a copy of its own, which it overwrites itself.
        held: Any = policy.key
        held[0 : len(held)] = bytes(len(held))
        self._handle = self._session._srtp[0]
        self._length = ffi.new("int *")
        self._sources: set[int] = set()

    def close(self) -> None:
        """Overwrites the keys and ends the context."""
        ffi.release(self._session._srtp)
        self._handle = ffi.NULL

    def protect(self, place: Any, length: int) -> int:
        """Protects the RTP packet of `length` bytes at `place`; its new length, 0 if it must not be sent."""
        self._length[0] = length
        return self._length[0] if lib.srtp_protect(self._handle, place, self._length) == 0 else 0

    def protect_rtcp(self, place: Any, length: int) -> int:
        """The same for a compound RTCP packet."""
        self._length[0] = length
        return self._length[0] if lib.srtp_protect_rtcp(self._handle, place, self._length) == 0 else 0

    def open(self, call: Any, place: Any, length: int, source: int) -> int:
        """Opens one packet where it lies.

        Args:
            call: libsrtp's for RTP or for RTCP.
            place: where the packet begins.
            length: of the packet.
            source: its SSRC.

        Returns:
            The length of the clear packet, 0 if it is not authentic or not new.
        """
        known = source in self._sources
        if not known and len(self._sources) >= _MOST_SOURCES:
            return 0
        self._length[0] = length
        if call(self._handle, place, self._length) != 0:
            return 0
        if not known:
            self._sources.add(source)
        return int(self._length[0])


class _Pair:
    """Both contexts of a leg, and those keys of it that may not come back."""

    __slots__ = ("_mark", "_spent", "_suite", "previous", "receive", "send")

    def __init__(self, keys: SRTPKeys, spent: set[bytes], mark: Callable[[bytes], bytes]) -> None:
        self._mark = mark
        self._spent = spent
        self._suite = keys.suite
        self._check_unspent(keys)
        self.send = Context(keys.suite, keys.send, mark(keys.send), sending=True)
        self.receive = Context(keys.suite, keys.receive, mark(keys.receive), sending=False)
        self.previous: Context | None = None
        spent.add(self.send.mark)

    def _check_unspent(self, keys: SRTPKeys) -> None:
        if self._mark(keys.send) in self._spent:
            raise SRTPError("an SRTP key that the leg has sent with before cannot start anew")

    def renegotiate(self, keys: SRTPKeys) -> None:
        """Continues the context of each key that is still there, replaces the others."""
        send_mark, receive_mark = self._mark(keys.send), self._mark(keys.receive)
        if keys.suite is not self._suite and (
            send_mark == self.send.mark or receive_mark == self.receive.mark
        ):
            raise SRTPError("another crypto suite needs other SRTP keys")
        if send_mark != self.send.mark:
            self._check_unspent(keys)
            send = Context(keys.suite, keys.send, send_mark, sending=True)
        else:
            send = self.send
        if receive_mark != self.receive.mark:
            if self.previous is None or receive_mark != self.previous.mark or keys.suite is not self._suite:
                self.forget_previous()
                self.previous = Context(keys.suite, keys.receive, receive_mark, sending=False)
            self.receive, self.previous = self.previous, self.receive
        if send is not self.send:
            self.send.close()
            self.send = send
            self._spent.add(send_mark)
        self._suite = keys.suite

    def forget_previous(self) -> None:
        if self.previous is not None:
            self.previous.close()
            self.previous = None

    def close(self) -> None:
        self.send.close()
        self.receive.close()
        self.forget_previous()

    def open(self, call: Any, place: Any, length: int, source: int) -> int:
        """Opens one packet with the current key, or with that of before until the current one has been used."""
        previous = self.previous
        if previous is None:
            return self.receive.open(call, place, length, source)
        # A failed attempt with GCM leaves its mark on the packet.
        kept = bytes(ffi.buffer(place, length))
        opened = self.receive.open(call, place, length, source)
        if opened:
            self.forget_previous()
            return opened
        ffi.memmove(place, kept, length)
        return previous.open(call, place, length, source)


class SecureLegs:
    """The legs with SRTP keys, by row; false when there is none, which is all that others pay."""

    def __init__(self, capacity: int) -> None:
        self.secured: Bool = np.zeros(capacity, np.bool_)
        self.tag_bytes: Int32 = np.zeros(capacity, np.int32)
        """What protection adds to an RTP packet of each row; zero where there is none."""
        self.failed: Int64 = np.zeros(capacity, np.int64)
        """Packets that were dropped: in clear, forged, repeated, or too many."""
        self._pairs: dict[int, _Pair] = {}
        # Keys are recognised by a keyed hash, so that none of them stays here.
        self._hash_key = secrets.token_bytes(32)
        self._spent: dict[int, set[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def negotiate(self, row: int, keys: SRTPKeys | None) -> None:
        """The keys of a leg from now on, None for a leg in clear.

        Raises:
            SRTPError: they cannot be used; nothing has changed.
        """
        pair = self._pairs.get(row)
        if keys is None:
            self._end(row)
            return
        check_keys(keys)
        if pair is None:
            self._pairs[row] = _Pair(keys, self._spent.setdefault(row, set()), self._mark)
        else:
            pair.renegotiate(keys)
        self.secured[row] = True
        self.tag_bytes[row] = TAG_BYTES[keys.suite]

    def clear(self, row: int) -> None:
        """Overwrites the keys of a leg that is gone."""
        self._end(row)
        self._spent.pop(row, None)
        self.failed[row] = 0

    def _mark(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._hash_key, digest_size=16).digest()

    def _end(self, row: int) -> None:
        pair = self._pairs.pop(row, None)
        if pair is not None:
            pair.close()
        self.secured[row] = False
        self.tag_bytes[row] = 0

    # Receiving

    def open(
        self, rows: Index, packets: Index, columns: Columns, slots: UInt8, lengths: Int32
    ) -> tuple[Index, Index]:
        """Opens the RTP packets of secured legs where they lie.

        RTCP on the same port (RFC 5761 §4) is left as it came, and is no RTP to anybody by its type: who takes it
        asks `unprotect_rtcp`.

        Args:
            rows: leg of each packet.
            packets: index of each packet in the batch.
            columns: headers of the whole batch; those of opened packets are read anew.
            slots: the batch.
            lengths: bytes of each packet of the batch; those of opened packets become shorter.

        Returns:
            `rows` and `packets` without those that were dropped.
        """
        secured = self.secured[rows]
        secured &= _is_rtp(slots[packets, HEADER_OFFSET + 1])
        ours = np.flatnonzero(secured)
        if not ours.size:
            return rows, packets
        keep = np.ones(len(rows), np.bool_)
        looked_at = ours if len(ours) <= MOST_PER_LEG else ours[_rank(rows[ours]) < MOST_PER_LEG]
        keep[ours] = False
        # Every slot is as long as the longest packet and has its own memory: no call can leave it.
        base = ffi.cast("char *", slots.ctypes.data + HEADER_OFFSET)
        chosen = packets[looked_at]
        pairs, call = self._pairs, lib.srtp_unprotect
        for at, row, packet, length, source in zip(
            looked_at.tolist(),
            rows[looked_at].tolist(),
            chosen.tolist(),
            lengths[chosen].tolist(),
            columns.ssrc[chosen].tolist(),
            strict=True,
        ):
            if not HEADER_BYTES <= length <= PACKET_BYTES:
                continue
            opened = pairs[row].open(call, base + packet * SLOT_BYTES, length, source)
            if opened:
                lengths[packet] = opened
                keep[at] = True
        dropped = ours[~keep[ours]]
        if dropped.size:
            np.add.at(self.failed, rows[dropped], 1)
        good = packets[ours[keep[ours]]]
        if good.size:
            # Padding counts in clear only (RFC 3711 §3.1).
            again = parse(slots[good], lengths[good])
            columns.valid[good] = again.valid
            columns.offset[good] = again.offset
            columns.size[good] = again.size
        if not dropped.size:
            return rows, packets
        return rows[keep], packets[keep]

    def authentic(self, row: int, packet: int, slots: UInt8, lengths: Int32) -> bool:
        """Whether a packet from a source that is not a secured leg's yet was made by the leg's peer.

        The packet is used up by being asked about. For a leg in clear the answer is always true.
        """
        pair = self._pairs.get(row)
        if pair is None:
            return True
        length = int(lengths[packet])
        if HEADER_BYTES <= length <= PACKET_BYTES and _is_rtp(slots[packet, HEADER_OFFSET + 1]):
            place = ffi.cast("char *", slots.ctypes.data + packet * SLOT_BYTES + HEADER_OFFSET)
            source = int.from_bytes(slots[packet, HEADER_OFFSET + 8 : HEADER_OFFSET + 12].tobytes(), "big")
            if pair.open(lib.srtp_unprotect, place, length, source):
                return True
        self.failed[row] += 1
        return False

    def unprotect_rtcp(self, row: int, packet: bytes) -> bytes | None:
        """A compound RTCP packet that came for a leg, in clear; None: drop it (it is counted)."""
        pair = self._pairs.get(row)
        if pair is None:
            return packet
        if _RTCP_HEADER_BYTES <= len(packet) <= _LONGEST_RTCP:
            place = ffi.from_buffer(work := bytearray(packet))
            source = int.from_bytes(packet[4:8], "big")
            opened = pair.open(lib.srtp_unprotect_rtcp, place, len(packet), source)
            if opened:
                return bytes(work[:opened])
        self.failed[row] += 1
        return None

    # Sending

    def protect(self, packets: UInt8, rows: Index, length: int | Int32) -> list[int]:
        """Protects what secured legs send, where it lies.

        Args:
            packets: `(legs, bytes)`, each row with `LONGEST_TAG` bytes of room behind its packet.
            rows: secured legs that send in this tick.
            length: bytes of each packet in clear, one for all or one for each of `rows`.

        Returns:
            Rows whose packets must not be sent.
        """
        base = ffi.cast("char *", packets.ctypes.data)
        stride = packets.strides[0]
        lengths = np.broadcast_to(length, len(rows)).tolist()
        refused: list[int] = []
        for row, size in zip(rows.tolist(), lengths, strict=True):
            if not self._pairs[row].send.protect(base + row * stride, size):
                refused.append(row)
        return refused

    def seal(self, row: int, packet: bytes) -> bytes | None:
        """One RTP packet as it may be sent: as it is for a leg in clear; None: it must not be."""
        pair = self._pairs.get(row)
        if pair is None:
            return packet
        work = bytearray(packet) + bytes(LONGEST_TAG)
        length = pair.send.protect(ffi.from_buffer(work), len(packet))
        return bytes(work[:length]) if length else None

    def protect_rtcp(self, row: int, packet: bytes) -> bytes | None:
        """One compound RTCP packet as it may be sent; None: it must not be."""
        pair = self._pairs.get(row)
        if pair is None:
            return packet
        work = bytearray(packet) + bytes(_LONGEST_RTCP_TRAILER)
        length = pair.send.protect_rtcp(ffi.from_buffer(work), len(packet))
        return bytes(work[:length]) if length else None


def _rank(rows: Index) -> Index:
    """How many packets of the same leg stand before each one."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[first, len(rows)])
    rank = np.empty(len(rows), np.intp)
    rank[order] = np.arange(len(rows)) - np.repeat(first, counts)
    return rank


def _is_rtp(kinds: Any) -> Any:
    """Whether packets with these second bytes are no RTCP; for an array or for one."""
    return (kinds < _RTCP_TYPES.start) | (kinds >= _RTCP_TYPES.stop)
