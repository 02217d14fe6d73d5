"""A gateway that is away, slow, or whose answer is lost: never more than one charge, and the truth is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.conftest import SHOP_WITHOUT_GATEWAY, Stage, plays
from tests.e2e.visit import LOST_ANSWER, LOST_REQUEST, SLOW, Ended, check, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Longer than the customer is left without a word (`DialogueParams.slow_gateway_s`).
SLOWER_S = 12


async def finds_no_gateway(stage: Stage) -> Ended:
    customer = await visit(stage, shop=SHOP_WITHOUT_GATEWAY)
    await customer.identify()
    await customer.pay()
    return await customer.ended()


@plays(finds_no_gateway)
async def test_a_gateway_that_is_away_charges_nothing(stage: Stage, result: Ended) -> None:
    call = result.call
    assert (call["outcome"], call["ended_by"]) == ("gateway_unavailable", "switch")
    assert "card_wiped" in [entry["type"] for entry in call["timeline"]]
    (payment,) = await stage.payments_of(result.session)
    assert payment["status"] == "not_charged"
    assert payment["executed_at"] is None
    assert (await stage.session_now(result.session))["status"] in {"open", "expired"}


async def has_a_slow_card(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay(SLOW)
    return await customer.ended()


@plays(has_a_slow_card)
async def test_a_slow_gateway_is_waited_for(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)


async def waits_long(stage: Stage) -> Ended:
    customer = await visit(stage)
    await stage.fault(customer.session, call="ExecTran", kind="delay", seconds=SLOWER_S)
    await customer.identify()
    await customer.pay()
    return await customer.ended(60)


@plays(waits_long)
async def test_a_very_slow_gateway_is_waited_for(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)


async def loses_the_answer(stage: Stage) -> Ended:
    customer = await visit(stage)
    await customer.identify()
    await customer.pay(LOST_ANSWER)
    return await customer.ended(60)


@plays(loses_the_answer)
async def test_a_lost_answer_is_asked_for_and_not_charged_again(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="paid", session="paid", charges=1)
    (payment,) = await stage.payments_of(result.session)
    assert payment["status"] == "approved"


async def is_answered_after_the_call(stage: Stage) -> Ended:
    """The answer is lost, and so are those to the look-ups after 1, 3, 7 and 15 s; the next one is after 31 s."""
    customer = await visit(stage)
    await stage.fault(customer.session, call="SearchTrade", kind="drop_before", times=4)
    await customer.identify()
    await customer.pay(LOST_ANSWER)
    ended = await customer.ended(80)
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'paid'",
        customer.session["id"],
        timeout_s=60,
    )
    return ended


@plays(is_answered_after_the_call)
async def test_an_outcome_that_comes_after_the_call_is_recorded(stage: Stage, result: Ended) -> None:
    await check(stage, result, outcome="unconfirmed", session="paid", charges=1)


async def loses_the_request(stage: Stage) -> dict[str, Any]:
    """The card left us and never arrived: surely not charged once the gateway's silence is final."""
    async with stage.another("lost", environment={"SIPIVR_GATEWAY__FINAL_AFTER_S": "3"}) as own:
        customer = await visit(own)
        await customer.identify()
        await customer.pay(LOST_REQUEST)
        ended = await customer.ended(60)
        (payment,) = await own.payments_of(ended.session)
        settling = ""
        async with asyncio.timeout(20):
            while not settling.endswith(" 0.0"):
                metrics = (await own.switch.api.get("/metrics")).text.splitlines()
                settling = next(line for line in metrics if "settling" in line and not line.startswith("#"))
                await asyncio.sleep(0.3)
        return {"call": ended.call, "payment": payment, "charges": await own.charges(ended.session)}


@plays(loses_the_request)
async def test_a_lost_request_ends_as_not_charged_and_leaves_nothing_waiting(
    stage: Stage, result: dict[str, Any]
) -> None:
    assert result["payment"]["status"] == "not_charged"
    assert result["charges"] == []
    assert result["call"]["outcome"] == "declined"
