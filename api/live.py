"""Live events: one reader of `switch.db`'s event table for all streams.

`Live` follows the table (woken by the switch's notices, and by the clock in case one was lost), reads each
event once and puts it into the queue of every stream that may see it. A stream is: catching up (from
`Last-Event-ID` to where `Live` stood when it opened) → following (its queue) → closed. A queue that is full
means a client that does not read: its stream is closed, and the client resumes where it was, from the table.
Progress of captures is passed on without being kept; a full queue loses it first.
"""

from __future__ import annotations

import asyncio
import enum
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Literal, TypeAlias

from api import logs, models
from api.problems import Problem
from api.reader import Reader
from sipivr.control.messages import EventNotice, ProgressNotice
from sipivr.store import read
from sipivr.store.records import EventRecord, Mode

HEART_BEAT_S: Final = 15.0
POLL_S: Final = 2.0
QUEUE_EVENTS: Final = 256
STREAMS_PER_KEY: Final = 20
STREAMS: Final = 500
_BATCH: Final = 200


class _Beat(enum.Enum):
    """Nothing has come for a while."""

    BEAT = enum.auto()


_BEAT: Final = _Beat.BEAT
#: None ends the stream.
_Item: TypeAlias = EventRecord | ProgressNotice | None

_logger = logging.getLogger("api.live")


class Stream:
    """One client's view of the events."""

    def __init__(
        self,
        live: Live,
        *,
        key: str,
        merchant: str,
        mode: Mode,
        progress: bool,
        still_allowed: Callable[[], Awaitable[bool]],
    ) -> None:
        self.key = key
        self._live = live
        self._merchant = merchant
        self._mode = mode
        self._progress = progress
        self._still_allowed = still_allowed
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(QUEUE_EVENTS + 1)
        self._dropped = False

    def offer(self, item: EventRecord | ProgressNotice) -> None:
        """Takes what this client may see; ends the stream if the client is too slow for events."""
        if item.merchant != self._merchant or self._dropped:
            return
        if isinstance(item, ProgressNotice):
            if self._progress and self._queue.qsize() < QUEUE_EVENTS // 2:
                self._queue.put_nowait(item)
        elif item.mode in {self._mode, None}:
            if self._queue.qsize() < QUEUE_EVENTS:
                self._queue.put_nowait(item)
            else:
                logs.say(_logger, logging.WARNING, "slow_client_dropped", key=self.key)
                self.drop()

    def drop(self) -> None:
        """Ends the stream; what is queued is not sent, the client resumes behind what it has received."""
        self._dropped = True
        if not self._queue.full():
            self._queue.put_nowait(None)

    def close(self) -> None:
        """Forgets the stream."""
        self._live.forget(self)

    async def chunks(self, after: int | None) -> AsyncIterator[str]:
        """The stream as text/event-stream; `after` is the last sequence that the client has."""
        yield "retry: 2000\n: open\n\n"
        sent = after or 0
        if after is not None:
            # Registered before the first read here, so nothing falls between catching up and following.
            async for event in self._live.since(after, self._merchant):
                if self._dropped:
                    return
                sent = event.sequence
                if event.mode in {self._mode, None}:
                    yield _event_text(event)
        clock = asyncio.get_running_loop().time
        check_at = clock() + HEART_BEAT_S
        while not self._dropped:
            try:
                item: _Item | Literal[_Beat.BEAT] = await asyncio.wait_for(self._queue.get(), HEART_BEAT_S)
            except TimeoutError:
                item = _BEAT
            # By the clock, not by silence: on a busy stream a key that was switched off elsewhere ends as soon.
            if clock() >= check_at or item is _BEAT:
                if not await self._still_allowed():
                    return
                check_at = clock() + HEART_BEAT_S
            if item is _BEAT:
                yield ": heart-beat\n\n"
                continue
            if item is None or self._dropped:
                return
            if isinstance(item, ProgressNotice):
                yield _progress_text(item)
            elif item.sequence > sent:
                sent = item.sequence
                yield _event_text(item)


def _event_text(event: EventRecord) -> str:
    # The type becomes a line of the protocol: a line break in it would be another field.
    name = event.type.replace("\n", "").replace("\r", "")
    return f"event: {name}\nid: {event.id}\ndata: {models.Event.of(event).model_dump_json()}\n\n"


def _progress_text(notice: ProgressNotice) -> str:
    document = {"session": notice.session, "call": notice.call, "values": notice.values}
    return f"event: capture.progress\ndata: {json.dumps(document)}\n\n"


class Live:
    """All streams of this process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._streams: set[Stream] = set()
        self._wake = asyncio.Event()
        self._position: int | None = None
        self._closed = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def open(
        self,
        *,
        key: str,
        merchant: str,
        mode: Mode,
        progress: bool,
        still_allowed: Callable[[], Awaitable[bool]],
    ) -> Stream:
        """A new stream.

        Raises:
            Problem: `too_many_streams`.
        """
        of_key = sum(stream.key == key for stream in self._streams)
        if self._closed or of_key >= STREAMS_PER_KEY or len(self._streams) >= STREAMS:
            raise Problem("too_many_streams", headers={"Retry-After": "5"})
        stream = Stream(
            self, key=key, merchant=merchant, mode=mode, progress=progress, still_allowed=still_allowed
        )
        self._streams.add(stream)
        return stream

    def forget(self, stream: Stream) -> None:
        """The client has gone."""
        self._streams.discard(stream)

    def drop_key(self, key: str) -> None:
        """Ends the streams of a key that was revoked."""
        for stream in self._streams:
            if stream.key == key:
                stream.drop()

    def close(self) -> None:
        """Ends all streams, so that the server can stop."""
        self._closed = True
        for stream in self._streams:
            stream.drop()
        self._wake.set()

    def notice(self, notice: EventNotice | ProgressNotice) -> None:
        """What the switch has pushed."""
        if isinstance(notice, ProgressNotice):
            for stream in list(self._streams):
                stream.offer(notice)
        else:
            self._wake.set()

    async def since(self, sequence: int, merchant: str) -> AsyncIterator[EventRecord]:
        """A merchant's events behind a sequence, up to the present."""
        while True:
            events = await self._reader.run(read.events_after, sequence, merchant=merchant, limit=_BATCH)
            for event in events:
                yield event
            if len(events) < _BATCH:
                return
            sequence = events[-1].sequence

    async def follow(self) -> None:
        """Follows the table until `close`; runs as a task of the application."""
        while not self._closed:
            try:
                await self._advance()
            except Problem:
                logs.say(_logger, logging.WARNING, "events_unreadable")
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            except TimeoutError:
                continue
            self._wake.clear()

    async def _advance(self) -> None:
        if self._position is None:
            self._position = await self._reader.run(read.newest_sequence)
        while not self._closed:
            events = await self._reader.run(read.events_after, self._position, limit=_BATCH)
            for event in events:
                self._position = event.sequence
                for stream in list(self._streams):
                    stream.offer(event)
            if len(events) < _BATCH:
                return
            # Streams get their turn to empty their queues within a large batch of events.
            await asyncio.sleep(0)
