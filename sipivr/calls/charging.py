"""The exactly-once path from a captured card to a known outcome (design: the payment gateway, exactly once).

A charge is a task of its own: it outlives the call that asked for it. Its intent is committed before the first
byte goes to the gateway, the gateway's access id before the card does, "executing" before ExecTran's first
byte. Whatever then happens, the outcome is what the gateway says when asked: never a second charge.

States of a payment row, and what a restart makes of each::

    intent ──► entered ──► executing ──► approved | declined | not_charged
       │          │            └───────► unknown ──► (look-ups) ──► approved | not_charged
       └──────────┴── restart: the card was never sent: not_charged        executing = unknown
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from sipivr.calls.gateways import ConnectorUnusable, Gateways
from sipivr.card import Card
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    Entry,
    EntryUnknown,
    Gateway,
    GatewayUnavailable,
    Job,
    NotATestCard,
    Order,
    OrderIdTaken,
    OutcomeUnknown,
    ShopAccount,
)
from sipivr.gateway.resolution import AskAgain, EnterAgain, NotCharged, judge_entry, judge_outcome
from sipivr.store import write
from sipivr.store.errors import Refused, StoreBusy, StoreError, StoreUnavailable
from sipivr.store.records import Payment, PaymentSession, PaymentStatus, Shop
from sipivr.store.writer import StoreWriter

log = logging.getLogger(__name__)

#: Look-ups of an unknown outcome: first after this, then twice as long each time, at most `MAX_PAUSE_S`.
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
#: How often a committed outcome is tried again on a store that does not take it.
STORE_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Look-ups after a lost EntryTran answer, while the customer waits and nothing has been charged.
ENTRY_LOOK_UPS: Final = 3


@dataclass(frozen=True, slots=True)
class ChargeApproved:
    """Charged, and recorded."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class ChargeDeclined:
    """Surely not charged; `category` says what the dialogue does."""

    payment: Payment
    category: Category


@dataclass(frozen=True, slots=True)
class ChargeUnknown:
    """May have been charged; look-ups go on, and their end is told to the listener."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class ChargeImpossible:
    """Surely not charged, for a reason that is not the card's (gateway down, store down, rule)."""

    reason: str


@dataclass(frozen=True, slots=True)
class OnlyTestCards:
    """Test line, and the card is none of the simulator's: nothing was recorded or sent."""


ChargeResult: TypeAlias = ChargeApproved | ChargeDeclined | ChargeUnknown | ChargeImpossible | OnlyTestCards
Resolved: TypeAlias = ChargeApproved | ChargeImpossible
Listener: TypeAlias = Callable[[Resolved], None]


