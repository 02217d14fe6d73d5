"""`switch.db`, read on threads of its own and never written (invariant 7)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from sqlite_utils import Database

from api.problems import Problem
from sipivr.store import read
from sipivr.store.records import Mode

P = ParamSpec("P")
T = TypeVar("T")

_THREADS: Final = 2


class Reader:
    """Runs functions of `sipivr.store.read`. Opens late: the switch may make its database after we start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="switch-db")
        self._local = threading.local()
        self._opened: list[Database] = []

    async def run(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls the function with a read-only database.

        Raises:
            Problem: `store_unavailable`, if it cannot be read.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._executor, lambda: function(self._database(), *args, **kwargs)
            )
        except (sqlite3.Error, OSError):
            raise Problem("store_unavailable", headers={"Retry-After": "5"}) from None

    def _database(self) -> Database:
        database: Database | None = getattr(self._local, "database", None)
        if database is None:
            database = self._local.database = read.open_readonly(self._path)
            self._opened.append(database)
        return database

    def close(self) -> None:
        """Waits for what is running and closes."""
        self._executor.shutdown()
        for database in self._opened:
            database.close()


class _Record(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def mode(self) -> Mode | None: ...


R = TypeVar("R", bound=_Record)


async def page_of_mode(
    fetch: Callable[[str | None], Awaitable[tuple[tuple[R, ...], bool]]],
    mode: Mode,
    limit: int,
    starting_after: str | None,
) -> tuple[list[R], bool]:
    """One page of the objects of a key's mode, from pages that hold both modes.

    A merchant lives in one mode, so that this normally is one fetch; it is bounded for the day of the change.
    """
    found: list[R] = []
    cursor, more = starting_after, True
    for _ in range(20):
        rows, more = await fetch(cursor)
        found += [row for row in rows if row.mode in {mode, None}]
        if len(found) > limit or not more or not rows:
            break
        cursor = rows[-1].id
    return found[:limit], len(found) > limit or more
