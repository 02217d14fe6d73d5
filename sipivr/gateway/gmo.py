"""GMO-PG's protocol type (``idPass``): EntryTran, ExecTran, AlterTran, ChangeTran and SearchTrade behind the port.

Members and registered cards are in `gmo_cards`. Every answer that is not plainly one of this protocol,
and every code that leaves the charge open, becomes `EntryUnknown`, `OutcomeUnknown`, `AlterationUnknown` or
`LookUpFailed`; nothing is guessed. See `transport` for what counts as sent and `gmo_errors` for the codes.
"""

from __future__ import annotations

import re
from typing import Final

import httpx

from sipivr.card import Card
from sipivr.gateway.alterations import Alteration, AlterationResult, AlterationUnknown, Altered, Amount
from sipivr.gateway.gmo_cards import GMORegisteredCards
from sipivr.gateway.gmo_connection import Connection, GMOSettings, declined, jst, outcome, shop_body, trade
from sipivr.gateway.gmo_wire import Answer, FormBody, MalformedAnswer
from sipivr.gateway.port import (
    Declined,
    Entry,
    EntryResult,
    EntryUnknown,
    GatewayUnavailable,
    LookUp,
    LookUpFailed,
    NoSuchTrade,
    NotATestCard,
    Order,
    OrderIdTaken,
    Outcome,
    OutcomeUnknown,
    Secret,
    ShopAccount,
    TradeStatus,
)
from sipivr.gateway.registered_cards import SiteAccount
from sipivr.gateway.transport import Lost

__all__ = ["GMOGateway", "GMOSettings"]

DUPLICATE_ORDER_ID: Final = "E01040010"
NO_SUCH_TRADE: Final = "E01110002"
STILL_PROCESSING: Final = "E90010001"

_ACCESS: Final = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)


