"""The far end of the pipe to a media worker: a real engine behind it, that answers when the test lets it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from media.engine import Engine
from media.protocol import (
    PROTOCOL_VERSION,
    AnyCommand,
    AnyEvent,
    EventBatch,
    Hello,
    MaskMode,
    Refused,
    Remote,
    SetMask,
    decode_commands,
    encode_events,
)
from sipivr.calls.media_link import MediaLink, MediaWorker


class FarWorker:
    """Connects as worker `index` with the RTP sockets given.

    Attributes:
        told: every command, in order.
        answering: whether `serve` answers at once.
    """

    made: ClassVar[list[FarWorker]] = []

    def __init__(self, link: MediaLink, path: Path, rtp: Sequence[socket.socket], index: int = 0) -> None:
        self.engine = Engine(rtp)
        self.told: list[AnyCommand] = []
        self.answering = True
        self._held: list[AnyEvent] = []
        self._link = link
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end.connect(str(path))
        self._end.setblocking(False)
        addresses = tuple(Remote(*sock.getsockname()[:2]) for sock in rtp)
        self.made.append(self)
        self._end.send(encode_events(Hello(PROTOCOL_VERSION, index, 1, addresses)))

    async def arrive(self) -> MediaWorker:
        """Waits until the link has taken it in."""
        before = set(self._link.workers)
        async with asyncio.timeout(5):
            while not (new := set(self._link.workers) - before):
                await asyncio.sleep(0)
        return new.pop()

    def die(self) -> None:
        """As kill -9 would have it."""
        self._end.close()

    @classmethod
    def all_die(cls) -> None:
        """The end of a test."""
        while cls.made:
            cls.made.pop().die()

    async def serve(self, *, refuse: type[AnyCommand] | None = None) -> list[AnyCommand]:
        """Carries out what has come by now, and answers it unless `answering` is off; returns what it was."""
        for _ in range(3):  # what was sent in this turn of the loop leaves in the next
            await asyncio.sleep(0)
        fresh: list[AnyCommand] = []
        while True:
            try:
                fresh += decode_commands(self._end.recv(1 << 18))
            except BlockingIOError:
                break
        for command in fresh:
            if refuse is not None and isinstance(command, refuse):
                self._held.append(Refused(seq=command.seq, reason="refused by the test"))
            else:
                self._held += self.engine.execute(command)
        self.told += fresh
        if self.answering:
            await self.answer()
        return fresh

    async def answer(self) -> None:
        """Says what was held back."""
        held, self._held = self._held, []
        if held:
            self._end.send(encode_events(EventBatch(0, held)))
        for _ in range(5):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Serves until nothing more comes."""
        while await self.serve():
            pass

    def masks(self) -> list[tuple[int, int, MaskMode]]:
        """Every mask that was set, in order."""
        return [(one.source, one.destination, one.mask) for one in self.told if isinstance(one, SetMask)]


def kinds(commands: list[AnyCommand]) -> list[str]:
    """Commands by name, without the questions after the worker's health."""
    return [
        type(command).__name__
        for command in commands
        if not (type(command).__name__ == "QueryStatistics" and not msgspec.structs.asdict(command)["legs"])
    ]
