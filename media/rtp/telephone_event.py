"""Keys as telephone-event packets, both ways (RFC 4733).

Receiving: an event is (SSRC, timestamp, code). The first packet of it that arrives, whichever that is, is the
press; every other one says nothing new. What senders get wrong is forgiven as long as one press stays one:

- start lost, ends lost or repeated, packets twice or out of order, marker absent: the identity decides;
- ends repeated with another timestamp, a timestamp that moves on with every packet, and events longer than
  65,535 units, which RFC 4733 §2.5.1.3 continues under a new timestamp: the same code, unmarked, that begins
  no later than 20 ms after the event so far, is the event so far;
- a new payload type (re-INVITE) changes nothing here.

Sending: `EventSender` makes the packets of one leg's keys, one each tick.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int16, Int64, UInt8, UInt16, UInt32
from media.protocol import FRAME_SAMPLES

EVENT_BYTES: Final = 4
LARGEST_KEY: Final = 15
#: Volume of the keys that we send, -dBm0 (RFC 4733 §2.3.4).
_VOLUME: Final = 10
_END_PACKETS: Final = 3
_PAUSE_TICKS: Final = 3
_SLACK: Final = 160
_LONG_EVENT: Final = 60_000
_LONG_SLACK: Final = 4_800
_STALE: Final = 5 * 8_000
_REMEMBERED: Final = 8


class EventPress(NamedTuple):
    """A press that has just begun to be known."""

    row: int
    key: int
    timestamp: int
    ssrc: int


@dataclasses.dataclass(slots=True)
class _Seen:
    ssrc: int
    timestamp: int
    event: int
    duration: int


class EventReceiver:
    """What has been seen of each leg's events."""

    def __init__(self, capacity: int) -> None:
        self._ssrc: Int64 = np.full(capacity, -1, np.int64)
        self._timestamp: UInt32 = np.zeros(capacity, np.uint32)
        self._event: Int16 = np.full(capacity, -1, np.int16)
        self._seen: dict[int, collections.deque[_Seen]] = {}

    def clear(self, row: int) -> None:
        """Forgets a leg."""
        self._ssrc[row] = -1
        self._timestamp[row] = 0
        self._event[row] = -1
        self._seen.pop(row, None)

    def receive(
        self, rows: Index, ssrc: UInt32, timestamp: UInt32, marker: Bool, payload: UInt8
    ) -> list[EventPress]:
        """The presses that a batch of event packets begins.

        Args:
            rows: leg of each packet.
            ssrc: as in the headers.
            timestamp: as in the headers.
            marker: as in the headers.
            payload: `(packets, 4)`, the first event of each packet.
        """
        event = payload[:, 0].astype(np.int16)
        duration: UInt16 = payload[:, 2].astype(np.uint16) << np.uint16(8) | payload[:, 3]
        presses: list[EventPress] = []
        for at in np.flatnonzero(event <= LARGEST_KEY).tolist():
            row = int(rows[at])
            packet = _Seen(int(ssrc[at]), int(timestamp[at]), int(event[at]), int(duration[at]))
            # The usual packet says again what the one before it said.
            if (
                self._event[row] == packet.event
                and self._timestamp[row] == packet.timestamp
                and self._ssrc[row] == packet.ssrc
            ):
                newest = self._seen[row][-1]
                newest.duration = max(newest.duration, packet.duration)
                continue
            if self._is_new(row, packet, marked=bool(marker[at])):
                presses.append(EventPress(row, packet.event, packet.timestamp, packet.ssrc))
        return presses

    def _is_new(self, row: int, packet: _Seen, *, marked: bool) -> bool:
        seen = self._seen.setdefault(row, collections.deque(maxlen=_REMEMBERED))
        for known in seen:
            if known.ssrc != packet.ssrc:
                continue
            later = (packet.timestamp - known.timestamp + 0x80000000) % 0x100000000 - 0x80000000
            if later < -_STALE:
                return False
            if known.event != packet.event:
                continue
            if later == 0:
                known.duration = max(known.duration, packet.duration)
                return False
            reach = known.duration if later > 0 else packet.duration
            slack = _LONG_SLACK if reach > _LONG_EVENT else _SLACK
            if not marked and abs(later) <= reach + slack:
                self._remember(row, seen, packet)
                return False
        self._remember(row, seen, packet)
        return True

    def _remember(self, row: int, seen: collections.deque[_Seen], packet: _Seen) -> None:
        seen.append(packet)
        self._ssrc[row] = packet.ssrc
        self._timestamp[row] = packet.timestamp
        self._event[row] = packet.event


@dataclasses.dataclass(slots=True, repr=False)
class _Sending:
    key: int
    samples: int
    started: int | None = None
    duration: int = 0
    ends: int = 0
    pause: int = 0


class EventPacket(NamedTuple):
    """What one tick sends of a key."""

    marker: bool
    timestamp: int
    payload: bytes


class EventSender:
    """The keys that one leg has to send, in order.

    From the first packet to the first of the three ends (RFC 4733 §2.5.1.4) the leg's audio pauses; the two
    repeated ends go beside audio again, and the next key waits for 60 ms of pause.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[_Sending] = collections.deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: int, duration_ms: int) -> None:
        """Queues a key."""
        self._waiting.append(_Sending(key, max(duration_ms, 20) * 8))

    def clear(self) -> None:
        """Forgets what was not sent."""
        self._waiting.clear()

    @property
    def begins(self) -> bool:
        """Whether the coming packet is the first of a key."""
        return bool(self._waiting) and self._waiting[0].started is None

    @property
    def replaces_audio(self) -> bool:
        """Whether the coming tick's event packet takes the place of audio."""
        return bool(self._waiting) and self._waiting[0].ends == 0

    def packet(self, timestamp: int) -> EventPacket | None:
        """The packet of this tick, if any.

        Args:
            timestamp: of the audio that this tick sends or would send.
        """
        if not self._waiting:
            return None
        now = self._waiting[0]
        first = now.started is None
        if now.started is None:
            now.started = timestamp
        if now.ends == _END_PACKETS:
            now.pause += 1
            if now.pause >= _PAUSE_TICKS - 1:
                self._waiting.popleft()
            return None
        now.duration = min(now.duration + FRAME_SAMPLES, now.samples, 0xFFFF)
        end = now.duration >= min(now.samples, 0xFFFF)
        now.ends += end
        payload = bytes((now.key, (0x80 if end else 0) | _VOLUME)) + now.duration.to_bytes(2, "big")
        return EventPacket(first, now.started & 0xFFFFFFFF, payload)
