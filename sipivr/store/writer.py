"""The one thread that writes `switch.db` (invariant 7).

Work comes from the event loop through a bounded queue and is done in order, each job one transaction of its
own; `run` returns when its job has been committed. A database that is locked or broken costs the callers a
`StoreUnavailable` after a bounded time, never the loop a millisecond: the loop only ever waits on futures.

    STOPPED ──start──► RUNNING ──stop──► DRAINING (what was accepted is done) ──► STOPPED

Cancelling a `run` takes back a job that has not begun; one that has begun is committed all the same. Who
must know (a charge) shields it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sipivr.store.crypto import StoreKeys
from sipivr.store.database import WritableStore, open_writable
from sipivr.store.errors import StoreBusy, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_KEPT_SAMPLES: Final = 4096


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Times in milliseconds, of the last 4,096 jobs; `run` is one transaction, `wait` the queue before it."""

    jobs: int
    failures: int
    queued: int
    run_p50_ms: float
    run_p99_ms: float
    wait_p99_ms: float
    max_ms: float


@dataclass(slots=True)
class _Job:
    work: Callable[[WritableStore], Any]
    future: concurrent.futures.Future[Any]
    accepted_at: float


class StoreWriter:
    """The writer thread with its queue.

    Args:
        path: `switch.db`.
        keys: field keys.
        queue_limit: jobs that may wait; more are refused with `StoreBusy`.
        on_committed: called in the loop's thread with the newest event sequence after a commit that wrote
        events. busy_timeout_ms: how long one try waits for another process's lock.
        tries: how often a job is tried before `StoreUnavailable`.
    """

    def __init__(
        self,
        path: Path,
        keys: StoreKeys,
        *,
        queue_limit: int = 1024,
        on_committed: Callable[[int], None] | None = None,
        busy_timeout_ms: int = 1000,
        tries: int = 3,
    ) -> None:
        self._path = path
        self._keys = keys
        self._on_committed = on_committed
        self._busy_timeout_ms = busy_timeout_ms
        self._tries = tries
        # The sentinel of `stop` must always fit, so the bound is kept by `run`.
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._limit = queue_limit
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: WritableStore | None = None
        self._accepting = False
        self._jobs = 0
        self._failures = 0
        self._samples: deque[tuple[float, float]] = deque(maxlen=_KEPT_SAMPLES)

    async def start(self) -> None:
        """Opens and migrates the database in the thread, then accepts work.

        Raises:
            StoreUnavailable: it cannot be opened.
            RuntimeError: written by a newer version, or started already.
        """
        if self._thread is not None:
            raise RuntimeError("the writer runs already")
        self._loop = asyncio.get_running_loop()
        opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._work, args=[opened], name="store-writer", daemon=True)
        self._thread.start()
        try:
            await asyncio.wrap_future(opened)
        except BaseException:
            self._queue.put(None)
            self._thread = None
            raise
        self._accepting = True

    async def run(
        self, function: Callable[Concatenate[WritableStore, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does `function(store, *args, **kwargs)` in the thread; returns its result once it is committed.

        Raises:
            StoreBusy: the queue is full, nothing was tried.
            StoreUnavailable: not running, or the database cannot be written. Nothing was committed, unless
            the disk failed within the commit itself: what matters is read again once the database is back.
            Exception: whatever `function` raises, `errors.Refused` foremost.
        """
        if not self._accepting:
            raise StoreUnavailable("the store is not running")
        if self._queue.qsize() >= self._limit:
            raise StoreBusy(f"{self._limit} writes are waiting")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._queue.put(_Job(lambda store: function(store, *args, **kwargs), future, time.perf_counter()))
        return await asyncio.wrap_future(future)

    async def stop(self) -> None:
        """Accepts no more, does what was accepted, closes the database. May be called twice."""
        self._accepting = False
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def statistics(self) -> WriterStatistics:
        """Figures for the metrics."""
        samples = list(self._samples)
        run = sorted(r for _, r in samples)
        wait = sorted(w for w, _ in samples)

        def at(values: list[float], share: float) -> float:
            return round(values[int(share * (len(values) - 1))] * 1000, 3) if values else 0.0

        return WriterStatistics(
            jobs=self._jobs,
            failures=self._failures,
            queued=self._queue.qsize(),
            run_p50_ms=at(run, 0.5),
            run_p99_ms=at(run, 0.99),
            wait_p99_ms=at(wait, 0.99),
            max_ms=at(run, 1.0),
        )

    # From here on: the thread.

    def _work(self, opened: concurrent.futures.Future[None]) -> None:
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            opened.set_exception(StoreUnavailable(f"switch.db cannot be opened: {error}"))
            return
        except Exception as error:  # handed to `start`, which raises it
            opened.set_exception(error)
            return
        opened.set_result(None)
        while (job := self._queue.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._do(job)
            del job  # its closure may hold what the caller wants freed
        self._close()

    def _do(self, job: _Job) -> None:
        began = time.perf_counter()
        sequence = self._store.newest_sequence if self._store else 0
        try:
            result = self._attempt(job.work)
        except Exception as error:  # the caller's to handle; this thread serves the next one
            self._failures += isinstance(error, StoreUnavailable)
            job.future.set_exception(error)
        else:
            if self._store is not None and self._store.newest_sequence > sequence:
                self._notify(self._store.newest_sequence)
            job.future.set_result(result)
        self._jobs += 1
        self._samples.append((began - job.accepted_at, time.perf_counter() - began))

    def _attempt(self, work: Callable[[WritableStore], Any]) -> Any:
        for left in range(self._tries - 1, -1, -1):
            try:
                if self._store is None:
                    self._open()
                assert self._store is not None
                return work(self._store)
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.IntegrityError):
                    raise  # a rule of the schema, not the disk's fault
                locked = getattr(error, "sqlite_errorcode", None) in (
                    sqlite3.SQLITE_BUSY,
                    sqlite3.SQLITE_LOCKED,
                )
                # Only a lock is tried again: it stopped us before anything was written. After an I/O error
                # at the commit the pages may be on the disk all the same, and a second try would do the work
                # twice.
                if not locked:
                    self._close()
                if not locked or not left:
                    raise StoreUnavailable(f"switch.db cannot be written: {error}") from error
        raise AssertionError("unreachable")

    def _open(self) -> None:
        db = open_writable(self._path, busy_timeout_ms=self._busy_timeout_ms)
        self._store = WritableStore(db, self._keys)

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.db.close()

    def _notify(self, sequence: int) -> None:
        if self._on_committed is not None and self._loop is not None:
            # The loop may be closed already while the queue drains.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_committed, sequence)
