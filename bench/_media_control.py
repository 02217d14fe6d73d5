"""The control side of a media worker, for benches."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final

from media.protocol import (
    Acknowledged,
    AnyCommand,
    AnyEvent,
    EventBatch,
    KeyPressed,
    LegFault,
    QueryStatistics,
    Refused,
    WorkerStatistics,
    decode_events,
    encode_commands,
)

_BATCH: Final = 200


class Control:
    """The control side of the worker."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(20)
        self.events: list[AnyEvent] = []
        self._seq = 0

    def accept(self) -> None:
        """Waits for the worker."""
        self._socket, _ = self._listener.accept()
        self._socket.recv(1 << 18)

    def read(self, seconds: float) -> None:
        """Collects events for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet = self._socket.recv(1 << 18)
            except TimeoutError:
                return
            if not packet:
                return
            message = decode_events(packet)
            if isinstance(message, EventBatch):
                self.events += message.events

    def command(self, commands: list[AnyCommand]) -> None:
        """Sends commands and waits until all are acknowledged."""
        for start in range(0, len(commands), _BATCH):
            batch = commands[start : start + _BATCH]
            self._socket.send(encode_commands(batch))
            wanted = {command.seq for command in batch}
            end = time.monotonic() + 10
            while wanted and time.monotonic() < end:
                self.read(0.02)
                wanted -= {event.seq for event in self.events if isinstance(event, Acknowledged)}
            refused = [event for event in self.events if isinstance(event, Refused)]
            if wanted or refused:
                raise RuntimeError(f"{len(wanted)} commands not done, {refused[:1]}")
            self.events = [event for event in self.events if not isinstance(event, Acknowledged)]

    def seq(self) -> int:
        """A fresh number."""
        self._seq += 1
        return self._seq

    def statistics(self) -> WorkerStatistics:
        """The worker's counters now."""
        self.command([QueryStatistics(seq=self.seq(), leg=0)])
        found = [event for event in self.events if isinstance(event, WorkerStatistics)]
        self.events = [event for event in self.events if isinstance(event, KeyPressed | LegFault)]
        return found[-1]

    def close(self) -> None:
        """Ends it; the worker goes too."""
        self._socket.close()
        self._listener.close()
