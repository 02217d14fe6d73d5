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
from sipivr.store.database import WritableStore, begin, open_writable
from sipivr.store.errors import StoreBusy, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_KEPT_SAMPLES: Final = 4096
#: Jobs that are committed together at most: a reader's or a caller's longest wait behind them stays small.
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Times in milliseconds, of the last 4,096 jobs; `run` is until its commit, `wait` the queue before
    it.
    """

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
    begun_at: float = 0.0


class StoreWriter:
    """The writer thread with its queue.

    Args:
        path: `switch.db`.
        keys: field keys.
        queue_limit: jobs that may wait; more are refused with `StoreBusy`.
        on_committed: called in the loop's thread with the newest event sequence after a commit that wrote
        events. busy_timeout_ms: how long one try waits for another process's lock.
        tries: how many such times a job may wait, from its arrival on, before `StoreUnavailable`.
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
        self._waits_ms = busy_timeout_ms
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
        return await self.enqueue(function, *args, **kwargs)

    def enqueue(
        self, function: Callable[Concatenate[WritableStore, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """As `run`, but queued before this returns: ahead of every write that is asked for later."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        answer = asyncio.wrap_future(future)
        if not self._accepting:
            future.set_exception(StoreUnavailable("the store is not running"))
        elif self._queue.qsize() >= self._limit:
            future.set_exception(StoreBusy(f"{self._limit} writes are waiting"))
        else:
            self._queue.put(_Job(lambda store: function(store, *args, **kwargs), future, time.perf_counter()))
        return answer

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
        stopping = False
        while not stopping:
            jobs, stopping = self._take()
            if len(jobs) == 1 or (jobs and not self._batch(jobs)):
                for job in jobs:
                    self._alone(job)
            jobs.clear()  # their closures may hold what the callers want freed
        self._close()

    def _take(self) -> tuple[list[_Job], bool]:
        """Waits for a job and takes those that are there with it; True when `stop` was among them."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            if job.future.set_running_or_notify_cancel():
                job.begun_at = time.perf_counter()
                jobs.append(job)
            if len(jobs) >= _BATCH:
                return jobs, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _alone(self, job: _Job) -> None:
        """One job, its own transaction."""
        sequence = self._store.newest_sequence if self._store else 0
        try:
            result = self._attempt(job)
        except Exception as error:  # the caller's to handle; this thread serves the next one
            self._answer(job, None, error)
        else:
            self._notify(sequence)
            self._answer(job, result, None)

    def _batch(self, jobs: list[_Job]) -> bool:
        """Several jobs in one transaction, each a savepoint: one wait for the disk instead of many.

        Returns:
            False when nothing of it was done: the jobs are to be done one by one, with their own retries.
        """
        store = self._store
        if store is None:
            return False
        sequence = store.newest_sequence
        outcomes: list[tuple[_Job, Any, Exception | None]] = []
        try:
            begin(self._patient(jobs[0]).db.conn, durable=True)
            for job in jobs:
                try:
                    outcomes.append((job, job.work(store), None))
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
                    outcomes.append((job, None, error))
                except (sqlite3.Error, OSError):
                    raise
                except Exception as error:  # the caller's to handle
                    outcomes.append((job, None, error))
                if not store.db.conn.in_transaction:
                    raise sqlite3.OperationalError("a job has ended the transaction of its batch")
        except (sqlite3.Error, OSError):
            store.newest_sequence = sequence
            try:
                if store.db.conn.in_transaction:
                    store.db.conn.execute("ROLLBACK")
            except sqlite3.Error:
                self._close()
            return False
        try:
            store.db.conn.execute("COMMIT")
        except sqlite3.Error as error:
            # See `_attempt`: the pages may be on the disk, so nothing is done a second time.
            self._close()
            for job in jobs:
                self._answer(job, None, StoreUnavailable(f"switch.db cannot be written: {error}"))
            return True
        self._notify(sequence)
        for job, result, failure in outcomes:
            self._answer(job, result, failure)
        return True

    def _answer(self, job: _Job, result: Any, error: Exception | None) -> None:
        self._jobs += 1
        self._samples.append((job.begun_at - job.accepted_at, time.perf_counter() - job.begun_at))
        if error is None:
            job.future.set_result(result)
        else:
            self._failures += isinstance(error, StoreUnavailable)
            job.future.set_exception(error)

    def _attempt(self, job: _Job) -> Any:
        while True:
            try:
                return job.work(self._patient(job))
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                    raise  # a rule of the schema or an error of ours, not the disk's fault
                locked = getattr(error, "sqlite_errorcode", None) in (
                    sqlite3.SQLITE_BUSY,
                    sqlite3.SQLITE_LOCKED,
                )
                # Only a lock is tried again: it stopped us before anything was written. After an I/O error at
                # the commit the pages may be on the disk all the same, and a second try would do it twice.
                if not locked:
                    self._close()
                if not locked or self._patience_ms(job) == 0:
                    raise StoreUnavailable(f"switch.db cannot be written: {error}") from error

    def _patient(self, job: _Job) -> WritableStore:
        """The store, set to wait for a lock no longer than this job may still wait.

        Counted from the job's arrival: behind a lock that stays, a whole queue fails together and not one job
        after the other.
        """
        if self._store is None:
            self._open()
        assert self._store is not None
        wait_ms = min(self._patience_ms(job), self._busy_timeout_ms)
        if wait_ms != self._waits_ms:
            self._store.db.conn.execute(f"PRAGMA busy_timeout = {wait_ms}")
            self._waits_ms = wait_ms
        return self._store

    def _patience_ms(self, job: _Job) -> int:
        spent_ms = (time.perf_counter() - job.accepted_at) * 1000
        return max(0, round(self._busy_timeout_ms * self._tries - spent_ms))

    def _open(self) -> None:
        db = open_writable(self._path, busy_timeout_ms=self._busy_timeout_ms)
        self._store = WritableStore(db, self._keys)
        self._waits_ms = self._busy_timeout_ms

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.db.close()

    def _notify(self, before: int) -> None:
        """Tells the loop, if events were committed since the sequence `before`."""
        newest = self._store.newest_sequence if self._store else 0
        if newest > before and self._on_committed is not None and self._loop is not None:
            # The loop may be closed already while the queue drains.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_committed, newest)
