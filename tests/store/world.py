"""A small platform in a fresh database: a merchant with a shop and numbers, and another merchant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from sipivr.store import read, write
from sipivr.store.crypto import StoreKeys, generate_keys
from sipivr.store.database import WritableStore, open_writable
from sipivr.store.records import SYSTEM, Call, Mode, NumberUse, PaymentSession, Role

T0 = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
ADMIN = SYSTEM


@dataclass(slots=True)
class World:
    path: Path
    keys: StoreKeys
    store: WritableStore
    merchant: str
    other: str
    number: str
    self_service: str
    shop: str
    other_shop: str

    def session(self, order_id: str = "A1", now: dt.datetime | None = T0, **more: object) -> PaymentSession:
        return write.create_payment_session(
            self.store,
            ADMIN,
            merchant=self.merchant,
            shop=self.shop,
            order_id=order_id,
            amount=12300,
            now=now,
            **more,  # type: ignore[arg-type]
        )

    def call(self, merchant: str | None = None, now: dt.datetime | None = T0, **more: object) -> Call:
        values: dict[str, object] = {
            "number": self.number,
            "called": "+81312345678",
            "caller": "+819012341234",
            "mode": Mode.TEST,
            "node": "n1",
        } | more
        return write.call_started(self.store, merchant=merchant or self.merchant, now=now, **values)  # type: ignore[arg-type]

    def claimed(self, order_id: str = "A1") -> tuple[PaymentSession, Call]:
        session, call = self.session(order_id), self.call()
        assert session.identification_number
        got = write.claim_identification_number(
            self.store, merchant=self.merchant, digits=session.identification_number, call=call.id, now=T0
        )
        assert isinstance(got, PaymentSession)
        return got, call

    def session_now(self, session: str) -> PaymentSession:
        found = read.payment_session(self.store.db, session)
        assert found
        return found


def build(path: Path, keys: StoreKeys | None = None) -> World:
    keys = keys or generate_keys()
    store = WritableStore(open_writable(path), keys)
    merchant = write.put_merchant(store, ADMIN, name="Shop A", mode=Mode.TEST)
    other = write.put_merchant(store, ADMIN, name="Shop B", mode=Mode.TEST)
    connector = write.put_connector(
        store, ADMIN, kind="gmo", url="http://127.0.0.1:8090", mode=Mode.TEST, id="con_sandbox"
    )
    shops = [
        write.put_shop(
            store,
            ADMIN,
            merchant=m.id,
            name="Books",
            gateway_shop_id=f"tshop0000000{i}",
            gateway_password="shoppass-x9",
            connector=connector.id,
        )
        for i, m in enumerate((merchant, other))
    ]
    number = write.put_number(store, ADMIN, merchant=merchant.id, e164="+81312345678")
    free = write.put_number(
        store, ADMIN, merchant=merchant.id, e164="+81312345679", use=NumberUse.SELF_SERVICE
    )
    write.put_number(store, ADMIN, merchant=other.id, e164="+81398765432")
    write.put_principal(
        store, ADMIN, role=Role.ADMINISTRATOR, merchant=merchant.id, name="Boss", id="prn_boss"
    )
    return World(path, keys, store, merchant.id, other.id, number.id, free.id, shops[0].id, shops[1].id)
