"""What every call needs, handed in once by the composition root.

Records of calls are written behind the calls' backs. A store that is locked or away for a while must not make
them untrue, so a record that it does not take waits in `_late` and is written when the store is back, with the
time at which it happened. Later records queue up behind it.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from sipivr.calls.charging import Charging
from sipivr.calls.ladder_book import LadderBook
from sipivr.calls.media_link import MediaLink
from sipivr.calls.progress import ProgressBoard
from sipivr.dialogue.phrases import Phrase
from sipivr.store.errors import StoreBusy, StoreError, StoreUnavailable
from sipivr.store.identifiers import utc_now
from sipivr.store.records import Merchant, Number, Shop, Trunk
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

#: How long a late record waits for its next try, and how many may wait.
LATE_PAUSE_S: Final = 1.0
MAX_LATE: Final = 20_000


class Prompts(Protocol):
    """The voices, as calls use them."""

    def ready(self, language: str, phrase: Phrase) -> Path | None:
        """The phrase's file if it is there already."""

    async def render(self, language: str, phrase: Phrase) -> Path:
        """The phrase's file, synthesised if need be; never fails (a missing voice falls back)."""

    async def prepare_session(self, language: str, shop_name: str, amount: int, currency: str) -> None:
        """Makes what a payment session will say, before its call comes."""


class Directory(Protocol):
    """What admission and calls look up in the store."""

    def trunk(self, id: str | None) -> Trunk | None:
        """A trunk by id."""

    def number(self, candidates: tuple[str, ...]) -> Number | None:
        """The first candidate that is one of our numbers."""

    def merchant(self, id: str) -> Merchant | None:
        """A merchant."""

    def shop(self, id: str) -> Shop | None:
        """A shop."""

    def caller_allowed(self, merchant: str, caller: str) -> bool:
        """Whether the caller is on the merchant's list."""

    def attempts(self, session: str) -> int:
        """How often the session has gone to the gateway."""


@dataclass(frozen=True, slots=True, order=True)
class _Record:
    """Something that happened, and how it is written."""

    number: int
    at: datetime = field(compare=False)
    function: Callable[..., Any] = field(compare=False)
    fields: Mapping[str, Any] = field(compare=False)

    def dated(self) -> Mapping[str, Any]:
        """The fields with the time at which it happened, where the store wants one."""
        wanted = "now" in inspect.signature(self.function).parameters
        return {"now": self.at, **self.fields} if wanted else self.fields


@dataclass(slots=True)
class Services:
    """The rooms of the house that a call walks through.

    Attributes:
        node: this machine's name, for records.
        media_address: what SDP names as our address, "" for the socket's own.
        today: the date where the shops are.
        counters: failures and refusals by name, for /metrics.
    """

    node: str
    writer: StoreWriter
    directory: Directory
    media: MediaLink
    media_address: str
    prompts: Prompts
    charging: Charging
    ladders: LadderBook
    progress: ProgressBoard
    today: Callable[[], date]
    counters: dict[str, int] = field(default_factory=dict)
    _writes: set[asyncio.Task[Any]] = field(default_factory=set)
    _late: list[_Record] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def count(self, name: str) -> None:
        """One more of something."""
        self.counters[name] = self.counters.get(name, 0) + 1

    def record(self, function: Callable[..., Any], **fields: Any) -> None:
        """Writes to the store behind the call's back; the call goes on whatever becomes of it."""
        record = _Record(next(self._order), utc_now(), function, fields)
        if self._late:
            self._put_off(record)
        else:
            self._spawn(self._record(record))

    async def recorded(self, timeout_s: float) -> None:
        """Waits until everything that `record` was given has been tried."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=timeout_s)

    async def _record(self, record: _Record) -> None:
        try:
            await self.writer.run(record.function, **record.fields)
        except (StoreBusy, StoreUnavailable) as error:
            log.error("a record must wait (%s): %s", record.function.__name__, error)
            self._put_off(record)
        except Exception as error:  # whatever it is, it must not stop what is recorded behind it
            self._lost(record, error)

    def _put_off(self, record: _Record) -> None:
        if len(self._late) >= MAX_LATE:
            self._lost(record, StoreBusy(f"{MAX_LATE} records wait"))
            return
        heapq.heappush(self._late, record)
        if len(self._late) == 1:
            self._spawn(self._catch_up())

    async def _catch_up(self) -> None:
        while self._late:
            record = self._late[0]
            try:
                await self.writer.run(record.function, **record.dated())
            except (StoreBusy, StoreUnavailable):
                await asyncio.sleep(LATE_PAUSE_S)
                continue
            except Exception as error:  # as in `_record`
                self._lost(record, error)
            else:
                self.count("records_late")
            if self._late[0] is record:
                heapq.heappop(self._late)
            else:  # one that happened earlier has come meanwhile
                self._late.remove(record)
                heapq.heapify(self._late)

    def _lost(self, record: _Record, error: Exception) -> None:
        self.count("records_lost")
        # The store's own errors say no values; others could.
        reason = str(error) if isinstance(error, StoreError) else type(error).__name__
        log.error("a record was not written (%s): %s", record.function.__name__, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def background(self, work: Awaitable[None]) -> None:
        """Runs something that nobody waits for; `recorded` waits for it too."""
        task = asyncio.ensure_future(work)
        self._writes.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.count("background_faults")
            log.error("a background task failed", exc_info=task.exception())