class Charging:
    """Charges cards and resolves what is unknown. One for each `sipivr` process.

    Args:
        writer: of `switch.db`.
        gateways: connectors and shop accounts.
        final_after_s: from then on an unprocessed trade is final.
        clock: the time, UTC.
    """

    def __init__(
        self,
        writer: StoreWriter,
        gateways: Gateways,
        *,
        final_after_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writer = writer
        self._gateways = gateways
        self._final_after_s = final_after_s
        self._clock = clock
        self._tasks: set[asyncio.Future[None]] = set()
        self._listeners: dict[str, Listener] = {}
        self.outcomes: dict[str, int] = {}

    @property
    def running(self) -> int:
        """Charges and resolutions under way."""
        return len(self._tasks)

    @property
    def listeners(self) -> int:
        """Calls that wait to hear how an unknown payment ends."""
        return len(self._listeners)

    def start(
        self, session: PaymentSession, shop: Shop, call: str, card: Card, done: Callable[[ChargeResult], None]
    ) -> None:
        """Charges `card` for `session` in a task that outlives the call; `done` is told the result once.

        The card's owner wipes it after `done`, not before.
        """
        self._spawn(self._run(session, shop, call, card, done))

    def listen(self, payment: str, listener: Listener) -> None:
        """Who wants to know how an unknown payment ends."""
        self._listeners[payment] = listener

    def ignore(self, payment: str) -> None:
        """Nobody waits for it any more; it is resolved all the same."""
        self._listeners.pop(payment, None)

    def recover(self) -> int:
        """Takes up every open intent after a start. Returns how many there were."""
        intents = self._gateways.open_intents()
        for payment in intents:
            if payment.executed_at is None:
                self._spawn(self._close_unexecuted(payment))
            else:
                self._spawn(self._resolve(payment))
        return len(intents)

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Lets running charges finish; what is left is resolved by the next start."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Future[None]) -> None:
        """A task that failed leaves its intent open: the next start asks the gateway, and it is said here."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._count("faults")
            log.error("a charge or its resolution failed: %s", type(task.exception()).__name__)

    # -- a charge ---------------------------------------------------------------------------------------

    async def _run(
        self,
        session: PaymentSession,
        shop: Shop,
        call: str,
        card: Card,
        done: Callable[[ChargeResult], None],
    ) -> None:
        try:
            result = await self._charge(session, shop, call, card)
        except StoreError as error:
            log.error("a charge of session %s was not begun: %s", session.id, error)
            result = ChargeImpossible("store_unavailable")
        except ConnectorUnusable as error:
            log.error("session %s is not charged: %s", session.id, error)
            result = ChargeImpossible("connector_unusable")
        except Exception:
            # Before ExecTran nothing is charged; `_execute` lets no exception out.
            log.exception("a charge of session %s failed before the card was sent", session.id)
            result = ChargeImpossible("fault")
        self._count(type(result).__name__)
        done(result)
        if isinstance(result, ChargeUnknown):
            await self._resolve(result.payment)

    async def _charge(self, session: PaymentSession, shop: Shop, call: str, card: Card) -> ChargeResult:
        gateway = self._gateways.of(shop)
        account = self._gateways.account(shop)
        if gateway.refuses(card) is not None:
            return OnlyTestCards()
        try:
            payment = await self._writer.run(
                write.begin_payment,
                session=session.id,
                call=call,
                brand=card.brand.value if card.brand else None,
                last4=card.last4,
            )
        except Refused as refused:
            log.warning("session %s is not charged: %s", session.id, refused.detail)
            return ChargeImpossible(refused.code)
        order = _order(payment, shop)
        try:
            entered = await self._enter(gateway, account, order)
        except GatewayUnavailable as error:
            return await self._not_charged(payment, error.reason)
        match entered:
            case Declined():
                return await self._declined(payment, entered)
            case OrderIdTaken():
                return await self._not_charged(payment, "order_id_taken_at_gateway", entered.codes)
            case EntryUnknown():
                return await self._not_charged(payment, "entry_unknown")
        try:
            payment = await self._writer.run(
                write.payment_entered,
                payment=payment.id,
                access_id=entered.access_id,
                access_pass=entered.access_pass.reveal(),
            )
            payment = await self._writer.run(write.payment_executing, payment=payment.id)
        except StoreError as error:
            log.error("payment %s is not executed: %s", payment.id, error)
            return await self._not_charged(payment, "store_unavailable")
        try:
            return await self._execute(gateway, account, order, entered, payment, card)
        except Exception:
            # The card may have been sent: only the gateway knows, whatever failed on our side.
            log.exception("payment %s: fault after the card may have been sent", payment.id)
            return ChargeUnknown(payment)

    async def _execute(
        self,
        gateway: Gateway,
        account: ShopAccount,
        order: Order,
        entry: Entry,
        payment: Payment,
        card: Card,
    ) -> ChargeResult:
        try:
            outcome = await gateway.execute(account, order, entry, card)
        except GatewayUnavailable as error:
            return await self._not_charged(payment, error.reason)
        except Exception:
            # A fault of ours in the middle of a charge proves nothing about the charge.
            log.exception("payment %s: the gateway adapter failed", payment.id)
            outcome = OutcomeUnknown("adapter_fault")
        match outcome:
            case Approved():
                return ChargeApproved(await self._approved(payment, outcome))
            case Declined():
                return await self._declined(payment, outcome)
            case NotATestCard():
                await self._not_charged(payment, "not_a_test_card")
                return OnlyTestCards()
            case OutcomeUnknown():
                log.warning("payment %s: outcome unknown (%s)", payment.id, outcome.detail)
                stored = await self._stored(
                    lambda: self._writer.run(
                        write.payment_unknown, payment=payment.id, error_codes=outcome.codes
                    )
                )
                return ChargeUnknown(stored or payment)

    async def _enter(
        self, gateway: Gateway, account: ShopAccount, order: Order
    ) -> Entry | Declined | OrderIdTaken | EntryUnknown:
        """EntryTran; a lost answer is looked up, and the trade adopted only where it is surely ours."""
        result = await gateway.enter(account, order)
        if not isinstance(result, EntryUnknown):
            return result
        for pause in pauses(ENTRY_LOOK_UPS):
            await asyncio.sleep(pause)
            found = await gateway.look_up(account, order.order_id)
            match judge_entry(found, order, sent_unanswered=True):
                case Entry() as entry:
                    return entry
                case OrderIdTaken() as taken:
                    return taken
                case EnterAgain():
                    again = await gateway.enter(account, order)
                    if not isinstance(again, EntryUnknown | OrderIdTaken):
                        return again
                case AskAgain():
                    continue
        return result

    # -- outcomes ---------------------------------------------------------------------------------------

    async def _approved(self, payment: Payment, outcome: Approved) -> Payment:
        stored = await self._stored(
            lambda: self._writer.run(
                write.payment_closed,
                payment=payment.id,
                status=PaymentStatus.APPROVED,
                approval_number=outcome.approval_number,
                transaction_id=outcome.transaction_id,
                forward=outcome.forward,
            )
        )
        return stored or payment

    async def _declined(self, payment: Payment, outcome: Declined) -> ChargeDeclined:
        stored = await self._stored(
            lambda: self._writer.run(
                write.payment_closed,
                payment=payment.id,
                status=PaymentStatus.DECLINED,
                error_codes=outcome.codes,
                error_category=outcome.category.value,
            )
        )
        return ChargeDeclined(stored or payment, outcome.category)

    async def _not_charged(
        self, payment: Payment, reason: str, codes: tuple[str, ...] = ()
    ) -> ChargeImpossible:
        await self._stored(
            lambda: self._writer.run(
                write.payment_closed,
                payment=payment.id,
                status=PaymentStatus.NOT_CHARGED,
                error_codes=codes,
                error_category=reason,
            )
        )
        return ChargeImpossible(reason)

    async def _stored(self, commit: Callable[[], Awaitable[Payment]]) -> Payment | None:
        """Commits an outcome, patiently: if the store stays away, the next start asks the gateway again."""
        for pause in (*STORE_PAUSES_S, None):
            try:
                return await commit()
            except (StoreBusy, StoreUnavailable) as error:
                log.error("an outcome could not be stored: %s", error)
                if pause is None:
                    self._count("outcome_not_stored")
                    return None
                await asyncio.sleep(pause)
        return None

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    # -- unknown outcomes -------------------------------------------------------------------------------

    async def _close_unexecuted(self, payment: Payment) -> None:
        log.info("payment %s was never executed: not charged", payment.id)
        await self._not_charged(payment, "interrupted")

    async def _resolve(self, payment: Payment) -> None:
        """Asks the gateway until it knows."""
        shop = self._gateways.shop(payment.shop)
        if shop is None:
            log.error("payment %s: its shop is gone; it stays unknown", payment.id)
            return
        if payment.status is PaymentStatus.EXECUTING:
            await self._stored(lambda: self._writer.run(write.payment_unknown, payment=payment.id))
        gateway, account, order = self._gateways.of(shop), self._gateways.account(shop), _order(payment, shop)
        for pause in pauses():
            await asyncio.sleep(pause)
            found = await gateway.look_up(account, order.order_id)
            judged = judge_outcome(
                found, order, since_sent_s=self._since(payment), final_after_s=self._final_after_s
            )
            match judged:
                case AskAgain():
                    continue
                case Approved():
                    self._tell(payment, ChargeApproved(await self._approved(payment, judged)))
                case NotCharged(reason=reason):
                    self._tell(payment, await self._not_charged(payment, reason))
                case OrderIdTaken():
                    self._tell(payment, await self._not_charged(payment, "order_id_taken_at_gateway"))
            return

    def _since(self, payment: Payment) -> float:
        sent = payment.executed_at or payment.created_at
        return (self._clock() - datetime.fromisoformat(sent)).total_seconds()

    def _tell(self, payment: Payment, result: Resolved) -> None:
        log.info("payment %s is resolved: %s", payment.id, type(result).__name__)
        self._count(f"resolved_{type(result).__name__}")
        listener = self._listeners.pop(payment.id, None)
        if listener is not None:
            listener(result)


def pauses(count: int | None = None) -> Iterator[float]:
    """Seconds before each look-up: doubling up to `MAX_PAUSE_S`, `count` of them or without end."""
    pause, made = FIRST_PAUSE_S, 0
    while count is None or made < count:
        yield pause
        made += 1
        pause = min(2 * pause, MAX_PAUSE_S)


def _order(payment: Payment, shop: Shop) -> Order:
    return Order(
        order_id=payment.gateway_order_id,
        amount_yen=payment.amount,
        job=Job(shop.job),
        intent_id=payment.id,
    )
