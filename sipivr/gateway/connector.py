"""The JSON connector: our own contract (docs/connector.md), for a receiver that a merchant or an acquirer runs.

The same port, another wire: one POST of JSON for each operation, signed both ways (`signatures`). An answer that is not
signed, not in time or not of the contract leaves the outcome open, as a lost one does. The shop's password is
the secret that signs, its id names it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Final

import httpx

from sipivr.card import Card
from sipivr.gateway.alterations import Alteration, AlterationResult, AlterationUnknown, Altered, Amount
from sipivr.gateway.connector_cards import ConnectorRegisteredCards
from sipivr.gateway.connector_wire import Answer, JSONBody, MalformedAnswer, parse_answer
from sipivr.gateway.network import Network
from sipivr.gateway.port import (
    Approved,
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
from sipivr.gateway.registered_cards import SiteAccount
from sipivr.gateway.signatures import BadSignature, content_digest, sign_request, verify_answer
from sipivr.gateway.test_cards import test_card_name
from sipivr.gateway.transport import Lost, NotSent, Timeouts, Transport, check_base_url

#: Characters that a secret has at least: it is a key for HMAC-SHA256.
MIN_KEY: Final = 32


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """One receiver.

    Attributes:
        base_url: ``https://HOST``.
        test_mode: Let through the simulator's test cards only.
        networks: Addresses that the host may have; empty: any of the public internet.
        pins: Public keys of the host (`network.pin_of`); empty: any that TLS accepts.
        timeouts: Deadlines in seconds.
        max_connections: To this host.
        ca_file: Trust these authorities instead of the built-in ones.
    """

    base_url: str
    test_mode: bool
    networks: tuple[Network, ...] = ()
    pins: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 100
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if check_base_url(self.base_url).scheme != "https":
            raise ValueError("connector URL: https")


class ConnectorGateway(ConnectorRegisteredCards):
    """Implements `full.FullGateway`.

    Args:
        settings: Where and how.
        wire: Replaces the network in tests.
    """

    def __init__(self, settings: ConnectorSettings, *, wire: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._authority = httpx.URL(settings.base_url).netloc.decode("ascii")
        self._transport = Transport(
            settings.base_url,
            settings.timeouts,
            max_connections=settings.max_connections,
            ca_file=settings.ca_file,
            networks=settings.networks,
            public_only=True,
            pins=settings.pins,
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
        """``/v1/enter``.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        body = JSONBody()
        body.add("order_id", order.order_id)
        body.add("job", order.job.value)
        body.add("amount_yen", order.amount_yen)
        body.add("tax_yen", order.tax_yen)
        answer = await self._ask("enter", account, body)
        if isinstance(answer, Lost):
            return EntryUnknown(answer.detail)
        match answer.result:
            case "ok" if answer.access_id and answer.access_pass and answer.order_id == order.order_id:
                return Entry(order.order_id, answer.access_id, Secret(answer.access_pass))
            case "refused":
                return answer.declined
            case "order_id_taken":
                return OrderIdTaken(answer.codes)
            case "unknown":
                return EntryUnknown(answer.codes[0] if answer.codes else "unknown")
        return EntryUnknown("malformed")

    async def execute(self, account: ShopAccount, order: Order, entry: Entry, card: Card) -> Outcome:
        """``/v1/execute`` with the card that was keyed.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `entry` is not of `order`.
        """
        refused = self.refuses(card)
        if refused is not None:
            return refused
        body = _execution(order, entry)
        self._add_card(body, card)
        return _outcome(await self._ask("execute", account, body, charge=True), order)

    async def execute_registered(
        self,
        account: ShopAccount,
        order: Order,
        entry: Entry,
        site: SiteAccount,
        member_id: str,
        sequence: int,
    ) -> Outcome:
        """``/v1/execute`` with a registered card.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `entry` is not of `order`.
        """
        body = _execution(order, entry)
        body.add("site_id", site.site_id)
        body.add("member_id", member_id)
        body.add("sequence", sequence)
        return _outcome(await self._ask("execute", account, body, charge=True), order)

    async def alter(
        self, account: ShopAccount, entry: Entry, alteration: Alteration, amount: Amount | None = None
    ) -> AlterationResult:
        """``/v1/alter``.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: A settlement without an amount.
        """
        if alteration is Alteration.SETTLE and amount is None:
            raise ValueError("amount: a settlement needs the trade's")
        return await self._alteration("alter", account, entry, alteration.value, amount)

    async def change_amount(
        self, account: ShopAccount, entry: Entry, job: TradeStatus, amount: Amount
    ) -> AlterationResult:
        """``/v1/change_amount``.

        Raises:
            GatewayUnavailable: Nothing was sent.
            ValueError: `job` is neither AUTH nor CAPTURE.
        """
        if job not in (TradeStatus.AUTH, TradeStatus.CAPTURE):
            raise ValueError("job: AUTH or CAPTURE")
        return await self._alteration("change_amount", account, entry, job.value, amount)

    async def look_up(self, account: ShopAccount, order_id: str) -> LookUp:
        """``/v1/look_up``."""
        body = JSONBody()
        body.add("order_id", order_id)
        try:
            answer = await self._ask("look_up", account, body)
        except GatewayUnavailable as unavailable:
            return LookUpFailed(unavailable.reason)
        if isinstance(answer, Lost):
            return LookUpFailed(answer.detail)
        match answer.result:
            case "not_found":
                return NoSuchTrade(answer.codes)
            case "ok" if answer.order_id == order_id and answer.access_id and answer.access_pass:
                return _trade(answer)
            case "ok":
                return LookUpFailed("malformed")
        return LookUpFailed("gateway", answer.codes, still_processing=answer.result == "unknown")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _alteration(
        self, operation: str, account: ShopAccount, entry: Entry, job: str, amount: Amount | None
    ) -> AlterationResult:
        body = JSONBody()
        body.add("order_id", entry.order_id)
        body.add("access_id", entry.access_id)
        body.add("access_pass", entry.access_pass.reveal())
        body.add("job", job)
        if amount is not None:
            body.add("amount_yen", amount.amount_yen)
            body.add("tax_yen", amount.tax_yen)
        answer = await self._ask(operation, account, body, charge=True)
        if isinstance(answer, Lost):
            return AlterationUnknown(answer.detail)
        if answer.result == "refused":
            return answer.declined
        if answer.result != "ok" or answer.access_id != entry.access_id or not answer.transaction_id:
            return AlterationUnknown("gateway" if answer.result == "unknown" else "malformed", answer.codes)
        return Altered(answer.approval_number, answer.transaction_id, answer.forward, answer.processed_at)

    async def _ask(
        self, operation: str, account: ShopAccount | SiteAccount, body: JSONBody, *, charge: bool = False
    ) -> Answer | Lost:
        """One operation; ends, signs and wipes `body`.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        key_id = account.shop_id if isinstance(account, ShopAccount) else account.site_id
        key = account.password.reveal().encode()
        if len(key) < MIN_KEY:
            body.wipe()
            raise GatewayUnavailable("key_too_short")
        body.close()
        path = f"/v1/{operation}"
        headers = {
            "content-type": "application/json",
            "content-digest": content_digest(body.view()),
            "idempotency-key": secrets.token_hex(16),
        }
        signed = sign_request(
            key, key_id, authority=self._authority, path=path, headers=headers, created=int(time.time())
        )
        timeouts = self._settings.timeouts
        deadline_s = timeouts.charge_s if charge else timeouts.answer_s
        sent = {
            "Content-Type": headers["content-type"],
            "Content-Digest": headers["content-digest"],
            "Idempotency-Key": headers["idempotency-key"],
            **signed,
        }
        posted = await self._transport.post(path, body, deadline_s, sent)
        if isinstance(posted, NotSent):
            raise GatewayUnavailable(posted.reason)
        if isinstance(posted, Lost):
            return posted
        if posted.status != 200:
            return Lost(f"http_{posted.status}")
        try:
            verify_answer(
                key,
                status=posted.status,
                body=posted.body,
                headers=posted.headers,
                request_signature=signed["Signature"],
                now=time.time(),
            )
            return parse_answer(posted.body)
        except BadSignature:
            return Lost("signature")
        except MalformedAnswer:
            return Lost("malformed")


def _execution(order: Order, entry: Entry) -> JSONBody:
    if entry.order_id != order.order_id:
        raise ValueError("entry of another order")
    body = JSONBody()
    body.add("order_id", order.order_id)
    body.add("access_id", entry.access_id)
    body.add("access_pass", entry.access_pass.reveal())
    body.add("method", order.method.value)
    body.add("pay_times", order.pay_times)
    body.add("intent_id", order.intent_id)
    return body


def _outcome(answer: Answer | Lost, order: Order) -> Outcome:
    if isinstance(answer, Lost):
        return OutcomeUnknown(answer.detail)
    if answer.result == "refused":
        return answer.declined
    if answer.result != "ok" or answer.order_id != order.order_id or not answer.transaction_id:
        return OutcomeUnknown("gateway" if answer.result == "unknown" else "malformed", answer.codes)
    return Approved(
        order_id=order.order_id,
        approval_number=answer.approval_number,
        transaction_id=answer.transaction_id,
        forward=answer.forward,
        processed_at=answer.processed_at,
    )


def _trade(answer: Answer) -> Trade:
    return Trade(
        order_id=answer.order_id,
        status=answer.status,
        job=answer.job,
        amount_yen=answer.amount_yen,
        tax_yen=answer.tax_yen,
        access_id=answer.access_id,
        access_pass=Secret(answer.access_pass),
        approval_number=answer.approval_number,
        transaction_id=answer.transaction_id,
        forward=answer.forward,
        processed_at=answer.processed_at,
        intent_id=answer.intent_id,
    )
