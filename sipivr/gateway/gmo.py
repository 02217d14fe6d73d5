"""GMO-PG's protocol type (``idPass``): EntryTran, ExecTran and SearchTrade behind the port.

Every answer that is not plainly one of this protocol, and every code that leaves the charge open, becomes
`EntryUnknown`, `OutcomeUnknown` or `LookUpFailed`; nothing is guessed. See `transport` for what counts as
sent and `gmo_errors` for the codes.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Final

import httpx

from sipivr.card import Card
from sipivr.gateway.gmo_errors import Effect, most_decisive
from sipivr.gateway.gmo_wire import Answer, FormBody, MalformedAnswer, check_string_holds, parse_answer
from sipivr.gateway.port import (
    Approved,
    Category,
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
    Trade,
    TradeStatus,
)
from sipivr.gateway.test_cards import test_card_name
from sipivr.gateway.transport import Answered, Lost, NotSent, Timeouts, Transport, is_loopback

DUPLICATE_ORDER_ID: Final = "E01040010"
NO_SUCH_TRADE: Final = "E01110002"
STILL_PROCESSING: Final = "E90010001"

#: The gateway's clock; Japan has no summer time.
JST: Final = dt.timezone(dt.timedelta(hours=9), "JST")

_ACCESS: Final = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GMOSettings:
    """One gateway host.

    Attributes:
        base_url: ``https://HOST``; plain HTTP to this machine only, and then in test mode only.
        test_mode: Let through the simulator's test cards only.
        path: Where the calls are; sources agree on this one.
        shop_in_exec: Send ShopID and ShopPass with ExecTran too; one of the known clients does, the table of
            required fields does not ask for it.
        timeouts: Deadlines in seconds.
        max_connections: To this host.
        ca_file: Trust these authorities instead of the built-in ones.
    """

    base_url: str
    test_mode: bool
    path: str = "/payment/{call}.idPass"
    shop_in_exec: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 100
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if is_loopback(httpx.URL(self.base_url).host) and not self.test_mode:
            raise ValueError("a gateway on this machine is a simulator: test_mode must be on")


class GMOGateway:
    """Implements `port.Gateway`.

    Args:
        settings: Where and how.
        wire: Replaces the network in tests.
    """

    def __init__(self, settings: GMOSettings, *, wire: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = Transport(
            settings.base_url,
            settings.timeouts,
            max_connections=settings.max_connections,
            ca_file=settings.ca_file,
            wire=wire,
        )

    @property
    def test_mode(self) -> bool:
        """Whether only the simulator's test cards are let through."""
        return self._settings.test_mode

    def refuses(self, card: Card) -> NotATestCard | None:
        """Say whether `execute` would refuse this card unsent."""
        if not self._settings.test_mode:
            return None
        with card.disclose() as fields:
            return None if test_card_name(fields.number) else NotATestCard()

    async def enter(self, account: ShopAccount, order: Order) -> EntryResult:
        """EntryTran.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        body = _shop_body(account)
        body.add("OrderID", order.order_id)
        body.add("JobCd", order.job.value)
        if order.amount_yen:
            body.add("Amount", str(order.amount_yen))
        if order.tax_yen:
            body.add("Tax", str(order.tax_yen))
        answer = await self._ask("EntryTran", body, self._settings.timeouts.answer_s)
        if isinstance(answer, NotSent):
            raise GatewayUnavailable(answer.reason)
        if isinstance(answer, Lost):
            return EntryUnknown(answer.detail)
        if DUPLICATE_ORDER_ID in answer.errors:
            return OrderIdTaken(answer.errors)
        if answer.errors:
            codes, meaning = most_decisive(answer.errors)
            if meaning.effect is Effect.UNKNOWN:
                return EntryUnknown(codes[0])
            return Declined(codes, meaning.category, meaning.message_key)
        access_id, access_pass = answer.get("AccessID"), answer.get("AccessPass")
        if not (_ACCESS.fullmatch(access_id) and _ACCESS.fullmatch(access_pass)):
            return EntryUnknown("malformed")
        return Entry(order.order_id, access_id, Secret(access_pass))

    async def execute(self, account: ShopAccount, order: Order, entry: Entry, card: Card) -> Outcome:
        """ExecTran.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `entry` is not of `order`.
        """
        if entry.order_id != order.order_id:
            raise ValueError("entry of another order")
        refused = self.refuses(card)
        if refused is not None:
            return refused
        body = _shop_body(account) if self._settings.shop_in_exec else FormBody()
        body.add("AccessID", entry.access_id)
        body.add("AccessPass", entry.access_pass.reveal())
        body.add("OrderID", order.order_id)
        body.add("Method", str(order.method.value))
        if order.pay_times is not None:
            body.add("PayTimes", str(order.pay_times))
        body.add("ClientField1", order.intent_id)
        body.add("ClientFieldFlag", "1")  # without it the answer does not echo the fields
        _add_card(body, card)
        answer = await self._ask("ExecTran", body, self._settings.timeouts.charge_s)
        if isinstance(answer, NotSent):
            raise GatewayUnavailable(answer.reason)
        if isinstance(answer, Lost):
            return OutcomeUnknown(answer.detail)
        if answer.errors:
            codes, meaning = most_decisive(answer.errors)
            if meaning.effect is Effect.UNKNOWN:
                return OutcomeUnknown("gateway", codes)
            return Declined(codes, meaning.category, meaning.message_key)
        return _outcome(answer, account, order)

    async def look_up(self, account: ShopAccount, order_id: str) -> LookUp:
        """SearchTrade."""
        body = _shop_body(account)
        body.add("OrderID", order_id)
        answer = await self._ask("SearchTrade", body, self._settings.timeouts.answer_s)
        if isinstance(answer, NotSent):
            return LookUpFailed(answer.reason)
        if isinstance(answer, Lost):
            return LookUpFailed(answer.detail)
        if answer.errors:
            if set(answer.errors) == {NO_SUCH_TRADE}:
                return NoSuchTrade(answer.errors)
            still = STILL_PROCESSING in answer.errors
            return LookUpFailed("gateway", answer.errors, still_processing=still)
        try:
            return _trade(answer, order_id)
        except MalformedAnswer:
            return LookUpFailed("malformed")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _ask(self, call: str, body: FormBody, deadline_s: float) -> Answer | NotSent | Lost:
        posted = await self._transport.post(self._settings.path.format(call=call), body, deadline_s)
        if not isinstance(posted, Answered):
            return posted
        if posted.status != 200:
            return Lost(f"http_{posted.status}")
        try:
            return parse_answer(posted.body)
        except MalformedAnswer:
            return Lost("malformed")


def _shop_body(account: ShopAccount) -> FormBody:
    body = FormBody()
    body.add("ShopID", account.shop_id)
    body.add("ShopPass", account.password.reveal())
    return body


def _add_card(body: FormBody, card: Card) -> None:
    """Add the card. If its digits are not digits, the body is wiped before the error leaves."""
    try:
        with card.disclose() as fields:
            body.add_digits("CardNo", fields.number)
            body.add_digits("Expire", fields.expire)
            if fields.security_code is not None:
                body.add_digits("SecurityCode", fields.security_code)
    except BaseException:
        body.wipe()
        raise


def _outcome(answer: Answer, account: ShopAccount, order: Order) -> Outcome:
    if answer.get("ACS") not in ("", "0"):
        # The issuer wants to see the cardholder in a browser; nothing is charged until it has.
        return Declined(("ACS",), Category.STOP, "gateway.authentication_needed")
    processed_at = _jst(answer.get("TranDate"))
    if answer.get("OrderID") != order.order_id or processed_at is None:
        return OutcomeUnknown("malformed")
    if not check_string_holds(answer, account.password.reveal()):
        return OutcomeUnknown("check_string")
    return Approved(
        order_id=order.order_id,
        approval_number=answer.get("Approve"),
        transaction_id=answer.get("TranID"),
        forward=answer.get("Forward"),
        processed_at=processed_at,
    )


def _trade(answer: Answer, order_id: str) -> Trade:
    if answer["OrderID"] != order_id:
        raise MalformedAnswer("another order")
    word = answer["Status"]
    return Trade(
        order_id=order_id,
        status=TradeStatus(word) if word in TradeStatus.__members__ else TradeStatus.OTHER,
        job=answer.get("JobCd"),
        amount_yen=_yen(answer.get("Amount")),
        tax_yen=_yen(answer.get("Tax")),
        access_id=answer.get("AccessID"),
        access_pass=Secret(answer.get("AccessPass")),
        approval_number=answer.get("Approve"),
        transaction_id=answer.get("TranID"),
        forward=answer.get("Forward"),
        processed_at=_jst(answer.get("ProcessDate")),
        intent_id=answer.get("ClientField1"),
    )


def _yen(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 8):
        raise MalformedAnswer("not an amount")
    return int(text)


def _jst(text: str) -> dt.datetime | None:
    if not re.fullmatch(r"[0-9]{14}", text, re.ASCII):
        return None
    try:
        return dt.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=JST)
    except ValueError:
        return None
