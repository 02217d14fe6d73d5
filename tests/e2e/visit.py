"""One visit of a customer: a session, a call, what is keyed step by step, and what the records say after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.telephone.customer import VISA, CardInHand, Customer
from bench.telephone.phone import PhoneCall
from media.protocol import KeyWay
from sipivr.ua.ports import SIPCause
from tests.e2e.conftest import Stage

#: Cards of docs/simulator.md, with an expiry and a security code that any of them takes.
DECLINED = CardInHand("4000000000001000", "1230", "123")
SLOW = CardInHand("4000000000024002", "1230", "123")
LOST_REQUEST = CardInHand("4000000000018004", "1230", "123")
LOST_ANSWER = CardInHand("4000000000017006", "1230", "123")


@dataclass(frozen=True)
class Ended:
    """A call that is over."""

    session: dict[str, Any]
    cause: SIPCause
    call: dict[str, Any]


class Visit:
    """Made by `visit`. The person is in a hurry, and knows when card keys count."""

    def __init__(self, stage: Stage, session: dict[str, Any], call: PhoneCall, way: KeyWay) -> None:
        self.stage = stage
        self.session = session
        self.call = call
        self.customer = Customer(call, way=way, hurried=True)

    async def identify(self) -> None:
        """Up to the open capture."""
        await self.customer.identify(self.session["identification_number"])
        await self.stage.capture_open(self.call)

    async def answer(self, keys: str) -> None:
        """Keys something into the prompt that begins next, or speaks now."""
        await self.customer.prompted()
        await self.customer.key("an answer", keys)

    async def answer_again(self, keys: str) -> None:
        """Keys something once it was said to the end that the line is back, and what is asked for."""
        await self.customer.prompted(to_its_end=True)
        await self.customer.key("an answer", keys)

    async def card(self, card: CardInHand) -> None:
        """The three fields of a card."""
        for keys in (card.number, card.expiry, card.security_code):
            await self.answer(keys)

    async def pay(self, card: CardInHand = VISA) -> None:
        """A card and the agreement."""
        await self.card(card)
        await self.customer.confirm()

    def hang_up(self) -> None:
        """The customer leaves."""
        self.call.hang_up()

    async def ended(self, timeout_s: float = 40) -> Ended:
        """What became of it."""
        cause = await self.call.ended(timeout_s)
        return Ended(self.session, cause, await self.stage.find_call(self.call.sip.call_id))


async def visit(stage: Stage, *, way: KeyWay = KeyWay.RFC4733, **session: Any) -> Visit:
    """A customer with a new session, whose call is up."""
    made = await stage.session(**session)
    return Visit(stage, made, await stage.call_up(), way)


async def come_back(before: Visit) -> Visit:
    """The same session in another call."""
    return Visit(before.stage, before.session, await before.stage.call_up(), KeyWay.RFC4733)


async def check(
    stage: Stage,
    ended: Ended,
    *,
    outcome: str,
    session: str,
    ended_by: str = "switch",
    charges: int = 0,
    captured: bool = True,
) -> None:
    """The record of the call, the session, the ledger; and the card is wiped if there can have been one."""
    call = ended.call
    assert (call["outcome"], call["ended_by"]) == (outcome, ended_by)
    assert ended.cause.by_remote is (ended_by != "customer")
    now = await stage.session_now(ended.session)
    assert now["status"] == session
    assert len(await stage.charges(ended.session)) == charges
    told = [entry["type"] for entry in call["timeline"]]
    assert told[-1] == "call.ended"
    assert (call["capture_started_at"] is not None) is captured
    if captured:
        assert "card_wiped" in told
        assert call["capture_started_at"] <= call["capture_ended_at"] <= call["ended_at"]


async def check_paid(stage: Stage, result: dict[str, Any], dtmf: str) -> None:
    """A payment of 12,300 yen by a Visa card, charged once; `result` holds the session and the call's record."""
    session = await stage.session_now(result["session"])
    payment = await stage.payment_of(result["session"])
    assert (session["status"], payment["status"]) == ("paid", "approved")
    assert payment["amount"] == 12_300
    assert (payment["brand"], payment["last4"]) == ("visa", "1111")
    assert payment["approval_number"]
    assert len(await stage.charges(result["session"])) == 1
    call = result["call"]
    assert (call["outcome"], call["ended_by"]) == ("paid", "switch")
    assert call["legs"][0]["dtmf"] == dtmf
    times = [call[name] for name in ("started_at", "answered_at", "capture_started_at", "capture_ended_at")]
    assert None not in times and times == sorted(times)
