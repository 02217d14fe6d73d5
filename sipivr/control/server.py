"""The switch's end of the control socket, in `sipivr`'s event loop.

A connection: ACCEPTED ──peer is `api`──► SERVING ──Subscribe──► SERVING and pushing ──► CLOSED

What a peer can cost us is bounded: connections, requests under way, bytes of a frame, frames waiting to be
sent. Whoever sends what is no message, or does not read what it has subscribed to, loses its connection and
nothing else happens; `api` connects again and reads what it missed from `switch.db`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sipivr.control import frames
from sipivr.control.commands import Result
from sipivr.control.failed import Failed
from sipivr.control.frames import FrameError
from sipivr.control.messages import (
    PROTOCOL_VERSION,
    AnyCommand,
    ErrorCode,
    EventNotice,
    FromSwitch,
    ProgressNotice,
    Reply,
    Request,
    Subscribe,
)

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
MAX_REQUESTS_UNDER_WAY: Final = 64
MAX_WAITING_FRAMES: Final = 512
SEND_TIMEOUT_S: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(slots=True)
class ServerCounters:
    """What has happened since the start, for the metrics."""

    accepted: int = 0
    refused_peers: int = 0
    refused_full: int = 0
    malformed: int = 0
    slow_dropped: int = 0
    requests: int = 0
    failures: int = 0


class ControlServer:
    """Serves the control socket.

    Args:
        path: of the socket; its directory exists and is closed to others.
        handle: carries a command out (`commands.Commands`), raising `Failed` for an error reply.
        allowed_uids: users that may connect besides our own; `api`'s when packaged.
        group: id of the group that the socket belongs to, None: unchanged.
        newest: sequence of the newest event at the start; what `publish_event` says later replaces it.
    """

    def __init__(
        self,
        path: Path,
        handle: Callable[[AnyCommand], Awaitable[Result]],
        *,
        allowed_uids: Iterable[int] = (),
        group: int | None = None,
        newest: int = 0,
    ) -> None:
        self._path = path
        self._handle = handle
        self._allowed = frozenset({os.getuid(), *allowed_uids})
        self._group = group
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._newest = newest
        self.counters = ServerCounters()

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the path cannot be bound, or another switch listens there.
        """
        listener = _bound(self._path, self._group)
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=frames.STREAM_LIMIT, backlog=16
            )
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Closes all connections and removes the socket. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._connections):
            connection.close()
        await asyncio.gather(*(c.closed.wait() for c in tuple(self._connections)))
        with contextlib.suppress(OSError):
            self._path.unlink()

    def publish_event(self, sequence: int) -> None:
        """Events up to `sequence` are committed. Only the newest number waits, so a slow peer costs one
        frame.
        """
        self._newest = max(self._newest, sequence)
        for connection in tuple(self._connections):
            connection.event(self._newest)

    def publish_progress(self, notice: ProgressNotice) -> None:
        """How far a capture is."""
        for connection in tuple(self._connections):
            connection.progress(notice)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        _, uid, _ = _CREDENTIALS.unpack(peer)
        if uid not in self._allowed:
            self.counters.refused_peers += 1
            log.warning("control: user %d is refused", uid)
            writer.close()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            self.counters.refused_full += 1
            writer.close()
            return
        self.counters.accepted += 1
        connection = _Connection(reader, writer, self._handle, self.counters, lambda: self._newest)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)


