"""Carries out what was asked for a payment after its charge: at most once, and known to its end.

The gateway is asked where the trade stands, the rules (`gateway.alterations`) say which of its jobs is right
today, "sent" is committed, the job is sent once. An answer that does not come is looked up until the gateway
shows it; a job that does not show for `SURE_AFTER_S` was not done. Nothing here knows a card.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from sipivr.calls.charging import pauses
from sipivr.calls.gateways import ConnectorUnusable, Gateways
from sipivr.gateway.alterations import (
    Alteration,
    AlterationUnknown,
    Altered,
    Amount,
    NotAllowed,
    amount_change_of,
    judge_alteration,
    judge_amount,
    reversal_of,
    settlement_of,
)
from sipivr.gateway.full import FullGateway
from sipivr.gateway.port import Declined, GatewayUnavailable, NoSuchTrade, ShopAccount, Trade, TradeStatus
from sipivr.store import write
from sipivr.store.errors import StoreError
from sipivr.store.records import ChangeKind, ChangeStatus, Payment, PaymentChange
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

#: A job that the gateway does not show so long after it was sent was not done.
SURE_AFTER_S: Final = 60.0
#: Look-ups before a change that was never sent is given up.
TRIES: Final = 4

_Job = Alteration | TradeStatus


class PaymentChanges:
    """Carries changes out in the background. One for each `sipivr` process.

    Args:
        writer: of `switch.db`.
        gateways: connectors and shop accounts.
        payment: reads a payment.
        open_changes: reads the changes without an outcome.
        clock: the time, UTC.
        sure_after_s: see `SURE_AFTER_S`.
    """

    def __init__(
        self,
        writer: StoreWriter,
        gateways: Gateways,
        *,
        payment: Callable[[str], Payment | None],
        open_changes: Callable[[], tuple[PaymentChange, ...]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sure_after_s: float = SURE_AFTER_S,
    ) -> None:
        self._writer = writer
        self._gateways = gateways
        self._payment = payment
        self._open_changes = open_changes
        self._clock = clock
        self._sure_after_s = sure_after_s
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, change: PaymentChange) -> None:
        """Carries out a change that was begun."""
        self._spawn(self._run(change))

    def recover(self) -> int:
        """Takes up what is open after a start. Returns how many there were."""
        changes = self._open_changes()
        for change in changes:
            self._spawn(self._run(change))
        return len(changes)

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Lets running ones finish; what is left is resolved by the next start."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a change of a payment failed: %s", type(task.exception()).__name__)

    async def _run(self, change: PaymentChange) -> None:
        payment = self._payment(change.payment)
        shop = self._gateways.shop(payment.shop) if payment is not None else None
        if payment is None or shop is None:
            log.error("change %s: its payment or shop is gone", change.id)
            return
        try:
            gateway, account = self._gateways.of(shop), self._gateways.account(shop)
            if change.status is ChangeStatus.PENDING:
                await self._send(gateway, account, payment, change)
            else:
                await self._resolve(gateway, account, payment, change, _job_of(change))
        except ConnectorUnusable:
            await self._refused(change, "connector_unusable")
        except StoreError as error:
            # The row stays as it is: the next start takes it up.
            log.error("change %s stays open: %s", change.id, error)

    async def _send(
        self, gateway: FullGateway, account: ShopAccount, payment: Payment, change: PaymentChange
    ) -> None:
        trade: Trade | None = None
        for pause in pauses(TRIES):
            found = await gateway.look_up(account, payment.gateway_order_id)
            if isinstance(found, Trade):
                trade = found
                break
            if isinstance(found, NoSuchTrade):
                break
            await asyncio.sleep(pause)
        if trade is None:
            await self._refused(change, "gateway_unavailable")
            return
        job = self._allowed(change, trade)
        if isinstance(job, NotAllowed):
            await self._refused(change, job.reason)
            return
        change = await self._writer.run(write.change_sent, change=change.id, job=job.value)
        amount = Amount(change.new_amount, trade.tax_yen)
        try:
            if isinstance(job, TradeStatus):
                result = await gateway.change_amount(account, trade.entry, job, amount)
            else:
                result = await gateway.alter(
                    account, trade.entry, job, amount if job is Alteration.SETTLE else None
                )
        except GatewayUnavailable as unavailable:
            await self._refused(change, unavailable.reason)
            return
        match result:
            case Altered():
                await self._writer.run(write.change_closed, change=change.id, done=True)
            case Declined():
                await self._refused(change, result.message_key, result.codes)
            case AlterationUnknown():
                change = await self._writer.run(write.change_unknown, change=change.id, codes=result.codes)
                await self._resolve(gateway, account, payment, change, job)

    def _allowed(self, change: PaymentChange, trade: Trade) -> _Job | NotAllowed:
        now = self._clock()
        if change.kind is ChangeKind.SETTLE:
            return settlement_of(trade, now)
        if change.kind is ChangeKind.AMOUNT or change.amount is not None:
            # A part is given back by making the sale smaller.
            return amount_change_of(trade, now)
        reversal = reversal_of(trade, now)
        if change.kind is ChangeKind.VOID and reversal not in (Alteration.VOID, NotAllowed("not_charged")):
            return NotAllowed("only_refund") if isinstance(reversal, Alteration) else reversal
        if change.kind is ChangeKind.REFUND and trade.status is TradeStatus.AUTH:
            return NotAllowed("not_settled")
        return reversal

    async def _resolve(
        self,
        gateway: FullGateway,
        account: ShopAccount,
        payment: Payment,
        change: PaymentChange,
        job: _Job,
    ) -> None:
        for pause in pauses():
            await asyncio.sleep(pause)
            found = await gateway.look_up(account, payment.gateway_order_id)
            if isinstance(job, TradeStatus):
                tax = found.tax_yen if isinstance(found, Trade) else 0
                done = judge_amount(found, Amount(change.new_amount, tax))
            else:
                judged = judge_alteration(found, job)
                done = None if judged is None else isinstance(judged, Altered)
            if done:
                await self._writer.run(write.change_closed, change=change.id, done=True)
                return
            if done is False and self._since(change) >= self._sure_after_s:
                await self._refused(change, "not_done")
                return

    async def _refused(self, change: PaymentChange, reason: str, codes: tuple[str, ...] = ()) -> None:
        log.info("change %s is refused: %s", change.id, reason)
        await self._writer.run(write.change_closed, change=change.id, done=False, reason=reason, codes=codes)

    def _since(self, change: PaymentChange) -> float:
        sent = change.sent_at or change.created_at
        return (self._clock() - datetime.fromisoformat(sent)).total_seconds()


def _job_of(change: PaymentChange) -> _Job:
    """The job that was sent, from the row."""
    word = change.job or ""
    by_amount = change.kind is ChangeKind.AMOUNT or change.amount is not None
    return TradeStatus(word) if by_amount else Alteration(word)
