"""`sipivr`'s end of the pipe to the media workers.

`MediaLink` listens on the seqpacket socket, takes workers in by their Hello (`MediaWorker`), asks each of them
once a second how it is, and says which one the next call goes to. When a worker is gone the supervisor starts
another on the same sockets; the calls whose legs were lost move in when it arrives, and this module keeps the
count and the time of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from media.protocol import MAX_MESSAGE_BYTES, PROTOCOL_VERSION, Hello, decode_events
from sipivr.calls.media_worker import LegEvents, MediaRefused, MediaWorker
from sipivr.hardening import peer_is_trusted

__all__ = ["LegEvents", "LossFigures", "MediaLink", "MediaRefused", "MediaWorker"]

log = logging.getLogger(__name__)

ASK_EVERY_S: Final = 1.0


@dataclass(slots=True)
class LossFigures:
    """What the loss of workers did to calls, since this process started.

    `restore_ms` runs from the moment when we noticed that a worker was gone until its successor had
    acknowledged everything of a call; the last one and the longest one.
    """

    workers_lost: int = 0
    workers_hung: int = 0
    workers_back: int = 0
    legs_lost: int = 0
    calls_restored: int = 0
    calls_not_restored: int = 0
    restore_ms: int = 0
    restore_ms_max: int = 0


class MediaLink:
    """The listening socket and the workers behind it.

    Args:
        path: of the socket; an old file there is replaced.
        sharing: whether legs may share RTP ports.
    """

    def __init__(self, path: Path, *, sharing: bool) -> None:
        self._path = path
        self._sharing = sharing
        self._listener: socket.socket | None = None
        self._greeting: set[socket.socket] = set()
        self._workers: list[MediaWorker] = []
        self._next_leg = 0
        self._arrivals: list[Callable[[MediaWorker], None]] = []
        self._lost_at: dict[int, float] = {}
        self._asking: asyncio.TimerHandle | None = None
        self.figures = LossFigures()

    def start(self) -> None:
        """Listens; workers are taken in from now on."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        previous = os.umask(0o117)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(previous)
        listener.listen(64)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)
        self._ask()

    def stop(self) -> None:
        """Closes every worker's connection; they silence and drop their legs."""
        loop = asyncio.get_running_loop()
        if self._asking is not None:
            self._asking.cancel()
        if self._listener is not None:
            loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._path.unlink(missing_ok=True)
        for greeting in self._greeting:
            loop.remove_reader(greeting.fileno())
            greeting.close()
        for worker in list(self._workers):
            worker.close()

    def on_arrival(self, told: Callable[[MediaWorker], None]) -> None:
        """`told` hears of each worker that connects, once it can be used."""
        self._arrivals.append(told)

    @property
    def workers(self) -> tuple[MediaWorker, ...]:
        """Those connected now."""
        return tuple(self._workers)

    def next_leg(self) -> int:
        """A leg number that was never used before."""
        self._next_leg += 1
        return self._next_leg

    def least_loaded(self) -> MediaWorker:
        """The worker for the next call: the one whose tick will cost least with it.

        Raises:
            MediaRefused: no worker is connected, or all are overloaded.
        """
        if not self._workers:
            raise MediaRefused("no media worker is connected")
        able = [worker for worker in self._workers if not worker.load.overloaded]
        if not able:
            raise MediaRefused("every media worker is overloaded")
        return min(able, key=lambda worker: (worker.expected_us, worker.ports.legs))

    @property
    def overloaded(self) -> int:
        """Workers that take no new call."""
        return sum(worker.load.overloaded for worker in self._workers)

    def restored(self, worker: MediaWorker, *, whole: bool) -> None:
        """A call of a lost worker is up again on its successor, or (not `whole`) could not be brought up."""
        if not whole:
            self.figures.calls_not_restored += 1
            return
        self.figures.calls_restored += 1
        lost_at = self._lost_at.get(worker.index)
        if lost_at is not None:
            took = round((asyncio.get_running_loop().time() - lost_at) * 1000)
            self.figures.restore_ms = took
            self.figures.restore_ms_max = max(self.figures.restore_ms_max, took)

    def _ask(self) -> None:
        for worker in list(self._workers):
            worker.ask()
        self._asking = asyncio.get_running_loop().call_later(ASK_EVERY_S, self._ask)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            log.warning("a media worker could not connect: %s", error)
            return
        connection.setblocking(False)
        if not peer_is_trusted(connection, self._path):
            log.error("refused a media connection of a foreign user")
            connection.close()
            return
        self._greeting.add(connection)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._greet, connection)

    def _greet(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(connection.fileno())
        self._greeting.discard(connection)
        try:
            hello = decode_events(connection.recv(MAX_MESSAGE_BYTES))
        except (OSError, msgspec.DecodeError):
            connection.close()
            return
        if not isinstance(hello, Hello) or hello.version != PROTOCOL_VERSION:
            log.error("a media worker speaks another protocol version; restart the whole switch")
            connection.close()
            return
        for former in [worker for worker in self._workers if worker.index == hello.worker]:
            former.close()  # dead, and its last packets not yet read: its legs must be lost before they move
        worker = MediaWorker(connection, hello, sharing=self._sharing, lost=self._gone)
        self._workers.append(worker)
        loop.add_reader(connection.fileno(), worker.readable)
        log.info("media worker %d (process %d) with %d ports", worker.index, worker.pid, len(hello.sockets))
        self.figures.workers_back += worker.index in self._lost_at
        for told in self._arrivals:
            told(worker)

    def _gone(self, worker: MediaWorker) -> None:
        log.warning("media worker %d (process %d) is gone", worker.index, worker.pid)
        self._workers.remove(worker)
        self._lost_at[worker.index] = asyncio.get_running_loop().time()
        self.figures.workers_lost += 1
        self.figures.workers_hung += worker.hung
        self.figures.legs_lost += worker.legs_owned