class _Connection:
    """One peer: a reader, a task for each request under way, and a sender."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handle: Callable[[AnyCommand], Awaitable[Result]],
        counters: ServerCounters,
        newest: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._counters = counters
        self._newest = newest
        self._subscribed = False
        self._dropped = False
        self._waiting: deque[bytes] = deque()
        # Below any sequence: the first notice, right after Subscribe, tells the peer that it was accepted.
        self._event = -1
        self._event_sent = -1
        self._something = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_REQUESTS_UNDER_WAY)
        self._under_way: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Until the peer goes, errs or is too slow."""
        self._reading = asyncio.create_task(self._read(), name="control-read")
        sending = asyncio.create_task(self._send(), name="control-send")
        try:
            await asyncio.wait({self._reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._reading, sending):
                task.cancel()
            await asyncio.gather(self._reading, sending, return_exceptions=True)
            # Commands under way go on: what was accepted is carried out; only its reply has nobody to go to.
            self._writer.transport.abort()
            self.closed.set()

    def close(self) -> None:
        """Ends the connection."""
        if self._reading is not None:
            self._reading.cancel()

    def event(self, sequence: int) -> None:
        """Pushes the number of the newest event."""
        if self._subscribed:
            self._event = sequence
            self._something.set()

    def progress(self, notice: ProgressNotice) -> None:
        """Pushes progress."""
        if self._subscribed:
            self._put(notice)

    def _put(self, message: FromSwitch) -> None:
        if self._dropped:
            return
        if len(self._waiting) >= MAX_WAITING_FRAMES:
            self._too_slow()
            return
        try:
            frame = frames.encode(message)
        except FrameError:
            log.exception("control: our own %s is too long", type(message).__name__)
            return
        self._waiting.append(frame)
        self._something.set()

    def _too_slow(self) -> None:
        if not self._dropped:
            # Once: frames that come before the tasks have ended are not each a new drop.
            self._dropped = True
            self._subscribed = False
            self._counters.slow_dropped += 1
            log.warning("control: a peer that does not read is dropped")
            self.close()

    async def _read(self) -> None:
        try:
            while (document := await frames.read_frame(self._reader)) is not None:
                await self._take(document)
        except FrameError as error:
            self._counters.malformed += 1
            log.warning("control: a peer is dropped: %s", error)
        except OSError:
            pass  # it is gone; `serve` clears up

    async def _take(self, document: bytes) -> None:
        try:
            message = frames.decode_from_api(document)
        except FrameError:
            number = frames.request_number(document)
            if number is None:
                raise
            self._counters.malformed += 1
            self._put(Reply(id=number, error=ErrorCode.INVALID, detail="this command is not known here"))
            return
        if isinstance(message, Subscribe):
            if message.version != PROTOCOL_VERSION:
                raise FrameError(f"protocol version {message.version}, ours is {PROTOCOL_VERSION}")
            self._subscribed = True
            self.event(self._newest())
            return
        # No further frame is read while so many are under way: the peer waits, nobody else.
        await self._room.acquire()
        task = asyncio.create_task(self._answer(message), name="control-command")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, request: Request) -> None:
        self._counters.requests += 1
        try:
            reply = Reply(id=request.id, result=await self._handle(request.command))
        except Failed as error:
            reply = Reply(id=request.id, error=error.code, detail=error.detail, related=error.related)
        except Exception:
            self._counters.failures += 1
            log.exception("control: %s failed", type(request.command).__name__)
            reply = Reply(id=request.id, error=ErrorCode.INTERNAL, detail="an error of the switch")
        finally:
            self._room.release()
        self._put(reply)

    async def _send(self) -> None:
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                batch = list(self._waiting)
                self._waiting.clear()
                if self._event > self._event_sent:
                    self._event_sent = self._event
                    batch.append(frames.encode(EventNotice(sequence=self._event)))
                self._writer.write(b"".join(batch))
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._writer.drain()
        except TimeoutError:
            self._too_slow()
        except OSError:
            pass  # it is gone; `serve` clears up


def _bound(path: Path, group: int | None) -> socket.socket:
    """A bound socket with mode 0660 that does not listen yet.

    The mode is set before anybody can connect, so no umask (which all threads share) has to be touched.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
        if group is not None:
            os.chown(path, -1, group)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Removes what a killed switch has left; raises OSError if one still listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path}: is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(f"{path}: another switch listens there")