class GMOGateway(GMORegisteredCards):
    """Implements `full.FullGateway`.

    Args:
        settings: Where and how.
        wire: Replaces the network in tests.
    """

    def __init__(self, settings: GMOSettings, *, wire: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(Connection(settings, wire))

    @property
    def test_mode(self) -> bool:
        """Whether only the simulator's test cards are let through."""
        return self._connection.settings.test_mode

    def refuses(self, card: Card) -> NotATestCard | None:
        """Say whether `execute` would refuse this card unsent."""
        return self._connection.refuses(card)

    async def enter(self, account: ShopAccount, order: Order) -> EntryResult:
        """EntryTran.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        body = shop_body(account)
        body.add("OrderID", order.order_id)
        body.add("JobCd", order.job.value)
        if order.amount_yen:
            body.add("Amount", str(order.amount_yen))
        if order.tax_yen:
            body.add("Tax", str(order.tax_yen))
        answer = await self._connection.ask("EntryTran", body)
        if isinstance(answer, Lost):
            return EntryUnknown(answer.detail)
        if DUPLICATE_ORDER_ID in answer.errors:
            return OrderIdTaken(answer.errors)
        if answer.errors:
            refused = declined(answer.errors)
            return refused if isinstance(refused, Declined) else EntryUnknown(refused[0])
        access_id, access_pass = answer.get("AccessID"), answer.get("AccessPass")
        if not (_ACCESS.fullmatch(access_id) and _ACCESS.fullmatch(access_pass)):
            return EntryUnknown("malformed")
        return Entry(order.order_id, access_id, Secret(access_pass))

    async def execute(self, account: ShopAccount, order: Order, entry: Entry, card: Card) -> Outcome:
        """ExecTran with the card that was keyed, or a token for it.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `entry` is not of `order`.
        """
        body = self._exec_body(account, order, entry)
        refused: Outcome | None
        try:
            refused = self.refuses(card)
        except BaseException:
            body.wipe()
            raise
        if refused is None:
            refused = await self._connection.add_card(body, account.shop_id, card)
        if refused is not None:
            body.wipe()
            return refused
        return await self._exec(account, order, body)

    async def execute_registered(
        self,
        account: ShopAccount,
        order: Order,
        entry: Entry,
        site: SiteAccount,
        member_id: str,
        sequence: int,
    ) -> Outcome:
        """ExecTran with a registered card.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `entry` is not of `order`.
        """
        body = self._exec_body(account, order, entry)
        body.add("SiteID", site.site_id)
        body.add("SitePass", site.password.reveal())
        body.add("MemberID", member_id)
        body.add("SeqMode", "1")
        body.add("CardSeq", str(sequence))
        return await self._exec(account, order, body)

    async def alter(
        self, account: ShopAccount, entry: Entry, alteration: Alteration, amount: Amount | None = None
    ) -> AlterationResult:
        """AlterTran.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: A settlement without an amount.
        """
        if alteration is Alteration.SETTLE and amount is None:
            raise ValueError("amount: a settlement needs the trade's")
        return await self._alteration("AlterTran", account, entry, alteration.value, amount)

    async def change_amount(
        self, account: ShopAccount, entry: Entry, job: TradeStatus, amount: Amount
    ) -> AlterationResult:
        """ChangeTran.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `job` is neither AUTH nor CAPTURE.
        """
        if job not in (TradeStatus.AUTH, TradeStatus.CAPTURE):
            raise ValueError("job: AUTH or CAPTURE")
        return await self._alteration("ChangeTran", account, entry, job.value, amount)

    async def look_up(self, account: ShopAccount, order_id: str) -> LookUp:
        """SearchTrade."""
        body = shop_body(account)
        body.add("OrderID", order_id)
        try:
            answer = await self._connection.ask("SearchTrade", body)
        except GatewayUnavailable as unavailable:
            return LookUpFailed(unavailable.reason)
        if isinstance(answer, Lost):
            return LookUpFailed(answer.detail)
        if answer.errors:
            if set(answer.errors) == {NO_SUCH_TRADE}:
                return NoSuchTrade(answer.errors)
            still = STILL_PROCESSING in answer.errors
            return LookUpFailed("gateway", answer.errors, still_processing=still)
        try:
            return trade(answer, order_id)
        except MalformedAnswer:
            return LookUpFailed("malformed")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    def _exec_body(self, account: ShopAccount, order: Order, entry: Entry) -> FormBody:
        if entry.order_id != order.order_id:
            raise ValueError("entry of another order")
        body = shop_body(account) if self._connection.settings.shop_in_exec else FormBody()
        body.add("AccessID", entry.access_id)
        body.add("AccessPass", entry.access_pass.reveal())
        body.add("OrderID", order.order_id)
        body.add("Method", str(order.method.value))
        if order.pay_times is not None:
            body.add("PayTimes", str(order.pay_times))
        body.add("ClientField1", order.intent_id)
        body.add("ClientFieldFlag", "1")  # without it the answer does not echo the fields
        return body

    async def _exec(self, account: ShopAccount, order: Order, body: FormBody) -> Outcome:
        answer = await self._connection.ask("ExecTran", body, charge=True)
        if isinstance(answer, Lost):
            return OutcomeUnknown(answer.detail)
        if answer.errors:
            refused = declined(answer.errors)
            return refused if isinstance(refused, Declined) else OutcomeUnknown("gateway", refused)
        return outcome(answer, account, order)

    async def _alteration(
        self, call: str, account: ShopAccount, entry: Entry, job: str, amount: Amount | None
    ) -> AlterationResult:
        body = shop_body(account)
        body.add("AccessID", entry.access_id)
        body.add("AccessPass", entry.access_pass.reveal())
        body.add("JobCd", job)
        if amount is not None:
            body.add("Amount", str(amount.amount_yen))
            if amount.tax_yen:
                body.add("Tax", str(amount.tax_yen))
        answer = await self._connection.ask(call, body, charge=True)
        if isinstance(answer, Lost):
            return AlterationUnknown(answer.detail)
        if answer.errors:
            refused = declined(answer.errors)
            return refused if isinstance(refused, Declined) else AlterationUnknown("gateway", refused)
        return _altered(answer, entry)


def _altered(answer: Answer, entry: Entry) -> AlterationResult:
    if answer.get("AccessID") != entry.access_id or not answer.get("TranID"):
        return AlterationUnknown("malformed")
    return Altered(
        answer.get("Approve"), answer.get("TranID"), answer.get("Forward"), jst(answer.get("TranDate"))
    )
