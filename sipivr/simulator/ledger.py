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
    expire TEXT NOT NULL DEFAULT '', site_id TEXT NOT NULL DEFAULT '', member_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (shop_id, order_id)
) STRICT;
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, shop_id TEXT NOT NULL, order_id TEXT NOT NULL,
    kind TEXT NOT NULL, amount INTEGER NOT NULL, card TEXT NOT NULL, client_field1 TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS members (
    site_id TEXT NOT NULL, member_id TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (site_id, member_id)
) STRICT;
CREATE TABLE IF NOT EXISTS cards (
    site_id TEXT NOT NULL, member_id TEXT NOT NULL, sequence INTEGER NOT NULL,
    card TEXT NOT NULL, length INTEGER NOT NULL, tail TEXT NOT NULL, expire TEXT NOT NULL,
    holder TEXT NOT NULL, label TEXT NOT NULL, preferred INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (site_id, member_id, sequence)
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
    expire: str = ""
    site_id: str = ""
    member_id: str = ""


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
        self._add_new_columns()

    def _add_new_columns(self) -> None:
        """A ledger of an earlier version lacks some columns of `trades`."""
        there = {row["name"] for row in self._db.execute("PRAGMA table_info(trades)")}
        for column in ("expire", "site_id", "member_id"):
            if column not in there:
                self._db.execute(f"ALTER TABLE trades ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")

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

    # -- members and registered cards -----------------------------------------------------------------------

    def add_member(self, site: str, member: str, name: str) -> bool:
        """Add a member; False if there is one."""
        done = self._db.execute("INSERT OR IGNORE INTO members VALUES (?, ?, ?)", (site, member, name))
        return done.rowcount == 1

    def rename_member(self, site: str, member: str, name: str) -> None:
        """Change a member's name."""
        self._db.execute(
            "UPDATE members SET name = ? WHERE site_id = ? AND member_id = ?", (name, site, member)
        )

    def member(self, site: str, member: str) -> sqlite3.Row | None:
        """Find a member."""
        sql = "SELECT * FROM members WHERE site_id = ? AND member_id = ?"
        row: sqlite3.Row | None = self._db.execute(sql, (site, member)).fetchone()
        return row

    def delete_member(self, site: str, member: str) -> None:
        """Remove a member and its cards."""
        self._db.execute("DELETE FROM cards WHERE site_id = ? AND member_id = ?", (site, member))
        self._db.execute("DELETE FROM members WHERE site_id = ? AND member_id = ?", (site, member))

    def cards(self, site: str, member: str, *, deleted: bool = False) -> list[sqlite3.Row]:
        """A member's cards in their order."""
        sql = "SELECT * FROM cards WHERE site_id = ? AND member_id = ? AND deleted <= ? ORDER BY sequence"
        return self._db.execute(sql, (site, member, int(deleted))).fetchall()

    def card(self, site: str, member: str, number: int, mode: str) -> sqlite3.Row | None:
        """Find a card by its physical sequence (mode 1) or its place among those that are there (mode 0)."""
        cards = self.cards(site, member)
        if mode == "0":
            return cards[number] if number < len(cards) else None
        return next((card for card in cards if card["sequence"] == number), None)

    def put_card(self, site: str, member: str, sequence: int | None, **columns: str | int) -> int:
        """Add a card, or replace that of `sequence`; returns its sequence."""
        if sequence is None:
            sql = "SELECT coalesce(max(sequence) + 1, 0) FROM cards WHERE site_id = ? AND member_id = ?"
            (sequence,) = self._db.execute(sql, (site, member)).fetchone()
        if columns.get("preferred"):
            self._db.execute(
                "UPDATE cards SET preferred = 0 WHERE site_id = ? AND member_id = ?", (site, member)
            )
        names = ("card", "length", "tail", "expire", "holder", "label", "preferred")
        self._db.execute(
            f"INSERT OR REPLACE INTO cards (site_id, member_id, sequence, {', '.join(names)})"  # noqa: S608 - our names
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (site, member, sequence, *(columns[name] for name in names)),
        )
        assert sequence is not None
        return sequence

    def delete_card(self, site: str, member: str, sequence: int) -> None:
        """Mark a card as deleted; its sequence is not given again."""
        self._db.execute(
            "UPDATE cards SET deleted = 1 WHERE site_id = ? AND member_id = ? AND sequence = ?",
            (site, member, sequence),
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
            "members": rows("SELECT * FROM members ORDER BY rowid"),
            "cards": rows("SELECT * FROM cards ORDER BY rowid"),
            "requests": rows("SELECT * FROM requests ORDER BY id"),
        }

    def _one(self, where: str, values: tuple[str, ...]) -> TradeRow | None:
        sql = f"SELECT {', '.join(_COLUMNS)} FROM trades WHERE {where}"  # noqa: S608 - our own conditions
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else TradeRow(**dict(row))
