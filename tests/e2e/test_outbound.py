"""Calls that we make to customers: who may be called, what follows the answer, and what the record says."""

from __future__ import annotations

from typing import Any

import pytest

from bench.telephone.customer import VISA, Customer
from bench.telephone.phone import PhoneCall
from media.protocol import KeyWay
from tests.e2e.conftest import CALLED_PREFIX, Stage, plays
from tests.e2e.test_inline import Pair, keys_read
from tests.e2e.visit import check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def dial(stage: Stage, name: str, to: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Asks the switch to call a customer; the answer's status and body."""
    answer = await stage.switch.api.post(
        "/v1/calls", json={"number": f"num_out_{name}", "to": to, **body}, timeout=30
    )
    return answer.status_code, answer.json()


def telephone(to: str) -> str:
    """A customer's telephone, as the carrier's trunk writes its number."""
    return "0" + to.removeprefix("+81")


async def ended(stage: Stage, id: str) -> dict[str, Any]:
    await stage.until("SELECT 1 FROM call WHERE id = ? AND ended_at IS NOT NULL", id, timeout_s=30)
    return await stage.switch.get(f"/v1/calls/{id}")


async def pay(stage: Stage, customer: PhoneCall) -> None:
    await stage.capture_open(customer)
    person = Customer(customer, way=KeyWay.RFC4733, hurried=True)
    await person.enter_card(VISA)
    await person.confirm()


async def alone(stage: Stage) -> dict[str, Any]:
    """A customer is called for a payment session and pays without an operator."""
    session = await stage.session(language="en")
    to = CALLED_PREFIX + "10000001"
    status, made = await dial(stage, "alone", to, payment_session=session["id"])
    customer = await stage.phone.call_at(telephone(to), 20)
    await pay(stage, customer)
    await customer.ended(60)
    return {"status": status, "made": made, "session": session, "call": await ended(stage, made["id"])}


@plays(alone)
async def test_a_customer_is_called_and_pays(stage: Stage, result: dict[str, Any]) -> None:
    assert result["status"] == 201
    made = result["made"]
    assert (made["direction"], made["session"]) == ("outbound", result["session"]["id"])
    assert made["caller"] == "+81••••••0001"
    assert result["call"]["outcome"] == "paid"
    assert [leg["party"] for leg in result["call"]["legs"]] == ["customer"]
    await check_paid(stage, result, "rfc4733")


async def with_operator(stage: Stage) -> dict[str, Any]:
    """A customer is called from an inline number: an operator is rung, they talk, capture, talk again."""
    to = CALLED_PREFIX + "10000002"
    status, made = await dial(stage, "inline", to)
    customer = await stage.phone.call_at(telephone(to), 20)
    operator = await stage.phone.call_at("desk-out", 20)
    pair = Pair(stage, "out", customer, operator, made["id"])
    await customer.ears.listen(500)
    before = await pair.talk()
    session = await stage.session(language="en")
    begun = await pair.capture(session)
    mark = len(operator.heard.samples)
    await pair.pay(KeyWay.INBAND)
    await pair.closed()
    masked = operator.heard.samples[mark:]
    after = await pair.talk()
    return {
        "status": status,
        "begun": begun,
        "talked": (before, after),
        "caller": operator.caller,
        "read": keys_read(masked),
        "session": session,
        "call": await pair.part(),
    }


@plays(with_operator)
async def test_an_operator_talks_with_a_customer_who_was_called(stage: Stage, result: dict[str, Any]) -> None:
    assert (result["status"], result["begun"]) == (201, 200)
    assert result["talked"] == (True, True)
    assert result["caller"] == CALLED_PREFIX + "10000002"
    assert len(result["read"]) <= 1
    call = result["call"]
    assert (call["outcome"], call["ended_by"], call["direction"]) == ("paid", "customer", "outbound")
    assert {leg["party"] for leg in call["legs"]} == {"customer", "operator"}


async def returned(stage: Stage) -> dict[str, Any]:
    """The customer keys the identification number and pays alone, then the operator is dialled."""
    session = await stage.switch.create_session(number="num_return", language="en")
    to = CALLED_PREFIX + "10000003"
    _, made = await dial(stage, "return", to)
    customer = await stage.phone.call_at(telephone(to), 20)
    await Customer(customer, way=KeyWay.RFC4733, hurried=True).identify(session["identification_number"])
    await pay(stage, customer)
    operator = await stage.phone.call_at("desk-out-return", 60)
    pair = Pair(stage, "out", customer, operator, made["id"])
    await customer.ears.listen(500)
    return {"talked": await pair.talk(), "call": await pair.part()}


@plays(returned)
async def test_the_operator_is_dialled_when_the_customer_has_paid(
    stage: Stage, result: dict[str, Any]
) -> None:
    assert result["talked"]
    assert result["call"]["outcome"] == "paid"


async def unanswered(stage: Stage) -> dict[str, Any]:
    """Busy, nobody at home; the session is free again afterwards."""
    session = await stage.session()
    calls = {}
    for place, desk in enumerate(("busy-out", "silent-out")):
        to = f"{CALLED_PREFIX}1000001{place}"
        stage.phone.named[telephone(to)] = desk
        _, made = await dial(stage, "alone", to, payment_session=session["id"], ring_s=10)
        calls[desk] = await ended(stage, made["id"])
    return {"calls": calls, "session": await stage.session_now(session)}


@plays(unanswered)
async def test_a_customer_who_does_not_answer(stage: Stage, result: dict[str, Any]) -> None:
    outcomes = {desk: (call["outcome"], call["ended_by"]) for desk, call in result["calls"].items()}
    assert outcomes == {"busy-out": ("busy", "customer"), "silent-out": ("no_answer", "switch")}
    assert all(call["answered_at"] is None for call in result["calls"].values())
    assert result["session"]["status"] == "open"


@pytest.mark.parametrize(
    ("number", "to", "status", "said"),
    [
        ("alone", "+14155550100", 422, "outbound_prefixes"),
        ("alone", "09012345678", 422, "to"),
        ("none", CALLED_PREFIX + "10000009", 422, "no such number"),
        ("inline", CALLED_PREFIX + "10000009", 422, "begin the capture"),
    ],
)
async def test_who_is_not_called(stage: Stage, number: str, to: str, status: int, said: str) -> None:
    session = {"payment_session": (await stage.session())["id"]} if number == "inline" else {}
    answered, problem = await dial(stage, number, to, **session)
    assert answered == status
    assert said in str(problem)
