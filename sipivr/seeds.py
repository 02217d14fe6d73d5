"""The first rows of `switch.db`: what a newcomer needs for a sandbox payment, and nothing of the outside.

One merchant in test mode with a number that PBXs transfer to, a shop at the sandbox gateway, one trunk (this
machine), one allowed caller, and two principals of that merchant: an administrator and an API key. Their
credentials are `api`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sipivr.config import Paths
from sipivr.store import crypto, database, schema, write
from sipivr.store.records import SYSTEM, Mode, NumberUse, Role

#: What the demonstration's telephone is, and what it dials: 03-1234-5678, and its national form.
CALLER: Final = "+81312340001"
NUMBER: Final = "+81312345678"
DIALLED: Final = "0312345678"
MERCHANT: Final = "mer_demo"
SHOP: Final = "shop_demo"
ADMINISTRATOR: Final = "admin"
#: The simulator's own shop.
SANDBOX_SHOP_ID: Final = "tshop00000001"
SANDBOX_SHOP_PASSWORD: Final = "sandbox001"  # noqa: S105 - opens nothing but the simulator

KEY_PERMISSIONS: Final = (
    "payment_sessions:read",
    "payment_sessions:write",
    "calls:read",
    "calls:write",
    "calls:dial",
    "payments:read",
    "events:read",
    "shops:read",
    "numbers:read",
    "caller_numbers:read",
    "merchant:read",
    "metrics:read",
)
ADMINISTRATOR_PERMISSIONS: Final = (
    *KEY_PERMISSIONS,
    "merchant:write",
    "caller_numbers:write",
    "numbers:write",
    "api_keys:write",
    "payments:write",
    "refunds:write",
)


@dataclass(frozen=True, slots=True)
class Planted:
    """The principals that `api` makes credentials for."""

    administrator: str
    api_key: str


def plant(paths: Paths, simulator: str) -> Planted:
    """Makes the key file and `switch.db` with its first rows.

    Args:
        paths: the node's files; their directories exist.
        simulator: address:port of the sandbox gateway, empty for none (then the connector is inactive).

    Raises:
        FileExistsError: there is a key file already.
    """
    keys = crypto.generate_keys()
    crypto.save_keys(keys, paths.keys)
    db = database.open_writable(paths.switch_db)
    try:
        schema.migrate(db)
        return _rows(database.WritableStore(db, keys), simulator)
    finally:
        db.close()


def _rows(store: database.WritableStore, simulator: str) -> Planted:
    write.put_merchant(store, SYSTEM, id=MERCHANT, name="デモ商店", mode=Mode.TEST, language="ja")
    write.put_number(
        store,
        SYSTEM,
        id="num_demo",
        merchant=MERCHANT,
        e164=NUMBER,
        use=NumberUse.TRANSFER_IN,
        line_limit=5,
        language="ja",
    )
    write.put_connector(
        store,
        SYSTEM,
        id="con_sandbox",
        kind="gmo",
        url=f"http://{simulator or '127.0.0.1:8090'}",
        mode=Mode.TEST,
        active=bool(simulator),
    )
    write.put_shop(
        store,
        SYSTEM,
        id=SHOP,
        merchant=MERCHANT,
        name="デモ商店",
        name_spoken={"ja": "デモ商店", "en": "Demo Store"},
        gateway_shop_id=SANDBOX_SHOP_ID,
        gateway_password=SANDBOX_SHOP_PASSWORD,
        connector="con_sandbox",
    )
    write.put_trunk(
        store,
        SYSTEM,
        id="trk_loopback",
        name="This machine",
        networks=("127.0.0.0/8", "::1/128"),
        merchant=MERCHANT,
        trust_identity=True,
    )
    write.allow_caller(store, SYSTEM, merchant=MERCHANT, e164=CALLER)
    administrator = write.put_principal(
        store,
        SYSTEM,
        role=Role.ADMINISTRATOR,
        merchant=MERCHANT,
        name=ADMINISTRATOR,
        permissions=ADMINISTRATOR_PERMISSIONS,
    )
    key = write.put_principal(
        store, SYSTEM, role=Role.API_KEY, merchant=MERCHANT, name="first key", permissions=KEY_PERMISSIONS
    )
    return Planted(administrator.id, key.id)
