"""What a look-up proves: pure rules for orders whose outcome is open.

The caller asks `Gateway.look_up` with back-off and hands the answer in; these functions decide what it
means. They need references only, never a card, so they work after a crash as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from sipivr.gateway.port import (
    Approved,
    Entry,
    LookUp,
    LookUpFailed,
    NoSuchTrade,
    Order,
    OrderIdTaken,
    Trade,
    TradeStatus,
)

#: Until so long after the last byte of ExecTran, "unprocessed" and "no such trade" are not final.
FINAL_AFTER_S: Final = 900.0

#: Any of these on a trade that carries our intent's id is our charge, whatever has been made of it since.
_CHARGED: Final = {
    TradeStatus.CHECK,
    TradeStatus.AUTH,
    TradeStatus.SAUTH,
    TradeStatus.CAPTURE,
    TradeStatus.SALES,
}
_REVERSED: Final = {TradeStatus.VOID, TradeStatus.RETURN, TradeStatus.RETURNX}


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Not final; the order stays locked."""


@dataclass(frozen=True, slots=True)
class EnterAgain:
    """The gateway does not know the order: `enter` may be called again with the same order id."""


@dataclass(frozen=True, slots=True)
class NotCharged:
    """Final: the customer does not owe this charge. `reason` is ``unprocessed``, ``no_such_trade`` or
    ``reversed`` (charged, and voided or refunded since).
    """

    reason: str


EntryJudgement: TypeAlias = Entry | EnterAgain | OrderIdTaken | AskAgain
OutcomeJudgement: TypeAlias = Approved | NotCharged | OrderIdTaken | AskAgain


def judge_entry(found: LookUp, order: Order, *, sent_unanswered: bool) -> EntryJudgement:
    """Decide after a lost EntryTran answer, or an order id that is taken, whether the trade is ours.

    Args:
        found: What `look_up` said.
        order: What we had asked for.
        sent_unanswered: Whether an EntryTran of this very order id was sent and not answered.
    """
    match found:
        case LookUpFailed():
            return AskAgain()
        case NoSuchTrade():
            return EnterAgain()
        case Trade():
            same = (
                sent_unanswered
                and found.status is TradeStatus.UNPROCESSED
                and found.order_id == order.order_id
                and (found.amount_yen, found.tax_yen) == (order.amount_yen, order.tax_yen)
                and found.job == order.job.value
            )
            return found.entry if same else OrderIdTaken(())


def judge_outcome(
    found: LookUp, order: Order, *, since_sent_s: float, final_after_s: float = FINAL_AFTER_S
) -> OutcomeJudgement:
    """Decide what became of a charge whose answer did not come.

    Args:
        found: What `look_up` said.
        order: What was asked for; `Order.intent_id` proves that a processed trade is ours.
        since_sent_s: Seconds since the last byte of ExecTran went out (after a crash: since the intent's
            last known time).
        final_after_s: From then on an unprocessed trade is final.
    """
    final = since_sent_s >= final_after_s
    match found:
        case LookUpFailed():
            return AskAgain()
        case NoSuchTrade():
            return NotCharged("no_such_trade") if final else AskAgain()
        case Trade(status=TradeStatus.UNPROCESSED):
            return NotCharged("unprocessed") if final else AskAgain()
        case Trade() if found.status in (TradeStatus.AUTHENTICATED, TradeStatus.OTHER):
            return AskAgain()
        case Trade() if found.intent_id != order.intent_id:
            return OrderIdTaken(())
        case Trade() if found.status in _REVERSED:
            return NotCharged("reversed")
        case Trade() if found.status in _CHARGED:
            return Approved(
                order_id=found.order_id,
                approval_number=found.approval_number,
                transaction_id=found.transaction_id,
                forward=found.forward,
                processed_at=found.processed_at,
            )
        case _:
            return AskAgain()
