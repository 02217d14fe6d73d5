"""Payments that were closed as not charged are read again at the gateway after 1, 6 and 24 h.

"Unprocessed" is believed after `final_after_s`; a gateway may still charge later than that. Whoever was told
that nothing was charged, and was charged, must not find out from a statement: the approval is told as
`payment.late_approval`, counted, logged as an alarm, and then either taken (nothing else of the order is under
way) or voided.

Nothing about it is kept but in the payment's own row: after a start, whatever is still young enough is read once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sipivr.calls.gateways import ConnectorUnusable, Gateways
from sipivr.gateway.alterations import Alteration, Altered, judge_alteration, reversal_of
from sipivr.gateway.full import FullGateway
from sipivr.gateway.port import Approved, GatewayUnavailable, Job, LookUpFailed, Order, ShopAccount, Trade
from sipivr.gateway.resolution import judge_outcome
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.late_approvals import LateDecision
from sipivr.store.records import Payment
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

#: How long after the last of the times a payment is still looked at, if the gateway could not say.
GRACE_S: Final = 6 * 3600.0
MAX_TICK_S: Final = 60.0


class LateApprovals:
    """The clock that reads closed payments again.

    Args:
        writer: of `switch.db`.
        gateways: connectors and shop accounts.
        recent: payments closed as not charged since a time, whose ExecTran may have been sent.
        after_s: seconds after the closing at which a payment is read.
        count: counts `late_approvals`, `late_approvals_adopted`, `late_approvals_voided`, `late_reads`.
        clock: the time, UTC.
    """

    def __init__(
        self,
        writer: StoreWriter,
        gateways: Gateways,
        recent: Callable[[datetime], tuple[Payment, ...]],
        *,
        after_s: Sequence[float],
        count: Callable[[str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writer = writer
        self._gateways = gateways
        self._recent = recent
        self._after_s = sorted(after_s)
        self._count = count
        self._clock = clock
        self._read: dict[str, int] = {}
        self._alarmed: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the clock."""
        if self._after_s:
            self._task = asyncio.ensure_future(self._run())

    def stop(self) -> None:
        """Stops it."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        period_s = min(MAX_TICK_S, max(0.2, self._after_s[0] / 4))
        while True:
            try:
                await self.tick()
            except StoreError as error:
                self._count("late_read_failures")
                log.error("late approvals: %s", error)
            await asyncio.sleep(period_s)

    async def tick(self) -> None:
        """Reads every payment whose time has come."""
        now = self._clock()
        payments = self._recent(now - timedelta(seconds=self._after_s[-1] + GRACE_S))
        self._read = {payment.id: self._read.get(payment.id, 0) for payment in payments}
        self._alarmed &= self._read.keys()
        for payment in payments:
            assert payment.closed_at is not None
            age_s = (now - datetime.fromisoformat(payment.closed_at)).total_seconds()
            due = sum(age_s >= after for after in self._after_s)
            if due > self._read[payment.id] and await self._look(payment):
                self._read[payment.id] = due

    async def _look(self, payment: Payment) -> bool:
        """Whether it is settled until the next of its times."""
        shop = self._gateways.shop(payment.shop)
        if shop is None:
            return True
        try:
            gateway, account = self._gateways.of(shop), self._gateways.account(shop)
        except ConnectorUnusable:
            return False
        self._count("late_reads")
        found = await gateway.look_up(account, payment.gateway_order_id)
        if isinstance(found, LookUpFailed):
            return False
        order = Order(payment.gateway_order_id, payment.amount, Job(shop.job), payment.id)
        outcome = judge_outcome(found, order, since_sent_s=float("inf"))
        if not isinstance(outcome, Approved) or not isinstance(found, Trade):
            return True
        decision = await self._writer.run(
            write.late_approval,
            payment=payment.id,
            approval_number=outcome.approval_number,
            transaction_id=outcome.transaction_id,
            forward=outcome.forward,
        )
        if payment.id not in self._alarmed:
            self._alarmed.add(payment.id)
            self._count("late_approvals")
            log.critical("payment %s was closed as not charged and IS charged: %s", payment.id, decision)
        if decision is LateDecision.ADOPTED:
            self._count("late_approvals_adopted")
        if decision is LateDecision.VOID:
            return await self._void(gateway, account, payment, found)
        return decision is not LateDecision.WAIT

    async def _void(self, gateway: FullGateway, account: ShopAccount, payment: Payment, trade: Trade) -> bool:
        alteration = reversal_of(trade, self._clock())
        if not isinstance(alteration, Alteration):
            self._count("late_approvals_not_voided")
            log.critical("payment %s cannot be voided: %s; refund it by hand", payment.id, alteration.reason)
            return True
        try:
            result = await gateway.alter(account, trade.entry, alteration)
        except GatewayUnavailable:
            return False
        if not isinstance(result, Altered):
            judged = judge_alteration(await gateway.look_up(account, payment.gateway_order_id), alteration)
            if not isinstance(judged, Altered):
                return False
        await self._writer.run(write.late_approval_voided, payment=payment.id)
        self._count("late_approvals_voided")
        return True
