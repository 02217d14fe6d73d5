"""The schema of `api.db`, forward only, and the one thread on which it is used.

A key's secret has 256 random bits, so its SHA-256 can be stored bare: there is no dictionary to try, and a
pepper would lie on the same disk, readable by the same user. Passwords are chosen by people: scrypt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

P = ParamSpec("P")
T = TypeVar("T")

migrations = Migrations("api")


@migrations()
def m001_first(db: Database) -> None:
    """Credentials with their failed log-ins, API keys, idempotency records."""
    db.execute(
        """
        CREATE TABLE credentials (
            name TEXT PRIMARY KEY COLLATE NOCASE,
            principal TEXT NOT NULL,
            salt BLOB NOT NULL,
            digest BLOB NOT NULL,
            cost INTEGER NOT NULL,
            created_at TEXT NOT NULL,
            last_used_at TEXT
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE login_failures (
            subject TEXT PRIMARY KEY,
            failures INTEGER NOT NULL,
            last_failure_at REAL NOT NULL,
            locked_until REAL NOT NULL
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE api_keys (
            id TEXT PRIMARY KEY,
            prefix TEXT NOT NULL UNIQUE,
            digest BLOB NOT NULL,
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            name TEXT NOT NULL,
            principal TEXT NOT NULL,
            merchant TEXT NOT NULL,
            scopes TEXT NOT NULL,
            created_by TEXT NOT NULL,
            created_at TEXT NOT NULL,
            last_used_at TEXT,
            revoked_at TEXT,
            revoked_by TEXT,
            principal_retired_at TEXT
        ) STRICT
        """
    )
    db.execute("CREATE INDEX api_keys_by_merchant ON api_keys (merchant, created_at, id)")
    db.execute(
        """
        CREATE TABLE idempotency (
            owner TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint BLOB NOT NULL,
            created_at REAL NOT NULL,
            status INTEGER,
            body TEXT,
            subject TEXT,
            PRIMARY KEY (owner, key)
        ) STRICT
        """
    )
    db.execute("CREATE INDEX idempotency_by_age ON idempotency (created_at)")


def now_text() -> str:
    """The present as ISO 8601 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_database(path: Path) -> Database:
    """Opens `api.db`, made and migrated where needed, readable by this user only.

    Raises:
        sqlite3.Error: the file cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Created before SQLite does, because SQLite gives -wal and -shm the mode of the database file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    # isolation_level None: transactions are begun by us, as IMMEDIATE, and never by the driver.
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    database = Database(connection)
    database.enable_wal()
    database.execute("PRAGMA foreign_keys = ON")
    migrations.apply(database)
    return database


@contextlib.contextmanager
def immediate(db: Database, *, durable: bool) -> Generator[None]:
    """A write transaction that takes its lock at once, so that it cannot fail half-way as a reader.

    Args:
        db: `api.db`, with no transaction open.
        durable: survives a power cut, at the price of waiting for the disk. For keys and credentials: a
            revocation that was answered must stay one. The rest survives kill -9 all the same.
    """
    db.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


class Store:
    """`api.db` on a thread of its own: one writer, and the event loop never waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="api-db")
        try:
            self._database = self._executor.submit(open_database, path).result()
        except BaseException:
            self._executor.shutdown()
            raise

    async def run(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls a function of this package with the database, on the database's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(self._database, *args, **kwargs))

    def close(self) -> None:
        """Waits for what is running and closes."""
        self._executor.submit(self._database.close).result()
        self._executor.shutdown()
