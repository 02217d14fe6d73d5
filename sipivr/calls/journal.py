"""The records of calls on their way to the store: what happened is written, late if need be, in its order.

A record never holds a call up. While the store does not take it (locked, busy) it waits here with the time at which
it happened, and everything behind it waits too, so that the store learns of things in their order.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sipivr.store.errors import StoreBusy, StoreError, StoreUnavailable
from sipivr.store.identifiers import utc_now
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

#: How long a late record waits for its next try, and how many may wait.
LATE_PAUSE_S: Final = 1.0
MAX_LATE: Final = 20_000


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


class Journal:
    """Writes records behind the calls' backs.

    Args:
        writer: of the store.
        background: runs what nobody waits for.
        count: counts `records_late` and `records_lost`.
    """

    def __init__(
        self,
        writer: StoreWriter,
        background: Callable[[Awaitable[None]], None],
        count: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._background = background
        self._count = count
        self._late: list[_Record] = []
        self._order: Iterator[int] = itertools.count()

    def __len__(self) -> int:
        return len(self._late)

    def record(self, function: Callable[..., Any], fields: Mapping[str, Any]) -> None:
        """Something happened now, to be written by `function(store, **fields)`."""
        record = _Record(next(self._order), utc_now(), function, fields)
        if self._late:
            self._put_off(record)
        else:
            self._background(self._record(record))

    async def _record(self, record: _Record) -> None:
        try:
            await self._writer.run(record.function, **record.fields)
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
            self._background(self._catch_up())

    async def _catch_up(self) -> None:
        while self._late:
            record = self._late[0]
            try:
                await self._writer.run(record.function, **record.dated())
            except (StoreBusy, StoreUnavailable):
                await asyncio.sleep(LATE_PAUSE_S)
                continue
            except Exception as error:  # as in `_record`
                self._lost(record, error)
            else:
                self._count("records_late")
            if self._late[0] is record:
                heapq.heappop(self._late)
            else:  # one that happened earlier has come meanwhile
                self._late.remove(record)
                heapq.heapify(self._late)

    def _lost(self, record: _Record, error: Exception) -> None:
        self._count("records_lost")
        # The store's own errors say no values; others could.
        reason = str(error) if isinstance(error, StoreError) else type(error).__name__
        log.error("a record was not written (%s): %s", record.function.__name__, reason)
