"""Every query on `switch.db`, on a read-only connection; the only module of the store that `api` imports.

Each function reads to the end before it returns, so no read transaction outlives it (a long one would stop
the WAL from being checkpointed). `merchant=None` means any merchant and is for the platform and for `sipivr`;
an object of another merchant is None, as one that does not exist. `api` has no field keys: what it may show of a
caller is the masked form in `Call.caller`; functions that take `keys` are for `sipivr`.

Signatures::

    open_readonly(path) -> Database             hold_open(path) -> sqlite3.Connection   (supervisor)

    merchant(db, id) -> Merchant | None         merchants(db) -> tuple[Merchant, ...]
    number(db, id) -> Number | None             number_by_e164(db, e164) -> Number | None
    numbers(db, merchant) -> tuple[Number, ...]
    shop(db, id, merchant=None) -> Shop | None  shops(db, merchant) -> tuple[Shop, ...]
    shop_password(db, keys, shop) -> str        connector(db, id) -> Connector | None
    connectors(db) -> tuple[Connector, ...]     trunks(db) -> tuple[Trunk, ...]
    principal(db, id) -> Principal | None       principals(db, merchant) -> tuple[Principal, ...]
    caller_allowed(db, merchant, caller_hash) -> bool
    caller_blocked(db, merchant, caller_hash) -> bool

    payment_session(db, id, merchant=None) -> PaymentSession | None
    payment_sessions(db, merchant, *, status=None, order_id=None, shop=None, starting_after=None, limit=20)
        -> Page[PaymentSession]
    call(db, id, merchant=None) -> Call | None  (with legs and timeline)
    calls(db, merchant, *, status=None, outcome=None, refusal=None, number=None, session=None, started_from=None,
          started_before=None, starting_after=None, limit=20) -> Page[Call]     (without legs and timeline)
    ladder(db, call) -> tuple[LadderEntry, ...]
    caller_number(db, keys, call) -> str | None
    payment(db, id, merchant=None) -> Payment | None
    payments(db, merchant, *, status=None, session=None, order_id=None, shop=None, created_from=None,
             created_before=None, starting_after=None, limit=20) -> Page[Payment]
    access_pass(db, keys, payment) -> str | None
    open_intents(db) -> tuple[Payment, ...]
    events_after(db, sequence, *, merchant=None, limit=100) -> tuple[EventRecord, ...]
    newest_sequence(db) -> int
    claim_failures(db, *, merchant, since, caller_hash=None) -> int
    counts(db) -> Counts
"""

from __future__ import annotations
