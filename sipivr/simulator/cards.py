"""What each test card does. Numbers are in `docs/simulator.md`; here and in the ledger a card is a name."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Delivery(enum.StrEnum):
    """How the answer is (not) delivered."""

    NORMAL = "normal"
    DROP = "drop"  # the connection is reset, not a byte of the answer
    PARTIAL = "partial"  # half of the answer's body, then reset
    ERROR_500 = "error_500"
    GARBAGE = "garbage"
    TRICKLE = "trickle"  # byte by byte
    TWICE = "twice"  # the answer a second time right behind the first


class Wait(enum.StrEnum):
    """Before the answer; the lengths are the simulator's settings."""

    NONE = "none"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What ExecTran does with one card.

    Attributes:
        charges: Whether the ledger shows a charge afterwards.
        code: ErrInfo of the answer; empty for an approval.
        delivery: How the answer goes out.
        wait: How long it takes.
        hidden: SearchTrade answers UNPROCESSED for a while although the charge stands.
        wrong_check_string: The approval carries a CheckString that does not hold.
    """

    charges: bool
    code: str = ""
    delivery: Delivery = Delivery.NORMAL
    wait: Wait = Wait.NONE
    hidden: bool = False
    wrong_check_string: bool = False


_APPROVED: Final = Behaviour(charges=True)


def _declined(code: str) -> Behaviour:
    return Behaviour(charges=False, code=code)


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "visa-approved": _APPROVED,
    "mastercard-approved": _APPROVED,
    "jcb-approved": _APPROVED,
    "amex-approved": _APPROVED,
    "diners-approved": _APPROVED,
    "discover-approved": _APPROVED,
    "unionpay-approved": _APPROVED,
    "decline-card": _declined("42G120000"),
    "decline-limit": _declined("42G030000"),
    "decline-balance": _declined("42G020000"),
    "decline-issuer": _declined("42G920000"),
    "decline-number": _declined("42G650000"),
    "decline-expiry": _declined("42G830000"),
    "decline-security-code": _declined("42G440000"),
    "security-code-missing": _declined("42G450000"),
    "brand-not-accepted": _declined("E41170002"),
    "shop-settings": _declined("E61010003"),
    "raw-pan-refused": _declined("E61040001"),
    "congested": _declined("E92000001"),
    "try-later": _declined("E61010001"),
    "acquirer-failure": _declined("42C030000"),
    "timeout-charged": Behaviour(charges=True, code="E91020001"),
    "timeout-not-charged": _declined("E91020001"),
    "lost-answer-charged": Behaviour(charges=True, delivery=Delivery.DROP),
    "lost-request": Behaviour(charges=False, delivery=Delivery.DROP),
    "error-500-charged": Behaviour(charges=True, delivery=Delivery.ERROR_500),
    "error-500-not-charged": Behaviour(charges=False, delivery=Delivery.ERROR_500),
    "garbage-charged": Behaviour(charges=True, delivery=Delivery.GARBAGE),
    "wrong-check-string": Behaviour(charges=True, wrong_check_string=True),
    "trickle-charged": Behaviour(charges=True, delivery=Delivery.TRICKLE),
    "slow": Behaviour(charges=True, wait=Wait.SLOW),
    "late-approval": Behaviour(charges=True, code="E91020001", hidden=True),
    "still-processing": _declined("E90010001"),
    "already-settled": _declined("E11010001"),
    "duplicate-answer": Behaviour(charges=True, delivery=Delivery.TWICE),
}
