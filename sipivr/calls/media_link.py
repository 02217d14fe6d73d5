"""`sipivr`'s end of the pipe to the media workers.

`MediaLink` listens on the seqpacket socket and takes workers in by their Hello; `MediaWorker` is one of them.
Commands of one loop iteration travel in one packet. Each is answered by an acknowledgement or a refusal; one
that is not answered within `COMMAND_TIMEOUT_S` counts as refused, and what waits for it fails closed. When a
worker's socket closes, every leg on it is lost: its owner is told, and the supervisor starts another worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from media.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Acknowledged,
    AnyCommand,
    AnyEvent,
    EventBatch,
    Hello,
    KeyPressed,
    LegFault,
    LegStatistics,
    LoadPrompt,
    MaskApplied,
    PlayFinished,
    Refused,
    RTPTimeout,
    SourceLatched,
    UnloadPrompt,
    WorkerStatistics,
    decode_events,
    encode_commands,
)
from sipivr.calls.media_ports import PortTable
from sipivr.hardening import peer_is_trusted

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S: Final = 2.0
#: Packets that may wait for a worker that does not read; beyond it the worker is taken for dead.
MAX_WAITING_PACKETS: Final = 1_000
#: Commands in one packet; the largest is under 400 bytes, so a packet stays far below the socket's limit.
COMMANDS_PER_PACKET: Final = 100


class MediaRefused(Exception):
    """The worker refused a command, did not answer it, or is gone."""


class LegEvents(Protocol):
    """Who owns a leg: it is told everything that happens on it, in order."""

    def on_media_event(self, event: AnyEvent) -> None:
        """A key, a finished playlist, an applied mask, a time-out, a fault or statistics."""

    def on_media_lost(self) -> None:
        """The worker is gone, and the leg with it."""


class MediaWorker:
    """One connected worker: its ports, its prompts, its outstanding commands."""

    def __init__(
        self, connection: socket.socket, hello: Hello, *, sharing: bool, lost: Callable[[MediaWorker], None]
    ) -> None:
        self.index = hello.worker
        self.pid = hello.pid
        self.ports = PortTable(hello.sockets, sharing=sharing)
        self.statistics: WorkerStatistics | None = None
        self._connection = connection
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._pending: dict[int, tuple[asyncio.Future[None], asyncio.TimerHandle]] = {}
        self._owners: dict[int, LegEvents] = {}
        self._outbox: list[AnyCommand] = []
        self._waiting: deque[bytes] = deque()
        self._prompts: dict[Path, int] = {}
        self._uses: dict[Path, int] = {}
        self._next_prompt = 0
        self.closed = False

    # -- commands ---------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """A number for the next command."""
        self._seq += 1
        return self._seq

    def send(self, command: AnyCommand) -> asyncio.Future[None]:
        """Queues a command made with `next_seq()`.

        Returns:
            A future that ends when the worker has acknowledged, or raises `MediaRefused`. It never warns
            when nobody waits for it: the refusal is logged here.
        """
        answer: asyncio.Future[None] = self._loop.create_future()
        answer.add_done_callback(_consume)
        if self.closed:
            answer.set_exception(MediaRefused("the media worker is gone"))
            return answer
        timer = self._loop.call_later(COMMAND_TIMEOUT_S, self._expire, command.seq)
        self._pending[command.seq] = answer, timer
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(command)
        return answer

    def adopt(self, leg: int, owner: LegEvents) -> None:
        """From now on events of this leg go to `owner`."""
        self._owners[leg] = owner

    def abandon(self, leg: int) -> None:
        """Nobody wants events of this leg any more."""
        self._owners.pop(leg, None)

    def prompt(self, path: Path) -> int:
        """The worker's number of a prompt file, loaded before any command queued after this call.

        Each call counts one use; `release_prompt` ends it. Unused prompts stay until `forget_prompts`.
        """
        number = self._prompts.get(path)
        if number is None:
            self._next_prompt += 1
            number = self._prompts[path] = self._next_prompt
            self.send(LoadPrompt(seq=self.next_seq(), prompt=number, path=str(path)))
        self._uses[path] = self._uses.get(path, 0) + 1
        return number

    def release_prompt(self, path: Path) -> None:
        """One use of a prompt is over; a prompt that nobody uses is unloaded."""
        uses = self._uses.get(path, 0) - 1
        if uses > 0:
            self._uses[path] = uses
            return
        self._uses.pop(path, None)
        number = self._prompts.pop(path, None)
        if number is not None:
            self.send(UnloadPrompt(seq=self.next_seq(), prompt=number))

    @property
    def pending(self) -> int:
        """Commands that are not answered yet."""
        return len(self._pending)

    @property
    def prompts(self) -> int:
        """Prompts that the worker was told to hold."""
        return len(self._prompts)

    @property
    def prompt_uses(self) -> int:
        """By how many playlists and pins they are held."""
        return sum(self._uses.values())

    def _expire(self, seq: int) -> None:
        self._answered(seq, MediaRefused(f"the media worker did not answer within {COMMAND_TIMEOUT_S} s"))

    def _answered(self, seq: int, error: MediaRefused | None) -> None:
        answer, timer = self._pending.pop(seq, (None, None))
        if answer is None or timer is None:
            return
        timer.cancel()
        if answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def _flush(self) -> None:
        commands, self._outbox = self._outbox, []
        for start in range(0, len(commands), COMMANDS_PER_PACKET):
            self._waiting.append(encode_commands(commands[start : start + COMMANDS_PER_PACKET]))
        self._write()

    def _write(self) -> None:
        if self.closed:
            return
        while self._waiting:
            try:
                self._connection.send(self._waiting[0])
            except BlockingIOError:
                if len(self._waiting) > MAX_WAITING_PACKETS:
                    log.error("media worker %d does not read its commands; dropping it", self.index)
                    self.close()
                    return
                self._loop.add_writer(self._connection.fileno(), self._write)
                return
            except OSError:
                self.close()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._connection.fileno())

    # -- events -----------------------------------------------------------------------------------------

    def readable(self) -> None:
        """Reads what the worker has sent; one packet a call keeps the loop fair."""
        try:
            packet = self._connection.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.close()
            return
        try:
            message = decode_events(packet)
        except msgspec.DecodeError as error:
            log.error("media worker %d sent a malformed packet (%s); dropping it", self.index, error)
            self.close()
            return
        if isinstance(message, EventBatch):
            for event in message.events:
                self._dispatch(event)

    def _dispatch(self, event: AnyEvent) -> None:
        match event:
            case Acknowledged(seq=seq):
                self._answered(seq, None)
            case Refused(seq=seq, reason=reason):
                log.warning("media worker %d refused a command: %s", self.index, reason)
                self._answered(seq, MediaRefused(reason))
            case WorkerStatistics():
                self.statistics = event
            case MaskApplied(source=leg):
                self._tell(leg, event)
            case KeyPressed(leg=leg) | PlayFinished(leg=leg) | RTPTimeout(leg=leg) | SourceLatched(leg=leg):
                self._tell(leg, event)
            case LegFault(leg=leg) | LegStatistics(leg=leg):
                self._tell(leg, event)

    def _tell(self, leg: int, event: AnyEvent) -> None:
        owner = self._owners.get(leg)
        if owner is not None:
            owner.on_media_event(event)

    def close(self) -> None:
        """Ends the connection and tells every owner that its leg is lost."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        for seq in list(self._pending):
            self._answered(seq, MediaRefused("the media worker is gone"))
        self._lost(self)
        owners, self._owners = list(self._owners.values()), {}
        for owner in owners:
            owner.on_media_lost()


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

    def stop(self) -> None:
        """Closes every worker's connection; they silence and drop their legs."""
        loop = asyncio.get_running_loop()
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
        """The worker for the next call.

        Raises:
            MediaRefused: no worker is connected.
        """
        if not self._workers:
            raise MediaRefused("no media worker is connected")
        return min(self._workers, key=lambda worker: worker.ports.legs)

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
        worker = MediaWorker(connection, hello, sharing=self._sharing, lost=self._gone)
        self._workers.append(worker)
        loop.add_reader(connection.fileno(), worker.readable)
        log.info("media worker %d (process %d) with %d ports", worker.index, worker.pid, len(hello.sockets))
        for told in self._arrivals:
            told(worker)

    def _gone(self, worker: MediaWorker) -> None:
        log.warning("media worker %d (process %d) is gone", worker.index, worker.pid)
        self._workers.remove(worker)


def _consume(answer: asyncio.Future[None]) -> None:
    """Marks a refusal as seen: the worker's refusals are logged where they arrive."""
    if not answer.cancelled():
        answer.exception()
