"""The worker's end of the seqpacket socket: commands in, one message of events out for each tick.

Nothing here blocks. When the other side does not read, statistics go first, and everything else waits in
order; a key or an acknowledgement is never dropped while there is room. When there is none, `send` says so
and the caller silences the legs.
"""

from __future__ import annotations

import collections
import socket
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from media.protocol import (
    MAX_MESSAGE_BYTES,
    AnyCommand,
    AnyEvent,
    EventBatch,
    Hello,
    LegStatistics,
    WorkerStatistics,
    decode_commands,
    encode_events,
)

_MOST_WAITING: Final = 512
_RECEIVE_BYTES: Final = 262_144


class ClosedError(Exception):
    """The other side is gone."""


class MalformedError(Exception):
    """A message that is no command batch: the two sides are not of one version."""


def connect(path: str, timeout_s: float = 5.0) -> socket.socket:
    """Connects to the socket on which `sipivr` listens, waiting for it to appear.

    Raises:
        OSError: it did not within `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
            continue
        sock.setblocking(False)
        return sock


class ControlChannel:
    """Messages to and from `sipivr`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._waiting: collections.deque[bytes] = collections.deque()
        self._commands: collections.deque[AnyCommand] = collections.deque()
        """Of a message that has been read, those that were not handed out yet."""
        self.dropped = 0

    def hello(self, message: Hello) -> None:
        """The first message."""
        self._waiting.append(encode_events(message))
        self._flush()

    def commands(self, end_s: float) -> Iterator[AnyCommand]:
        """The commands that have come, in order, one at a time.

        The first is handed out whatever the time; nothing is read from the socket while a message is not finished,
        so that the sender is held up and not we.

        Args:
            end_s: on the clock of `time.monotonic`; what is there then waits for the next call.

        Raises:
            ClosedError: the socket is closed.
            MalformedError: a message is no command batch.
        """
        waiting = self._commands
        while True:
            while waiting:
                yield waiting.popleft()
                if time.monotonic() >= end_s:
                    return
            try:
                packet = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except InterruptedError:
                continue
            except OSError as error:
                raise ClosedError from error
            if not packet:
                raise ClosedError
            try:
                waiting.extend(decode_commands(packet))
            except msgspec.DecodeError as error:
                raise MalformedError from error

    def send(self, tick: int, events: list[AnyEvent]) -> bool:
        """Sends what happened in a tick, after what still waits.

        Returns:
            False when something that must not be lost has been.

        Raises:
            ClosedError: the socket is closed.
        """
        if self._waiting:
            self._flush()
        if not events:
            return True
        if self._waiting:
            events = self._without_statistics(events)
        kept = True
        for part, packet in _pack(tick, events):
            if self._waiting or not self._try(packet):
                kept &= self._queue(tick, self._without_statistics(part))
        return kept

    def _queue(self, tick: int, events: list[AnyEvent]) -> bool:
        kept = True
        if events:
            self._waiting.append(encode_events(EventBatch(tick, events)))
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
            kept = False
        return kept

    def _without_statistics(self, events: list[AnyEvent]) -> list[AnyEvent]:
        kept: list[AnyEvent] = [
            event for event in events if not isinstance(event, LegStatistics | WorkerStatistics)
        ]
        self.dropped += len(events) - len(kept)
        return kept

    def _flush(self) -> None:
        while self._waiting and self._try(self._waiting[0]):
            self._waiting.popleft()

    def _try(self, packet: bytes) -> bool:
        try:
            self._socket.send(packet)
        except BlockingIOError:
            return False
        except InterruptedError:
            return False
        except OSError as error:
            raise ClosedError from error
        return True


def _pack(tick: int, events: list[AnyEvent]) -> list[tuple[list[AnyEvent], bytes]]:
    """The events as one packet, or as many as the size limit asks for."""
    packet = encode_events(EventBatch(tick, events))
    if len(packet) <= MAX_MESSAGE_BYTES or len(events) <= 1:
        return [(events, packet)]
    middle = len(events) // 2
    return _pack(tick, events[:middle]) + _pack(tick, events[middle:])
