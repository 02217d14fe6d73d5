"""Identification numbers: the digits that tie a call to a payment session.

The last digit is a Damm check digit: unlike Luhn's it finds every single wrong digit and every adjacent
transposition (Luhn misses 09 ↔ 90), so a slip of the finger is told from a number that was never issued. A
number is open until it is claimed, retired or expired, and is not issued again for 1,440 minutes: its row
stays that long and the primary key (merchant, digits) refuses a second one.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Final

from sipivr.store.database import Transaction
from sipivr.store.errors import IdentificationNumbersExhausted
from sipivr.store.identifiers import timestamp

VALIDITY: Final = dt.timedelta(minutes=5)
NO_REUSE: Final = dt.timedelta(minutes=1440)
MAX_OPEN_SHARE: Final = 0.2
UNLISTED_CALLER_DIGITS: Final = 10

#: How often to try a random number before the free ones are listed; a pool that is 80 % used fails 64 draws
#: with a probability of 6e-7.
_DRAWS: Final = 64
#: Above this the pool cannot be used up within the no-reuse time, and listing it would be slow.
_LISTED_POOL: Final = 1_000_000

# H. M. Damm, "Total anti-symmetrische Quasigruppen" (2004): a quasigroup of order 10 with zeros on the
# diagonal.
_DAMM: Final = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)


def check_digit(digits: str) -> str:
    """The Damm check digit of `digits`."""
    state = 0
    for digit in digits:
        state = _DAMM[state][int(digit)]
    return str(state)


def is_valid(digits: str) -> bool:
    """Whether `digits` has the form of an identification number: 4 to 10 digits, the last one fitting."""
    return 4 <= len(digits) <= 10 and digits.isascii() and digits.isdecimal() and check_digit(digits) == "0"


def issue(tx: Transaction, merchant: str, session: str, length: int) -> None:
    """Issues a number for a session, inside the caller's transaction.

    Raises:
        IdentificationNumbersExhausted: a fifth of the pool is open, or every number was issued within 24
        hours.
    """
    pool = 10 ** (length - 1)
    _drop_reusable(tx, merchant)
    opened = tx.row(
        "SELECT count(*) FROM identification_number"
        " WHERE merchant = ? AND status = 'open' AND expires_at > ? AND length(digits) = ?",
        [merchant, tx.at, length],
    )
    if opened and opened[0] >= int(pool * MAX_OPEN_SHARE):
        raise IdentificationNumbersExhausted("a fifth of all identification numbers is open; try again later")
    digits = _draw(tx, merchant, length, pool)
    tx.run(
        "INSERT INTO identification_number (merchant, digits, session, status, issued_at, expires_at)"
        " VALUES (?, ?, ?, 'open', ?, ?)",
        [merchant, digits, session, tx.at, timestamp(tx.now + VALIDITY)],
    )


def retire(tx: Transaction, session: str) -> None:
    """Takes the session's number out of use."""
    tx.run(
        "UPDATE identification_number SET status = 'retired' WHERE session = ? AND status <> 'retired'",
        [session],
    )


def _drop_reusable(tx: Transaction, merchant: str) -> None:
    """Removes numbers whose no-reuse time is over (the retention job does it for all merchants)."""
    tx.run(
        "DELETE FROM identification_number WHERE merchant = ? AND issued_at <= ? AND status <> 'claimed'",
        [merchant, timestamp(tx.now - NO_REUSE)],
    )


def _draw(tx: Transaction, merchant: str, length: int, pool: int) -> str:
    for _ in range(_DRAWS):
        body = f"{secrets.randbelow(pool):0{length - 1}d}"
        digits = body + check_digit(body)
        taken = tx.row(
            "SELECT 1 FROM identification_number WHERE merchant = ? AND digits = ?", [merchant, digits]
        )
        if taken is None:
            return digits
    if pool <= _LISTED_POOL:
        used = {
            int(row[0][:-1])
            for row in tx.rows(
                "SELECT digits FROM identification_number WHERE merchant = ? AND length(digits) = ?",
                [merchant, length],
            )
        }
        free = [value for value in range(pool) if value not in used]
        if free:
            body = f"{secrets.choice(free):0{length - 1}d}"
            return body + check_digit(body)
    raise IdentificationNumbersExhausted("every identification number was issued within the last 24 hours")
