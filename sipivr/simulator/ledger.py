"""The simulator's ledger: trades, charges and requests in a SQLite file of its own.

It is the independent witness of the tests: a charge is a row that is only ever added. It holds test cards'
names, never a number. One process writes it, from one thread.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS trades (
    shop_id TEXT NOT NULL, order_id TEXT NOT NULL,
    access_id TEXT NOT NULL UNIQUE, access_pass TEXT NOT NULL,
    job TEXT NOT NULL, status TEXT NOT NULL, amount INTEGER NOT NULL, tax INTEGER NOT NULL,
    item_code TEXT NOT NULL, method TEXT NOT NULL DEFAULT '', pay_times TEXT NOT NULL DEFAULT '',
    card TEXT NOT NULL DEFAULT '', mask TEXT NOT NULL DEFAULT '',
    forward TEXT NOT NULL DEFAULT '',
    approve TEXT NOT NULL DEFAULT '', tran_id TEXT NOT NULL DEFAULT '', process_date TEXT NOT NULL,
    client_field1 TEXT NOT NULL DEFAULT '', client_field2 TEXT NOT NULL DEFAULT '',
    client_field3 TEXT NOT NULL DEFAULT '', hidden_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (shop_id, order_id)
) STRICT;
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, shop_id TEXT NOT NULL, order_id TEXT NOT NULL,
    kind TEXT NOT NULL, amount INTEGER NOT NULL, card TEXT NOT NULL, client_field1 TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, call TEXT NOT NULL, shop_id TEXT NOT NULL,
    order_id TEXT NOT NULL, answer TEXT NOT NULL, delivery TEXT NOT NULL
) STRICT;
"""


@dataclass(slots=True)
class TradeRow:
    """One trade as the ledger has it; names are the columns."""

    shop_id: str
    order_id: str
    access_id: str
    access_pass: str
    job: str
    status: str
    amount: int
    tax: int
    item_code: str
    process_date: str
    method: str = ""
    pay_times: str = ""
    card: str = ""
    mask: str = ""
    forward: str = ""
    approve: str = ""
    tran_id: str = ""
    client_field1: str = ""
    client_field2: str = ""
    client_field3: str = ""
    hidden_until: float = 0.0


_COLUMNS: Final = tuple(TradeRow.__slots__)


class Ledger:
    """Opens or makes the file.

    Args:
        path: The file, or ``:memory:``.
    """

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        # FULL, so that a kill of machine or process never takes back what an answer has told.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, trade: TradeRow) -> bool:
        """Add a trade; False if the shop has one of this order id."""
        marks = ", ".join("?" for _ in _COLUMNS)
        cursor = self._db.execute(
            f"INSERT OR IGNORE INTO trades ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - our names
            [getattr(trade, column) for column in _COLUMNS],
        )
        return cursor.rowcount == 1

    def by_order(self, shop_id: str, order_id: str) -> TradeRow | None:
        """Find a shop's trade."""
        return self._one("shop_id = ? AND order_id = ?", (shop_id, order_id))

    def by_access(self, access_id: str, access_pass: str) -> TradeRow | None:
        """Find a trade by what EntryTran gave out."""
        return self._one("access_id = ? AND access_pass = ?", (access_id, access_pass))

    def change(self, trade: TradeRow, *, kind: str, amount: int, at: float) -> None:
        """Write a changed trade and the row of `charges` that says what happened, in one transaction."""
        assignments = ", ".join(f"{column} = ?" for column in _COLUMNS)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(
                f"UPDATE trades SET {assignments} WHERE access_id = ?",  # noqa: S608 - our names
                [*(getattr(trade, column) for column in _COLUMNS), trade.access_id],
            )
            self._db.execute(
                "INSERT INTO charges (at, shop_id, order_id, kind, amount, card, client_field1)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (at, trade.shop_id, trade.order_id, kind, amount, trade.card, trade.client_field1),
            )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def note(self, call: str, *, shop_id: str, order_id: str, answer: str, delivery: str, at: float) -> None:
        """Note a request; `answer` is ``OK`` or the error codes."""
        self._db.execute(
            "INSERT INTO requests (at, call, shop_id, order_id, answer, delivery) VALUES (?, ?, ?, ?, ?, ?)",
            (at, call, shop_id, order_id, answer, delivery),
        )

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return everything but passwords."""

        def rows(sql: str) -> list[dict[str, Any]]:
            return [dict(row) for row in self._db.execute(sql)]

        trades = rows("SELECT * FROM trades ORDER BY rowid")
        for trade in trades:
            del trade["access_pass"]
        return {
            "trades": trades,
            "charges": rows("SELECT * FROM charges ORDER BY id"),
            "requests": rows("SELECT * FROM requests ORDER BY id"),
        }

    def _one(self, where: str, values: tuple[str, ...]) -> TradeRow | None:
        sql = f"SELECT {', '.join(_COLUMNS)} FROM trades WHERE {where}"  # noqa: S608 - our own conditions
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else TradeRow(**dict(row))
