"""What every call needs, handed in once by the composition root."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from sipivr.calls.charging import Charging
from sipivr.calls.journal import Journal
from sipivr.calls.ladder_book import LadderBook
from sipivr.calls.media_link import MediaLink
from sipivr.calls.progress import ProgressBoard
from sipivr.calls.rtp_quality import RTPFigures
from sipivr.dialogue.phrases import Phrase
from sipivr.store.records import Merchant, Number, Shop, Trunk
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)


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

    def number_by_id(self, id: str) -> Number | None:
        """A telephone number of ours by its id."""

    def merchant(self, id: str) -> Merchant | None:
        """A merchant."""

    def shop(self, id: str) -> Shop | None:
        """A shop."""

    def caller_allowed(self, merchant: str, caller: str) -> bool:
        """Whether the caller is on the merchant's list."""

    def caller_blocked(self, merchant: str, caller: str) -> bool:
        """Whether the caller is on the merchant's block list."""

    def extension(self, principal: str) -> str | None:
        """An operator's extension on the merchant's PBX."""

    def attempts(self, session: str) -> int:
        """How often the session has gone to the gateway."""


@dataclass(slots=True)
class Services:
    """The rooms of the house that a call walks through.

    Attributes:
        node: this machine's name, for records.
        media_addresses: what SDP names instead of the sockets' own addresses, at most one of each family.
        today: the date where the shops are.
        counters: failures and refusals by name, for /metrics.
        rtp: how the legs sounded that have ended, for /metrics.
    """

    node: str
    writer: StoreWriter
    directory: Directory
    media: MediaLink
    media_addresses: tuple[str, ...]
    prompts: Prompts
    charging: Charging
    ladders: LadderBook
    progress: ProgressBoard
    today: Callable[[], date]
    counters: dict[str, int] = field(default_factory=dict)
    rtp: RTPFigures = field(default_factory=RTPFigures)
    _writes: set[asyncio.Task[Any]] = field(default_factory=set)
    _journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self._journal = Journal(self.writer, self.background, self.count)

    def count(self, name: str) -> None:
        """One more of something."""
        self.counters[name] = self.counters.get(name, 0) + 1

    def record(self, function: Callable[..., Any], **fields: Any) -> None:
        """Writes to the store behind the call's back; the call goes on whatever becomes of it."""
        self._journal.record(function, fields)

    @property
    def records_late(self) -> int:
        """Records that wait for a store that did not take them."""
        return len(self._journal)

    @property
    def under_way(self) -> int:
        """Records and background tasks that have not ended."""
        return len(self._writes)

    async def recorded(self, timeout_s: float) -> None:
        """Waits until everything that `record` was given has been tried."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=timeout_s)

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
