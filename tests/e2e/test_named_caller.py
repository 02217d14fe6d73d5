"""Transfers from a telephone that a payment session names: no identification number is keyed."""

from __future__ import annotations

from typing import Any

import pytest

from bench.telephone.customer import VISA, Customer
from media.protocol import KeyWay
from tests.e2e.conftest import NAMED_CALLERS, ROOMY_NUMBER, Stage, plays
from tests.e2e.visit import check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def paid(stage: Stage) -> dict[str, Any]:
    session = await stage.session(language="en", caller=NAMED_CALLERS[0])
    call = await stage.dial(ROOMY_NUMBER, caller=NAMED_CALLERS[0])
    await call.answered(20)
    await stage.capture_open(call)
    person = Customer(call, way=KeyWay.RFC4733, hurried=True)
    await person.enter_card(VISA)
    await person.confirm()
    await call.ended(60)
    return {"session": session, "call": await stage.find_call(call.sip.call_id)}


@plays(paid)
async def test_the_caller_alone_ties_the_call_to_its_session(stage: Stage, result: dict[str, Any]) -> None:
    assert result["session"]["caller"] == "+81•••••0777"
    assert result["call"]["session"] == result["session"]["id"]
    await check_paid(stage, result, "rfc4733")


async def doubtful(stage: Stage) -> dict[str, Any]:
    """Two sessions name the telephone: what is keyed decides, as always."""
    first, second = [await stage.session(language="en", caller=NAMED_CALLERS[1]) for _ in range(2)]
    call = await stage.dial(ROOMY_NUMBER, caller=NAMED_CALLERS[1])
    await call.answered(20)
    await Customer(call, way=KeyWay.RFC4733, hurried=True).pay(second["identification_number"], VISA)
    await call.ended(60)
    record = await stage.find_call(call.sip.call_id)
    return {"session": second, "call": record, "first": await stage.session_now(first)}


@plays(doubtful)
async def test_where_two_sessions_name_it_the_number_is_keyed(stage: Stage, result: dict[str, Any]) -> None:
    assert result["first"]["status"] == "open"
    await check_paid(stage, result, "rfc4733")
