"""What the parts of the GMO adapter share: the settings, one call and its answer, the card in a body."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Final

import httpx

from sipivr.card import Card
from sipivr.gateway.gmo_errors import Effect, most_decisive
from sipivr.gateway.gmo_token import TokenSettings, card_fields, token_body, token_of
from sipivr.gateway.gmo_wire import Answer, FormBody, MalformedAnswer, check_string_holds, parse_answer
from sipivr.gateway.network import Network
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    GatewayUnavailable,
    NotATestCard,
    Order,
    Outcome,
    OutcomeUnknown,
    Secret,
    ShopAccount,
    Trade,
    TradeStatus,
)
from sipivr.gateway.test_cards import test_card_name
from sipivr.gateway.transport import Answered, Lost, NotSent, Timeouts, Transport, is_loopback

#: The gateway's clock; Japan has no summer time.
JST: Final = dt.timezone(dt.timedelta(hours=9), "JST")


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
        token: For contracts that refuse a raw number: the card goes through a one-time token.
        networks: Addresses that the host may have; empty: any.
        pins: Public keys of the host; empty: any that TLS accepts.
    """

    base_url: str
    test_mode: bool
    path: str = "/payment/{call}.idPass"
    shop_in_exec: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 100
    ca_file: str | None = None
    token: TokenSettings | None = None
    networks: tuple[Network, ...] = ()
    pins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if is_loopback(httpx.URL(self.base_url).host) and not self.test_mode:
            raise ValueError("a gateway on this machine is a simulator: test_mode must be on")


class Connection:
    """One gateway host: asks a call and reads its answer.

    Args:
        settings: Where and how.
        wire: Replaces the network in tests.
    """

    def __init__(self, settings: GMOSettings, wire: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self._transport = Transport(
            settings.base_url,
            settings.timeouts,
            max_connections=settings.max_connections,
            ca_file=settings.ca_file,
            networks=settings.networks,
            pins=settings.pins,
            wire=wire,
        )

    def refuses(self, card: Card) -> NotATestCard | None:
        """Say whether this card would be refused unsent."""
        if not self.settings.test_mode:
            return None
        with card.disclose() as fields:
            return None if test_card_name(fields.number) else NotATestCard()

    async def ask(self, call: str, body: FormBody, *, charge: bool = False) -> Answer | Lost:
        """One call.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        timeouts = self.settings.timeouts
        answer = await self._post(
            self.settings.path.format(call=call), body, timeouts.charge_s if charge else timeouts.answer_s
        )
        if isinstance(answer, NotSent):
            raise GatewayUnavailable(answer.reason)
        if isinstance(answer, Lost):
            return answer
        try:
            return parse_answer(answer.body)
        except MalformedAnswer:
            return Lost("malformed")

    async def add_card(self, body: FormBody, account_id: str, card: Card) -> Declined | None:
        """Add the card, or a token for it, to `body`; wipes `body` when it cannot.

        Raises:
            GatewayUnavailable: The token could not be asked for.
            CardWipedError: There is no whole card.
        """
        token = self.settings.token
        if token is None:
            add_card(body, card)
            return None
        try:
            with card.disclose() as fields:
                asked = token_body(token, account_id, card_fields(fields))
            answer = await self._post(token.path, asked, self.settings.timeouts.answer_s)
            if isinstance(answer, NotSent):
                raise GatewayUnavailable(answer.reason)
            # A token charges nothing: without one there is no charge, whatever became of the request.
            given = answer.detail if isinstance(answer, Lost) else token_of(answer.body)
        except BaseException:
            body.wipe()
            raise
        if isinstance(given, Secret):
            body.add("Token", given.reveal())
            return None
        body.wipe()
        if isinstance(given, str):
            return Declined(("token_lost",), Category.TRY_LATER, "gateway.try_later")
        codes, meaning = most_decisive(given)
        return Declined(codes, meaning.category, meaning.message_key)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _post(self, path: str, body: FormBody, deadline_s: float) -> Answered | NotSent | Lost:
        posted = await self._transport.post(path, body, deadline_s)
        if isinstance(posted, Answered) and posted.status != 200:
            return Lost(f"http_{posted.status}")
        return posted


def declined(codes: tuple[str, ...]) -> Declined | tuple[str, ...]:
    """Turn an error answer into a refusal, or give the codes back if they leave open what happened."""
    codes, meaning = most_decisive(codes)
    if meaning.effect is Effect.UNKNOWN:
        return codes
    return Declined(codes, meaning.category, meaning.message_key)


def shop_body(account: ShopAccount) -> FormBody:
    """Begin a body with the shop."""
    body = FormBody()
    body.add("ShopID", account.shop_id)
    body.add("ShopPass", account.password.reveal())
    return body


def add_card(body: FormBody, card: Card) -> None:
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


def outcome(answer: Answer, account: ShopAccount, order: Order) -> Outcome:
    """Read the answer of ExecTran."""
    if answer.get("ACS") not in ("", "0"):
        # The issuer wants to see the cardholder in a browser; nothing is charged until it has.
        return Declined(("ACS",), Category.STOP, "gateway.authentication_needed")
    processed_at = jst(answer.get("TranDate"))
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


def trade(answer: Answer, order_id: str) -> Trade:
    """Read the answer of SearchTrade."""
    if answer["OrderID"] != order_id:
        raise MalformedAnswer("another order")
    word = answer["Status"]
    return Trade(
        order_id=order_id,
        status=TradeStatus(word) if word in TradeStatus.__members__ else TradeStatus.OTHER,
        job=answer.get("JobCd"),
        amount_yen=yen(answer.get("Amount")),
        tax_yen=yen(answer.get("Tax")),
        access_id=answer.get("AccessID"),
        access_pass=Secret(answer.get("AccessPass")),
        approval_number=answer.get("Approve"),
        transaction_id=answer.get("TranID"),
        forward=answer.get("Forward"),
        processed_at=jst(answer.get("ProcessDate")),
        intent_id=answer.get("ClientField1"),
    )


def yen(text: str) -> int:
    """Read an amount; what was not sent is 0."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 8):
        raise MalformedAnswer("not an amount")
    return int(text)


def jst(text: str) -> dt.datetime | None:
    """Read a time of the gateway; None if it is none."""
    if not re.fullmatch(r"[0-9]{14}", text, re.ASCII):
        return None
    try:
        return dt.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=JST)
    except ValueError:
        return None
