"""What customers key wrongly, or not at all, and where they leave: each in its stated outcome, card wiped."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from bench.telephone.customer import VISA
from tests.e2e.conftest import Stage, plays
from tests.e2e.visit import DECLINED, SLOW, Ended, check, come_back, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")


# -- cards ----------------------------------------------------------------------------------------------


async def declined_then_leaves(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay(DECLINED)
    await stage.until(
        "SELECT 1 FROM payment WHERE session = ? AND status = 'declined'", customer.session["id"]
    )
    await customer.customer.prompted()
    customer.hang_up()
    return await customer.ended()


@plays(declined_then_leaves)
async def test_a_declined_card_charges_nothing(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="customer_hung_up", ended_by="customer", session="declined")
    (payment,) = await stage.payments_of(result.session)
    assert (payment["status"], payment["last4"]) == ("declined", "1000")
    assert payment["error_codes"] == ["42G120000"]


async def declined_then_another_pays(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay(DECLINED)
    await stage.until(
        "SELECT 1 FROM payment WHERE session = ? AND status = 'declined'", customer.session["id"]
    )
    await customer.pay(VISA)
    return await customer.ended()


@plays(declined_then_another_pays)
async def test_another_card_pays_after_a_decline(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)
    first, second = await stage.payments_of(result.session)
    assert [first["status"], second["status"]] == ["declined", "approved"]
    assert [first["attempt"], second["attempt"]] == [1, 2]
    assert second["last4"] == "1111"


async def mistakes(stage: Stage, correct: tuple[str, ...], wrong: str) -> Ended:
    """Keys `correct`, then three times `wrong`, and listens to the end."""
    customer = await visit(stage)
    await customer.identify()
    for keys in (*correct, wrong, wrong, wrong):
        await customer.answer(keys)
    return await customer.ended()


MISTAKES: dict[str, Any] = {
    # One digit off: Luhn does not hold.
    "PAN": partial(mistakes, correct=(), wrong="4111111111111112"),
    "short PAN": partial(mistakes, correct=(), wrong="41111111#"),
    "no test card": partial(mistakes, correct=(), wrong="4012888888881881"),
    "expiry": partial(mistakes, correct=(VISA.number,), wrong="1330"),
    "expiry past": partial(mistakes, correct=(VISA.number,), wrong="0120"),
    "security code": partial(mistakes, correct=(VISA.number, VISA.expiry), wrong="12#"),
}


@pytest.mark.parametrize("field", [pytest.param(name, marks=plays(MISTAKES[name])) for name in MISTAKES])
async def test_three_mistakes_end_the_capture(stage: Stage, result: Ended, field: str) -> None:
    await check(stage, result, outcome="too_many_mistakes", session="open")
    assert await stage.payments_of(result.session) == []


async def mends_each_mistake(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    for keys in ("4111111111111112", "4111*", VISA.number, "0020", VISA.expiry, "1#", VISA.security_code):
        await customer.answer(keys)
    await customer.customer.confirm()
    return await customer.ended()


@plays(mends_each_mistake)
async def test_mistakes_can_be_mended(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)


# -- leaving ----------------------------------------------------------------------------------------------

#: Where the customer hangs up → what was keyed into the open capture by then.
LEAVING = {
    "in the card number": ("411111",),
    "in the expiry": (VISA.number, "12"),
    "in the security code": (VISA.number, VISA.expiry, "1"),
    "at the confirmation": (VISA.number, VISA.expiry, VISA.security_code),
}


async def leaves(stage: Stage, keyed: tuple[str, ...]) -> tuple[Ended, Ended]:
    """Leaves, and comes back with the same identification number."""
    customer = await visit(stage)
    await customer.identify()
    for keys in keyed:
        await customer.answer(keys)
    if len(keyed) == 3 and len(keyed[-1]) == 3:
        await customer.customer.prompted()
    customer.hang_up()
    first = await customer.ended()
    again = await come_back(customer)
    await again.customer.identify(again.session["identification_number"])
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'claimed'", again.session["id"]
    )
    again.hang_up()
    return first, await again.ended()


LEAVERS: dict[str, Any] = {step: partial(leaves, keyed=keyed) for step, keyed in LEAVING.items()}


@pytest.mark.parametrize("step", [pytest.param(step, marks=plays(LEAVERS[step])) for step in LEAVERS])
async def test_who_leaves_during_the_capture_can_come_back(
    stage: Stage, result: tuple[Ended, Ended], step: str
) -> None:
    first, again = result
    await check(stage, first, outcome="customer_hung_up", ended_by="customer", session="open")
    assert first.call["session"] == again.call["session"] == first.session["id"]
    assert again.call["outcome"] == "customer_hung_up"
    assert await stage.payments_of(first.session) == []


async def leaves_at_the_greeting(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.customer.prompted()
    customer.hang_up()
    return await customer.ended()


async def leaves_while_identifying(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.answer(customer.session["identification_number"][:3])
    customer.hang_up()
    return await customer.ended()


async def leaves_at_the_amount(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.customer.identify(customer.session["identification_number"])
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'claimed'", customer.session["id"]
    )
    customer.hang_up()
    return await customer.ended()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(scenario.__name__, marks=plays(scenario))
        for scenario in (leaves_at_the_greeting, leaves_while_identifying, leaves_at_the_amount)
    ],
)
async def test_who_leaves_before_the_capture_leaves_nothing(stage: Stage, result: Ended, step: str) -> None:
    await check(
        stage, result, outcome="customer_hung_up", ended_by="customer", session="open", captured=False
    )


async def leaves_while_authorizing(stage: Stage) -> tuple[Ended, dict[str, Any]]:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay(SLOW)
    await stage.until(
        "SELECT 1 FROM payment WHERE session = ? AND status = 'executing'", customer.session["id"]
    )
    customer.hang_up()
    ended = await customer.ended()
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'paid'", customer.session["id"]
    )
    # The card lives until the gateway has answered; then it is wiped, and the timeline goes on.
    await stage.until(
        "SELECT 1 FROM timeline WHERE call = ? AND type = 'card_wiped'", ended.call["id"], timeout_s=10
    )
    return ended, await stage.switch.get(f"/v1/calls/{ended.call['id']}")


@plays(leaves_while_authorizing)
async def test_a_payment_outlives_its_call(stage: Stage, result: tuple[Ended, dict[str, Any]]) -> None:
    ended, later = result
    assert (ended.call["outcome"], ended.call["ended_by"]) == ("payment_pending", "customer")
    assert (await stage.payment_of(ended.session))["status"] == "approved"
    assert len(await stage.charges(ended.session)) == 1
    told = [entry["type"] for entry in later["timeline"]]
    assert told.index("call.ended") < told.index("card_wiped")


async def leaves_at_the_result(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay()
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'paid'", customer.session["id"]
    )
    customer.hang_up()
    return await customer.ended()


@plays(leaves_at_the_result)
async def test_who_does_not_wait_for_the_result_has_paid(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", ended_by="customer", session="paid", charges=1)


# -- the operator, the merchant, nobody -------------------------------------------------------------------


async def asks_for_the_operator(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    for keys in (VISA.number, "12*#"):
        await customer.answer(keys)
    return await customer.ended()


@plays(asks_for_the_operator)
async def test_star_pound_asks_for_the_operator(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="operator_requested", session="open")


async def is_cancelled(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.answer("41111")
    spoken = customer.call.ears.spoken_ms
    answer = await stage.switch.api.post(f"/v1/payment_sessions/{customer.session['id']}/cancel", json={})
    assert answer.status_code == 200, answer.text
    ended = await customer.ended()
    assert customer.call.ears.spoken_ms - spoken > 2_000  # the reason, and that key entry is over
    return ended


@plays(is_cancelled)
async def test_a_cancelled_session_ends_the_capture(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="session_cancelled", session="canceled")


async def keys_nothing(stage: Stage) -> Ended:
    customer = await visit(stage)
    return await customer.ended(170)


@plays(keys_nothing)
async def test_silence_ends_the_call_after_its_reminders(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="no_input", session="open", captured=False)
    assert result.call["legs"][0]["dtmf"] is None


async def stops_keying(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.answer(VISA.number)
    await customer.answer("1")
    return await customer.ended(150)


@plays(stops_keying)
async def test_silence_within_a_field_ends_the_capture(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="no_input", session="open")
