"""What each leg sends: one packet array for all legs, its headers moved on in columns.

Every sending leg has a row with a whole packet: header and 160 codes. Rows go out in one `sendmmsg` for each
socket. The packets of keys (telephone-event) are few and go out by themselves; while one replaces a leg's
audio, its row stays behind.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int16, Int64, UInt8, UInt16, UInt32, grown
from media.dsp import g711
from media.protocol import FRAME_SAMPLES, Remote
from media.rtp.packet import HEADER_BYTES, header
from media.rtp.sockets import open_sender
from media.rtp.srtp import LONGEST_TAG, SecureLegs
from media.rtp.telephone_event import EventSender

_PACKET: Final = HEADER_BYTES + FRAME_SAMPLES
#: A packet, its SRTP tag, and the rest of the last line of the cache.
_STRIDE: Final = 192
assert _STRIDE >= _PACKET + LONGEST_TAG


class Sending(NamedTuple):
    """What is counted of the stream that a leg sends, for RTCP (RFC 3550 §6.4.1)."""

    ssrc: int
    timestamp: int
    """Of the last frame, whether or not it was sent."""
    packets: int
    octets: int


class Transmitter:
    """Sending side of all legs."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        capacity: int,
        rng: np.random.Generator,
        *,
        portable: bool = False,
        secure: SecureLegs | None = None,
    ) -> None:
        self._sockets = list(sockets)
        self._rng = rng
        self._secure = secure if secure is not None else SecureLegs(capacity)
        self._packets: UInt8 = np.zeros((capacity, _STRIDE), np.uint8)
        self._codes: UInt8 = np.zeros((capacity, FRAME_SAMPLES), np.uint8)
        self._sequence: UInt16 = np.zeros(capacity, np.uint16)
        self._timestamp: UInt32 = np.zeros(capacity, np.uint32)
        self._ssrc: UInt32 = np.zeros(capacity, np.uint32)
        self._event_type: Int16 = np.full(capacity, -1, np.int16)
        self._socket: Int16 = np.full(capacity, -1, np.int16)
        self._sending: Bool = np.zeros(capacity, np.bool_)
        self.sent: Int64 = np.zeros(capacity, np.int64)
        self._short: Int64 = np.zeros(capacity, np.int64)
        """Octets of payload that event packets had less than frames."""
        self.failed = 0
        self._remotes: dict[int, Remote] = {}
        self._senders: dict[int, EventSender] = {}
        self._paused: frozenset[int] = frozenset()
        self._orders: list[tuple[int, Index]] | None = []
        self._all: Index = np.zeros(0, np.intp)
        self._sender = open_sender(sockets, self._packets, _PACKET, portable=portable)

    def grow(self, capacity: int) -> None:
        """Makes room for more legs."""
        self._packets = grown(self._packets, capacity)
        self._codes = grown(self._codes, capacity)
        self._sequence = grown(self._sequence, capacity)
        self._timestamp = grown(self._timestamp, capacity)
        self._ssrc = grown(self._ssrc, capacity)
        self._event_type = grown(self._event_type, capacity, -1)
        self._socket = grown(self._socket, capacity, -1)
        self._sending = grown(self._sending, capacity)
        self.sent = grown(self.sent, capacity)
        self._short = grown(self._short, capacity)
        self._sender.grow(self._packets)
        self._orders = None

    def add(self, row: int, index: int) -> None:
        """A leg on a socket: fresh SSRC, sequence and timestamp (RFC 3550 §5.1 wants them unpredictable)."""
        self._socket[row] = index
        self._sequence[row] = self._rng.integers(0, 1 << 16)
        self._timestamp[row] = self._rng.integers(0, 1 << 32)
        self._ssrc[row] = self._rng.integers(0, 1 << 32)
        self._packets[row, 0] = 0x80
        self._packets.view(">u4")[row, 2] = self._ssrc[row]

    def move(self, row: int, index: int) -> None:
        """The leg sends from another socket, its stream goes on."""
        self._socket[row] = index
        self._orders = None

    def negotiate(
        self, row: int, remote: Remote | None, payload_type: int, event_type: int | None, *, sending: bool
    ) -> None:
        """Where a leg sends to and what."""
        self._packets[row, 1] = payload_type
        self._event_type[row] = -1 if event_type is None else event_type
        self._sending[row] = sending and remote is not None
        if remote is None:
            self._remotes.pop(row, None)
        else:
            self._remotes[row] = remote
        self._sender.set_destination(row, remote)
        self._sender.set_length(row, _PACKET + int(self._secure.tag_bytes[row]))
        self._orders = None

    def redirect(self, row: int, remote: Remote) -> None:
        """A leg's peer turned out to be elsewhere (symmetric RTP)."""
        self._remotes[row] = remote
        self._sender.set_destination(row, remote)
        self._orders = None

    def destination(self, row: int) -> Remote | None:
        """Where a leg sends to now."""
        return self._remotes.get(row)

    def sender(self, row: int) -> Sending:
        """What RTCP says of a leg's stream."""
        packets = int(self.sent[row])
        octets = packets * FRAME_SAMPLES - int(self._short[row])
        return Sending(int(self._ssrc[row]), int(self._timestamp[row]), packets, octets)

    def clear(self, row: int) -> None:
        """Forgets a leg and overwrites its audio."""
        self._packets[row] = 0
        self._codes[row] = 0
        self._socket[row] = -1
        self._event_type[row] = -1
        self._sending[row] = False
        self.sent[row] = self._short[row] = 0
        self._remotes.pop(row, None)
        self._senders.pop(row, None)
        self._sender.set_destination(row, None)
        self._orders = None

    def send_key(self, row: int, key: int, duration_ms: int) -> bool:
        """Queues a key; false when the leg cannot send telephone-event."""
        if self._event_type[row] < 0 or not self._sending[row]:
            return False
        self._senders.setdefault(row, EventSender()).add(key, duration_ms)
        return True

    def _arrange(self) -> list[tuple[int, Index]]:
        sending = self._sending.copy()
        sending[list(self._paused)] = False
        orders: list[tuple[int, Index]] = []
        for index in range(len(self._sockets)):
            rows = np.flatnonzero(sending & (self._socket == index))
            if rows.size:
                orders.append((index, rows))
        self._all = np.flatnonzero(sending)
        return orders

    def send(self, out: Int16, alaw_rows: Index) -> int:
        """Encodes and sends one frame of every sending leg.

        Args:
            out: `(legs, samples)` audio; rows beyond the sending legs are ignored.
            alaw_rows: legs with A-law.

        Returns:
            Packets sent.
        """
        legs = len(out)
        codes = self._codes[:legs]
        g711.encode(out, alaw_rows, codes)
        self._packets[:legs, HEADER_BYTES:_PACKET] = codes
        paused = self._send_keys() if self._senders else frozenset()
        if paused != self._paused:
            self._paused = paused
            self._orders = None
        if self._orders is None:
            self._orders = self._arrange()
        every = self._all
        self._sequence[every] += np.uint16(1)
        self._timestamp += np.uint32(FRAME_SAMPLES)
        self._packets.view(np.uint16)[:, 1] = self._sequence.byteswap()
        self._packets.view(np.uint32)[:, 1] = self._timestamp.byteswap()
        self.sent[every] += 1
        if self._secure:
            self._protect(every)
        total = 0
        for index, rows in self._orders:
            total += self._sender.send(index, rows)
        self.failed += len(every) - total
        return total

    def _protect(self, rows: Index) -> None:
        """Protects this tick's packets; a leg whose key has served its time falls silent, never into clear."""
        refused = self._secure.protect(self._packets, rows[self._secure.secured[rows]], _PACKET)
        if refused:
            self._sending[refused] = False
            self.sent[refused] -= 1
            self._orders = self._arrange()

    def _send_keys(self) -> frozenset[int]:
        """This tick's event packets; says whose audio they replace."""
        paused: set[int] = set()
        for row, sender in list(self._senders.items()):
            event_type = int(self._event_type[row])
            remote = self._remotes.get(row)
            if event_type < 0 or remote is None or not self._sending[row]:
                del self._senders[row]
                continue
            replaces = sender.replaces_audio
            packet = sender.packet((int(self._timestamp[row]) + FRAME_SAMPLES) & 0xFFFFFFFF)
            if packet is not None:
                self._sequence[row] += np.uint16(1)
                head = header(
                    event_type,
                    int(self._sequence[row]),
                    packet.timestamp,
                    int(self._ssrc[row]),
                    marker=packet.marker,
                )
                self._send_one(row, head + packet.payload, remote)
            if replaces:
                paused.add(row)
            if not sender:
                del self._senders[row]
        return frozenset(paused)

    def _send_one(self, row: int, packet: bytes, remote: Remote) -> None:
        sealed = self._secure.seal(row, packet)
        if sealed is None:
            self.failed += 1
            return
        try:
            self._sockets[self._socket[row]].sendto(
                sealed, socket.MSG_DONTWAIT, (remote.address, remote.port)
            )
        except OSError:
            self.failed += 1
        else:
            self.sent[row] += 1
            self._short[row] += _PACKET - len(packet)
