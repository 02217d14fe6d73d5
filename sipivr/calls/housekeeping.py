"""What must happen by the clock: sessions and unclaimed ladders expire, media workers are asked for their
figures, data is retired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from media.protocol import QueryStatistics
from sipivr.calls.services import Services
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

EXPIRE_EVERY_S: Final = 10.0
STATISTICS_EVERY_S: Final = 5.0
RETIRE_EVERY_S: Final = 3600.0


class Housekeeping:
    """The node's clockwork. A task that fails is logged and counted, and comes again."""

    def __init__(self, services: Services, writer: StoreWriter) -> None:
        self._services = services
        self._writer = writer
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the clocks."""
        for period, work in (
            (EXPIRE_EVERY_S, self._expire),
            (STATISTICS_EVERY_S, self._ask_workers),
            (RETIRE_EVERY_S, self._retire),
        ):
            self._tasks.append(asyncio.ensure_future(self._every(period, work)))

    def stop(self) -> None:
        """Stops them."""
        for task in self._tasks:
            task.cancel()

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await work()
            except StoreError as error:
                self._services.count("housekeeping_failures")
                log.error("housekeeping: %s", error)

    async def _expire(self) -> None:
        self._services.ladders.expire(time.time())
        await self._writer.run(write.expire_sessions)

    async def _ask_workers(self) -> None:
        for worker in self._services.media.workers:
            worker.send(QueryStatistics(seq=worker.next_seq(), leg=None))

    async def _retire(self) -> None:
        report = await self._writer.run(write.apply_retention)
        log.info("retention: %s", report)
