"""What admission and calls look up, on one read-only connection of the loop's thread.

Reads are single indexed rows of tens of microseconds and never wait for the writer (WAL). Trunks are kept in
memory, because every INVITE asks for one; `refresh` is called when the store has changed them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sipivr.store import crypto, read
from sipivr.store.crypto import StoreKeys
from sipivr.store.identifiers import timestamp
from sipivr.store.records import (
    Call,
    Connector,
    Merchant,
    Number,
    Payment,
    PaymentChange,
    PaymentSession,
    Principal,
    Shop,
    Trunk,
)


class StoredDirectory:
    """`services.Directory`, and what the gateways ask, on `switch.db`.

    Args:
        path: of the database.
        keys: for the hash of caller numbers and shops' passwords.
    """

    def __init__(self, path: Path, keys: StoreKeys) -> None:
        self._db = read.open_readonly(path)
        self._keys = keys
        self._trunks: dict[str, Trunk] = {}
        self.refresh()

    def refresh(self) -> tuple[Trunk, ...]:
        """Reads the trunks anew."""
        self._trunks = {trunk.id: trunk for trunk in read.trunks(self._db)}
        return tuple(self._trunks.values())

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()

    def trunk(self, id: str | None) -> Trunk | None:
        """See `services.Directory`."""
        return self._trunks.get(id) if id is not None else None

    def number(self, candidates: tuple[str, ...]) -> Number | None:
        """See `services.Directory`."""
        for candidate in candidates:
            found = read.number_by_e164(self._db, candidate)
            if found is not None:
                return found
        return None

    def number_by_id(self, id: str) -> Number | None:
        """See `services.Directory`."""
        return read.number(self._db, id)

    def merchant(self, id: str) -> Merchant | None:
        """See `services.Directory`."""
        return read.merchant(self._db, id)

    def shop(self, id: str) -> Shop | None:
        """See `services.Directory`."""
        return read.shop(self._db, id)

    def connector(self, id: str) -> Connector | None:
        """A connector."""
        return read.connector(self._db, id)

    def shop_password(self, shop: str) -> str:
        """Opens a shop's password, for one charge."""
        return read.shop_password(self._db, self._keys, shop)

    def caller_allowed(self, merchant: str, caller: str) -> bool:
        """See `services.Directory`."""
        return read.caller_allowed(self._db, merchant, crypto.caller_hash(self._keys, caller))

    def caller_blocked(self, merchant: str, caller: str) -> bool:
        """See `services.Directory`."""
        return read.caller_blocked(self._db, merchant, crypto.caller_hash(self._keys, caller))

    def extension(self, principal: str) -> str | None:
        """See `services.Directory`."""
        found = read.principal(self._db, principal)
        return found.extension if found is not None else None

    def attempts(self, session: str) -> int:
        """See `services.Directory`."""
        found = read.payment_session(self._db, session)
        if found is None:
            return 0
        page = read.payments(self._db, found.merchant, session=session, limit=10)
        return len(page.items)

    def open_intents(self) -> tuple[Payment, ...]:
        """Payments whose outcome is not known."""
        return read.open_intents(self._db)

    def lately_not_charged(self, since: datetime) -> tuple[Payment, ...]:
        """Payments closed as not charged since then whose ExecTran may have been sent."""
        return read.lately_not_charged(self._db, timestamp(since))

    def payment(self, id: str) -> Payment | None:
        """A payment."""
        return read.payment(self._db, id)

    def open_changes(self) -> tuple[PaymentChange, ...]:
        """Changes of payments whose outcome is not known."""
        return read.open_changes(self._db)

    def principal(self, id: str) -> Principal | None:
        """Who gives a command."""
        return read.principal(self._db, id)

    def call(self, id: str) -> Call | None:
        """A call's record."""
        return read.call(self._db, id)

    def session(self, id: str) -> PaymentSession | None:
        """A payment session."""
        return read.payment_session(self._db, id)

    def newest_sequence(self) -> int:
        """Of the events committed so far."""
        return read.newest_sequence(self._db)
