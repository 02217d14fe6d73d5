"""One connected media worker, as `sipivr` sees it: its commands, its prompts, its ports, its load.

Commands of one loop iteration travel in one packet. Each is answered by an acknowledgement or a refusal; one
that is not answered within `COMMAND_TIMEOUT_S` counts as refused, and what waits for it fails closed. A worker
that has said nothing at all for so long, although it was asked, hangs and is dropped. When its socket closes,
every leg on it is lost, and its owner is told.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from media.protocol import (
    MAX_MESSAGE_BYTES,
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
    QueryStatistics,
    Refused,
    RTPTimeout,
    SourceLatched,
    UnloadPrompt,
    WorkerStatistics,
    decode_events,
    encode_commands,
)
from sipivr.calls.media_load import WorkerLoad
from sipivr.calls.media_ports import PortTable

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
        self.load = WorkerLoad()
        self.hung = False
        self._connection = connection
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
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

    def ask(self) -> None:
        """Asks how it is; a worker that hangs is found by not answering."""
        self.send(QueryStatistics(seq=self.next_seq(), legs=False))

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
    def expected_us(self) -> float:
        """What a tick will cost with the legs that it has been given."""
        return self.load.expected_us(self.ports.legs)

    @property
    def legs_owned(self) -> int:
        """Legs whose owners are told what happens."""
        return len(self._owners)

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
        if not self.closed and self._loop.time() - self._heard >= COMMAND_TIMEOUT_S:
            log.error("media worker %d (process %d) hangs; dropping it", self.index, self.pid)
            self.hung = True
            self.close()

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
        self._heard = self._loop.time()
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
                self.load.note(event)
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


def _consume(answer: asyncio.Future[None]) -> None:
    """Marks a refusal as seen: the worker's refusals are logged where they arrive."""
    if not answer.cancelled():
        answer.exception()
