"""What is kept how long, and the job that removes the rest, in batches so that no other write waits long.

First form: identification numbers, ladders, authorization detail, events. Still to come with the merchants'
settings: call records, order data after 180 days, and the report of expiring authorizations.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sipivr.store.database import WritableStore, transaction
from sipivr.store.identifiers import timestamp, utc_now
from sipivr.store.records import SYSTEM

_BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Periods; the defaults are the design's."""

    identification_numbers: dt.timedelta = dt.timedelta(hours=24)
    ladders: dt.timedelta = dt.timedelta(days=7)
    authorization_detail: dt.timedelta = dt.timedelta(days=30)
    events: dt.timedelta = dt.timedelta(days=30)
    claim_failures: dt.timedelta = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """How many rows were removed, or emptied of detail (`authorizations`)."""

    identification_numbers: int
    ladder_entries: int
    authorizations: int
    events: int
    claim_failures: int
    more: bool


_JOBS: Final = (
    # A claimed number's row ties a running call to its session; it goes when the session has ended.
    (
        "identification_numbers",
        "DELETE FROM identification_number WHERE (merchant, digits) IN (SELECT merchant, digits"
        " FROM identification_number WHERE issued_at <= ? AND status <> 'claimed' LIMIT ?)",
    ),
    ("ladders", "DELETE FROM ladder WHERE id IN (SELECT id FROM ladder WHERE at <= ? ORDER BY at LIMIT ?)"),
    # What settle, void and refund need (access id and password, transaction id) stays for its 180 days.
    (
        "authorization_detail",
        "UPDATE payment SET approval_number = NULL, error_codes = '[]', error_category = NULL WHERE id IN"
        " (SELECT id FROM payment WHERE closed_at <= ? AND (approval_number IS NOT NULL"
        " OR error_codes <> '[]' OR error_category IS NOT NULL) ORDER BY closed_at LIMIT ?)",
    ),
    (
        "events",
        "DELETE FROM event WHERE sequence IN"
        " (SELECT sequence FROM event WHERE created_at <= ? ORDER BY created_at LIMIT ?)",
    ),
    (
        "claim_failures",
        "DELETE FROM claim_failure WHERE id IN (SELECT id FROM claim_failure WHERE at <= ? LIMIT ?)",
    ),
)


def apply_retention(
    store: WritableStore, policy: RetentionPolicy | None = None, *, now: dt.datetime | None = None
) -> RetentionReport:
    """Removes one batch of each kind that is over its time; run again while the report says `more`."""
    policy = policy or RetentionPolicy()
    moment = now or utc_now()
    counts = []
    for name, sql in _JOBS:
        period: dt.timedelta = getattr(policy, name)
        with transaction(store, moment, durable=False) as tx:
            counts.append(tx.run(sql, [timestamp(moment - period), _BATCH]))
    if any(counts):
        with transaction(store, moment) as tx:
            removed = dict(zip((name for name, _ in _JOBS), counts, strict=True))
            tx.audit(SYSTEM, "retention.apply", "switch.db", None, removed)
    return RetentionReport(
        identification_numbers=counts[0],
        ladder_entries=counts[1],
        authorizations=counts[2],
        events=counts[3],
        claim_failures=counts[4],
        more=_BATCH in counts,
    )
