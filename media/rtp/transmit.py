"""What each leg sends: one packet array for all legs, its headers moved on in columns.

Every sending leg has a row with a whole packet: header and 160 codes. Rows go out in one `sendmmsg` for each
socket. Legs whose packets are not a tick long are filled by `media.rtp.pacing` and go out behind the others. The
packets of keys (telephone-event) are few and go out by themselves, first; while one replaces a leg's audio, its
row stays behind.

The marker bit of audio is never set: nobody's silence is suppressed here (RFC 3551 §4.1).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int16, Int32, Int64, UInt8, UInt16, UInt32
from media.dsp import g711
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ, TICK_MS, Codec, Remote
from media.rtp.pacing import LONGEST_SAMPLES, Pacing
from media.rtp.packet import HEADER_BYTES, header
from media.rtp.sockets import open_sender
from media.rtp.srtp import LONGEST_TAG, SecureLegs
from media.rtp.telephone_event import EventSender

#: Header, 60 ms and an SRTP tag; no power of two, which would crowd rows into few sets of a cache.
_STRIDE: Final = 528
_PACKET: Final = HEADER_BYTES + FRAME_SAMPLES
_LONGEST: Final = HEADER_BYTES + LONGEST_SAMPLES
assert _STRIDE >= _LONGEST + LONGEST_TAG


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
        self._paused: Bool = np.zeros(capacity, np.bool_)
        """Audio is replaced by an event in this tick."""
        self._paced: Bool = np.zeros(capacity, np.bool_)
        self._clear_bytes: Int32 = np.full(capacity, _PACKET, np.int32)
        """How long a row's packets are before they are protected."""
        self._step: UInt16 = np.zeros(capacity, np.uint16)
        """1 for the rows that `_orders` sends."""
        self.sent: Int64 = np.zeros(capacity, np.int64)
        self._short: Int64 = np.zeros(capacity, np.int64)
        """Octets of payload that packets of events, or of another length, had less than frames."""
        self.failed = 0
        self._tick = 0
        self._remotes: dict[int, Remote] = {}
        self._senders: dict[int, EventSender] = {}
        self._orders: dict[int, Index] = {}
        self._changed: set[int] = set()
        self._pacing = Pacing(capacity)
        self._sender = open_sender(sockets, self._packets, _PACKET, portable=portable)

    def add(self, row: int, index: int) -> None:
        """A leg on a socket: fresh SSRC, sequence and timestamp (RFC 3550 §5.1 wants them unpredictable)."""
        self._socket[row] = index
        fresh = self._rng.bytes(10)
        self._sequence[row] = int.from_bytes(fresh[:2])
        self._timestamp[row] = int.from_bytes(fresh[2:6])
        self._ssrc[row] = int.from_bytes(fresh[6:])
        self._packets[row, 0] = 0x80
        self._packets.view(">u4")[row, 2] = self._ssrc[row]

    def move(self, row: int, index: int) -> None:
        """The leg sends from another socket, its stream goes on."""
        self._note_change(row)
        self._socket[row] = index
        self._note_change(row)

    def negotiate(
        self,
        row: int,
        remote: Remote | None,
        payload_type: int,
        event_type: int | None,
        *,
        sending: bool,
        ptime_ms: int = TICK_MS,
    ) -> None:
        """Where a leg sends to and what."""
        self._repace(row, payload_type, ptime_ms * SAMPLE_RATE_HZ // 1000)
        self._packets[row, 1] = payload_type
        self._event_type[row] = -1 if event_type is None else event_type
        self._sending[row] = sending and remote is not None
        if remote is None:
            self._remotes.pop(row, None)
        else:
            self._remotes[row] = remote
        self._sender.set_destination(row, remote)
        self._sender.set_length(row, int(self._clear_bytes[row] + self._secure.tag_bytes[row]))
        self._note_change(row)

    def _repace(self, row: int, payload_type: int, samples: int) -> None:
        """What is held of a leg's audio is given up when its law or the length of its packets changes."""
        if samples == self._pacing.samples(row) and payload_type == self._packets[row, 1]:
            return
        if samples == FRAME_SAMPLES:
            self._pacing.remove(row)
        else:
            self._pacing.add(row, samples, g711.SILENCE_CODES[payload_type == Codec.PCMA])
        self._paced[row] = samples != FRAME_SAMPLES
        self._clear_bytes[row] = HEADER_BYTES + samples

    def redirect(self, row: int, remote: Remote) -> None:
        """A leg's peer turned out to be elsewhere (symmetric RTP)."""
        self._remotes[row] = remote
        self._sender.set_destination(row, remote)
        self._note_change(row)

    def destination(self, row: int) -> Remote | None:
        """Where a leg sends to now."""
        return self._remotes.get(row)

    def sender(self, row: int) -> Sending:
        """What RTCP says of a leg's stream."""
        packets = int(self.sent[row])
        octets = packets * FRAME_SAMPLES - int(self._short[row])
        return Sending(int(self._ssrc[row]), int(self._timestamp[row]), packets, octets)

    def sockets_in_use(self) -> set[int]:
        """Sockets that have legs."""
        return set(self._socket[self._socket >= 0].tolist())

    def clear(self, row: int) -> None:
        """Forgets a leg and overwrites its audio."""
        self._note_change(row)
        self._pacing.remove(row)
        self._packets[row] = 0
        self._codes[row] = 0
        self._socket[row] = -1
        self._event_type[row] = -1
        self._sending[row] = self._paused[row] = self._paced[row] = False
        self.sent[row] = self._short[row] = 0
        self._remotes.pop(row, None)
        self._senders.pop(row, None)
        self._sender.set_destination(row, None)
        self._sender.set_length(row, _PACKET)
        self._clear_bytes[row] = _PACKET

    def send_key(self, row: int, key: int, duration_ms: int) -> bool:
        """Queues a key; false when the leg cannot send telephone-event."""
        if self._event_type[row] < 0 or not self._sending[row]:
            return False
        self._senders.setdefault(row, EventSender()).add(key, duration_ms)
        return True

    def _note_change(self, row: int) -> None:
        self._changed.add(int(self._socket[row]))

    def _arrange(self) -> None:
        """Says anew which rows go out together, for the sockets with a change."""
        usual = self._sending & ~(self._paused | self._paced)
        for index in self._changed:
            if (before := self._orders.pop(index, None)) is not None:
                self._step[before] = 0
        for index in self._changed:
            rows = np.flatnonzero(usual & (self._socket == index))
            if rows.size:
                self._orders[index] = rows
                self._step[rows] = 1
        self._changed.clear()

    def send(self, out: Int16, alaw_rows: Index) -> int:
        """Encodes and sends one tick of every sending leg.

        Args:
            out: `(legs, samples)` audio of all rows in use.
            alaw_rows: legs with A-law.

        Returns:
            Packets of audio sent.
        """
        legs = len(out)
        codes, packets = self._codes[:legs], self._packets[:legs]
        g711.encode(out, alaw_rows, codes)
        self._timestamp[:legs] += np.uint32(FRAME_SAMPLES)
        if self._senders:
            self._send_keys()
        if self._changed:
            self._arrange()
        packets[:, HEADER_BYTES:_PACKET] = codes
        step, sequence = self._step[:legs], self._sequence[:legs]
        sequence += step
        self.sent[:legs] += step
        packets.view(np.uint16)[:, 1] = sequence.byteswap()
        packets.view(np.uint32)[:, 1] = self._timestamp[:legs].byteswap()
        if self._secure and self._protect(np.flatnonzero(step)):
            self._arrange()
        due = total = 0
        for index, rows in self._orders.items():
            due += len(rows)
            total += self._sender.send(index, rows)
        self.failed += due - total
        if self._pacing:
            total += self._send_paced(codes)
        self._tick += 1
        return total

    def _protect(self, rows: Index) -> list[int]:
        """Protects the packets of secured rows; a leg whose key has served its time falls silent, never into clear.

        Returns:
            The rows that are not to be sent.
        """
        secured = rows[self._secure.secured[rows]]
        refused = self._secure.protect(self._packets, secured, self._clear_bytes[secured])
        for row in refused:
            self._sending[row] = False
            self.sent[row] -= 1
            self._note_change(row)
        return refused

    def _send_paced(self, codes: UInt8) -> int:
        """The packets that are not a tick long, as far as they are full."""
        payloads = self._packets[:, HEADER_BYTES:_LONGEST]
        heads, stamps = self._packets.view(np.uint16), self._packets.view(np.uint32)
        total = 0
        for full in self._pacing.fill(self._tick, codes, self._paused, payloads):
            sending = self._sending[full.rows]
            rows, ahead = full.rows[sending], full.ahead[sending]
            self._sequence[rows] += np.uint16(1)
            self.sent[rows] += 1
            self._short[rows] += _PACKET - self._clear_bytes[rows]
            heads[rows, 1] = self._sequence[rows].byteswap()
            stamps[rows, 1] = (self._timestamp[rows] + ahead.view(np.uint32)).byteswap()
            if self._secure and self._protect(rows):
                rows = rows[self._sending[rows]]
            sockets = self._socket[rows]
            sent = sum(
                self._sender.send(index, rows[sockets == index]) for index in np.unique(sockets).tolist()
            )
            self.failed += len(rows) - sent
            total += sent
        return total

    def _send_keys(self) -> None:
        """This tick's event packets; notes whose audio they replace."""
        for row, sender in list(self._senders.items()):
            event_type = int(self._event_type[row])
            remote = self._remotes.get(row)
            replaces = False
            if event_type < 0 or remote is None or not self._sending[row]:
                sender.clear()
            elif not sender.begins or self._pacing.is_boundary(row, self._tick):
                replaces = sender.replaces_audio
                packet = sender.packet(int(self._timestamp[row]))
                if packet is not None:
                    # An addition of numpy's would warn where the number goes round.
                    self._sequence[row] = (int(self._sequence[row]) + 1) & 0xFFFF
                    head = header(
                        event_type,
                        int(self._sequence[row]),
                        packet.timestamp,
                        int(self._ssrc[row]),
                        marker=packet.marker,
                    )
                    self._send_one(row, head + packet.payload, remote)
            if replaces != self._paused[row]:
                self._paused[row] = replaces
                self._note_change(row)
            if not sender and not replaces:
                del self._senders[row]

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
