"""Connections to `switch.db`, and the transaction that every change runs in.

One writer (invariant 7). WAL lets readers go on meanwhile. `synchronous` is FULL wherever an answer promises
something to somebody (a session, a claim, an intent); the records of calls run with NORMAL: a power cut may
take the last of them, never the file's integrity, and kill -9 takes nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlite_utils import Database

from sipivr.store import audit, schema
from sipivr.store.crypto import StoreKeys
from sipivr.store.identifiers import new_id, timestamp, utc_now
from sipivr.store.records import Actor

BUSY_TIMEOUT_MS: Final = 1000


def open_writable(path: Path, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
    """Opens the database for its one writer, creating the file (0640: `api`'s group reads it) and migrating.

    Raises:
        sqlite3.Error: not a database, locked, no space.
        RuntimeError: written by a newer version.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    db = _database(path, "rw", busy_timeout_ms)
    try:
        db.conn.execute("PRAGMA journal_mode = WAL")
        db.conn.execute("PRAGMA synchronous = FULL")
        db.conn.execute("PRAGMA foreign_keys = ON")
        db.conn.execute("PRAGMA secure_delete = ON")
        schema.migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def open_readonly(path: Path, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
    """Opens the database for reading alone; works for a user who may only read its three files.

    A process whose user cannot write there depends on `-wal` and `-shm` being there already: see `hold_open`.

    Raises:
        sqlite3.OperationalError: no such file, or it may not be opened.
    """
    db = _database(path, "ro", busy_timeout_ms)
    db.conn.execute("PRAGMA query_only = ON")
    return db


def hold_open(path: Path) -> sqlite3.Connection:
    """The supervisor's idle connection. While it is open no other's clean close removes `-wal` and `-shm`.

    It holds no transaction, so it never stops a checkpoint. Opening must touch the file: an unused connection
    has not attached to the WAL yet.
    """
    connection = _connect(path, "rw", BUSY_TIMEOUT_MS)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return connection


def _database(path: Path, mode: str, busy_timeout_ms: int) -> Database:
    # sqlite-utils would run the plugins of every installed package on this connection.
    return Database(_connect(path, mode, busy_timeout_ms), execute_plugins=False)


def _connect(path: Path, mode: str, busy_timeout_ms: int) -> sqlite3.Connection:
    # The path goes into a URI: `?` and `#` in a directory's name must not end it.
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout_ms / 1000, check_same_thread=False)


@dataclass(slots=True)
class WritableStore:
    """What the functions of `write` get: the database and the keys. It belongs to one thread."""

    db: Database
    keys: StoreKeys
    newest_sequence: int = 0


@dataclass(slots=True)
class Transaction:
    """One change in progress: SQL, its events and its audit rows, committed together."""

    store: WritableStore
    now: dt.datetime
    at: str = field(init=False)

    def __post_init__(self) -> None:
        self.at = timestamp(self.now)

    def run(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """Executes a statement; returns how many rows it changed."""
        return int(self.store.db.conn.execute(sql, parameters).rowcount)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        found: tuple[Any, ...] | None = self.store.db.conn.execute(sql, parameters).fetchone()
        return found

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.store.db.conn.execute(sql, parameters).fetchall()

    def event(
        self, type_: str, merchant: str | None, mode: str | None, snapshot: Mapping[str, object]
    ) -> None:
        """Puts an event into the outbox; `snapshot` is the whole object after the change."""
        cursor = self.store.db.conn.execute(
            "INSERT INTO event (id, type, merchant, mode, created_at, object) VALUES (?, ?, ?, ?, ?, ?)",
            [
                new_id("evt", self.now),
                type_,
                merchant,
                mode,
                self.at,
                msgspec.json.encode(snapshot).decode(),
            ],
        )
        self.store.newest_sequence = max(self.store.newest_sequence, int(cursor.lastrowid or 0))

    def audit(
        self,
        actor: Actor,
        action: str,
        subject: str,
        merchant: str | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Adds a row to the audit log."""
        audit.append(
            self.store.db,
            self.store.keys.audit_key,
            actor,
            action,
            subject,
            merchant=merchant,
            detail=detail,
            at=self.at,
        )


@contextlib.contextmanager
def transaction(
    store: WritableStore, now: dt.datetime | None = None, *, durable: bool = True
) -> Iterator[Transaction]:
    """`BEGIN IMMEDIATE` … `COMMIT`; rolled back on any exception.

    Within a batch of the writer, which has begun and will commit, it is a savepoint of that transaction.

    Args:
        store: the writable store.
        now: the time of the change; None reads the clock.
        durable: committed with `synchronous=FULL`, so that it survives a power cut; a batch always is.
    """
    connection = store.db.conn
    before = store.newest_sequence
    nested = connection.in_transaction
    if nested:
        connection.execute("SAVEPOINT change")
    else:
        begin(connection, durable=durable)
    try:
        yield Transaction(store, now or utc_now())
        connection.execute("RELEASE change" if nested else "COMMIT")
    except BaseException:
        store.newest_sequence = before
        # An error such as a full disk may have ended the transaction by itself.
        if connection.in_transaction and nested:
            connection.execute("ROLLBACK TO change")
            connection.execute("RELEASE change")
        elif connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def begin(connection: sqlite3.Connection, *, durable: bool) -> None:
    """Begins a transaction that holds the write lock from the start."""
    # Outside of a transaction: SQLite ignores the change within one.
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
