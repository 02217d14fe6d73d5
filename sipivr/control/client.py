"""`api`'s end of the control socket: one connection, made again when it breaks.

    DOWN ──connect, Subscribe──► UP ──broken──► DOWN (back-off 0.1 s … 5 s, with jitter)

While it is down every request fails at once with `SwitchUnavailable`; `api` answers 503 and goes on reading
from `switch.db`. After each connect the switch tells the newest event's number, so a listener that reads
events from the store by their sequence misses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from sipivr.control import frames
from sipivr.control.frames import FrameError
from sipivr.control.messages import AnyCommand, EventNotice, ProgressNotice, Reply, Request, Subscribe

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
MAX_WAITING_NOTICES: Final = 256

Notice = EventNotice | ProgressNotice


class SwitchUnavailable(Exception):
    """No reply from the switch.

    Attributes:
        sent: False: the command certainly was not carried out; True: nobody knows. Ask `switch.db` before
            trying again.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class ControlClient:
    """The switch, as `api` sees it.

    Args:
        path: of the control socket.
        request_timeout_s: how long a reply is waited for.
    """

    def __init__(self, path: Path, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = request_timeout_s
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._listeners: set[asyncio.Queue[Notice | None]] = set()
        self._up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the switch is there now."""
        return self._up.is_set()

    async def start(self) -> None:
        """Begins to connect; does not wait for it."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="control-client")

    async def wait_connected(self, timeout_s: float) -> bool:
        """Waits for the switch; False if it does not come in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        return self.connected

    async def close(self) -> None:
        """Closes the connection and ends all listeners. May be called twice."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        for listener in tuple(self._listeners):
            _offer(listener, None)

    async def request(self, command: AnyCommand, *, timeout_s: float | None = None) -> Reply:
        """Sends a command and returns its reply (which may hold an error).

        Raises:
            SwitchUnavailable: not connected, no reply in time, or the connection broke; see its `sent`.
        """
        writer = self._writer
        if writer is None:
            raise SwitchUnavailable("the switch is not connected", sent=False)
        number = next(self._numbers)
        try:
            frame = frames.encode(Request(id=number, command=command))
        except FrameError as error:
            raise SwitchUnavailable(str(error), sent=False) from None
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                writer.write(frame)
                await writer.drain()
                return await future
        except TimeoutError:
            raise SwitchUnavailable("the switch has not answered in time", sent=True) from None
        except OSError:
            raise SwitchUnavailable("the connection to the switch broke", sent=True) from None
        finally:
            self._waiting.pop(number, None)
            # Nobody asks it any more; a failure set on it must not be reported as unhandled.
            future.cancel()

    async def notices(self) -> AsyncIterator[Notice]:
        """What the switch pushes, across reconnects, until `close`.

        A listener that is slower than the notices loses the oldest of them: a later `EventNotice` says all
        that earlier ones did, and progress is replaced within half a second.
        """
        queue: asyncio.Queue[Notice | None] = asyncio.Queue(MAX_WAITING_NOTICES)
        self._listeners.add(queue)
        try:
            while (notice := await queue.get()) is not None:
                yield notice
        finally:
            self._listeners.discard(queue)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    str(self._path), limit=frames.STREAM_LIMIT
                )
            except OSError as error:
                log.debug("control: the switch is not there: %s", error)
            else:
                try:
                    if await self._serve(reader, writer):
                        pause_s = FIRST_PAUSE_S
                finally:
                    self._down(writer)
            # Jitter: many clients of a restarted switch shall not come back at the same moment.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Until the connection ends; True if the switch has ever said something on it."""
        heard = False
        try:
            writer.write(frames.encode(Subscribe()))
            await writer.drain()
            self._writer = writer
            while (document := await frames.read_frame(reader)) is not None:
                # Not before: a switch that refuses us closes without a word.
                heard = True
                self._take(document)
        except FrameError as error:
            log.warning("control: the switch sends what is no message: %s", error)
        except OSError as error:
            log.info("control: the connection to the switch broke: %s", error)
        return heard

    def _take(self, document: bytes) -> None:
        message = frames.decode_from_switch(document)
        if isinstance(message, Reply):
            future = self._waiting.pop(message.id, None)
            if future is not None and not future.done():
                future.set_result(message)
            return
        self._up.set()
        for listener in tuple(self._listeners):
            _offer(listener, message)

    def _down(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        self._up.clear()
        writer.transport.abort()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(SwitchUnavailable("the connection to the switch broke", sent=True))


def _offer(queue: asyncio.Queue[Notice | None], notice: Notice | None) -> None:
    while True:
        try:
            queue.put_nowait(notice)
        except asyncio.QueueFull:
            queue.get_nowait()
        else:
            return
