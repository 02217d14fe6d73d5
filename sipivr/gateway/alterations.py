"""What may be done with a trade after its charge: settle, void, refund, another amount.

None of it takes a card; the references of the trade suffice. An alteration is sent at most once by the port.
If its answer does not come it is `AlterationUnknown`, and `judge_alteration` says from a look-up whether it stands.

Which of the gateway's reversals is right depends on the calendar in Japan::

    authorized, not settled      VOID       releases the reservation
    sale, same day               VOID       as if it had not been
    sale, same month             RETURN     refund
    sale, month crossed          RETURNX    refund over the closing of the month
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from sipivr.gateway.port import (
    MAX_AMOUNT_YEN,
    MAX_TAX_YEN,
    Declined,
    Entry,
    LookUp,
    LookUpFailed,
    ShopAccount,
    Trade,
    TradeStatus,
)

#: The gateway's clock; Japan has no summer time.
JST: Final = dt.timezone(dt.timedelta(hours=9), "JST")
#: Gateways forget how to alter a trade after this long.
MAX_AGE: Final = dt.timedelta(days=180)

_SALES: Final = (TradeStatus.CAPTURE, TradeStatus.SALES)


class Alteration(enum.StrEnum):
    """What becomes of the trade."""

    SETTLE = "SALES"
    VOID = "VOID"
    REFUND = "RETURN"
    REFUND_CROSS_MONTH = "RETURNX"


@dataclass(frozen=True, slots=True)
class Amount:
    """Yen: `amount_yen` 1 to 99,999,999, `tax_yen` on top of it up to 9,999,999."""

    amount_yen: int
    tax_yen: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.amount_yen <= MAX_AMOUNT_YEN:
            raise ValueError(f"amount_yen: 1 to {MAX_AMOUNT_YEN}")
        if not 0 <= self.tax_yen <= MAX_TAX_YEN:
            raise ValueError(f"tax_yen: 0 to {MAX_TAX_YEN}")


@dataclass(frozen=True, slots=True)
class Altered:
    """The alteration stands. `processed_at` is None if the gateway did not say."""

    approval_number: str
    transaction_id: str
    forward: str
    processed_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class AlterationUnknown:
    """Sent, and no usable answer. Look the trade up and `judge_alteration`; do not send it again before."""

    detail: str
    codes: tuple[str, ...] = ()


AlterationResult: TypeAlias = Altered | Declined | AlterationUnknown


class Alterations(Protocol):
    """The half of a gateway that changes trades."""

    async def alter(
        self, account: ShopAccount, entry: Entry, alteration: Alteration, amount: Amount | None = None
    ) -> AlterationResult:
        """Settle (`amount` needed: that of the trade), void or refund a trade.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: A settlement without an amount.
        """
        ...

    async def change_amount(
        self, account: ShopAccount, entry: Entry, job: TradeStatus, amount: Amount
    ) -> AlterationResult:
        """Give a trade that stands as `job` (AUTH or CAPTURE) another amount; it gets a new approval.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `job` is neither.
        """
        ...


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The trade does not stand where this may be done; nothing was sent. `reason` is a word of ours."""

    reason: str


def settlement_of(trade: Trade, now: dt.datetime) -> Alteration | NotAllowed:
    """Say whether an authorization may be settled."""
    if trade.status is not TradeStatus.AUTH:
        return NotAllowed("not_authorized")
    return NotAllowed("too_old") if _too_old(trade, now) else Alteration.SETTLE


def reversal_of(trade: Trade, now: dt.datetime) -> Alteration | NotAllowed:
    """Choose the reversal that the gateway takes today (see the module's table).

    Args:
        trade: As just looked up.
        now: Aware.
    """
    if trade.status is TradeStatus.AUTH:
        return NotAllowed("too_old") if _too_old(trade, now) else Alteration.VOID
    if trade.status not in _SALES:
        return NotAllowed("not_charged")
    if _too_old(trade, now):
        return NotAllowed("too_old")
    if trade.processed_at is None:
        return NotAllowed("date_unknown")
    then, today = trade.processed_at.astimezone(JST).date(), now.astimezone(JST).date()
    if then == today:
        return Alteration.VOID
    return (
        Alteration.REFUND
        if (then.year, then.month) == (today.year, today.month)
        else Alteration.REFUND_CROSS_MONTH
    )


def amount_change_of(trade: Trade, now: dt.datetime) -> TradeStatus | NotAllowed:
    """Say as which job the trade's amount may be changed."""
    if _too_old(trade, now):
        return NotAllowed("too_old")
    if trade.status is TradeStatus.AUTH:
        return TradeStatus.AUTH
    return TradeStatus.CAPTURE if trade.status in _SALES else NotAllowed("not_charged")


def judge_alteration(found: LookUp, alteration: Alteration) -> Altered | NotAllowed | None:
    """Decide after a lost answer whether the alteration stands; None: ask again.

    Returns:
        `Altered` if the trade stands where the alteration leads, `NotAllowed("not_done")` if it stands elsewhere.
    """
    if isinstance(found, LookUpFailed):
        return None
    if not isinstance(found, Trade):
        return NotAllowed("not_done")
    if found.status.value == alteration.value:
        return Altered(found.approval_number, found.transaction_id, found.forward, found.processed_at)
    return NotAllowed("not_done")


def judge_amount(found: LookUp, amount: Amount) -> bool | None:
    """Tell after a lost answer whether the trade has the new amount; None: ask again."""
    if isinstance(found, LookUpFailed):
        return None
    return isinstance(found, Trade) and (found.amount_yen, found.tax_yen) == (
        amount.amount_yen,
        amount.tax_yen,
    )


def _too_old(trade: Trade, now: dt.datetime) -> bool:
    return trade.processed_at is not None and now - trade.processed_at > MAX_AGE
