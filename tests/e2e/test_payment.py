"""Whole payments: SIP and RTP on loopback, the simulator over HTTP, the API over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from bench.telephone.customer import VISA, CardInHand, Customer
from media.protocol import KeyWay
from tests.e2e.conftest import ROOMY_NUMBER, Stage, plays
from tests.e2e.visit import check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def pay(stage: Stage, way: KeyWay, card: CardInHand = VISA) -> dict[str, Any]:
    session = await stage.session()
    call = await stage.call_up()
    await Customer(call, way=way, hurried=True).pay(session["identification_number"], card)
    cause = await call.ended(40)
    record = await stage.find_call(call.sip.call_id)
    return {"session": session, "cause": cause, "call": record}


async def pay_elsewhere(stage: Stage, program: str, *options: str) -> dict[str, Any]:
    """From a process of its own: here all scenarios share one loop, and its pauses would be gaps in the tones."""
    session = await stage.session()
    customer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program, stage.switch.uri(ROOMY_NUMBER)),
        *("--caller", stage.switch.caller, *options),
        *("--identification-number", session["identification_number"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await customer.communicate())[0].decode()
    assert customer.returncode == 0, said
    ended = json.loads(said.splitlines()[-1])
    return {"session": session, "call": await stage.find_call(ended["sip_call_id"], figures=True)}


async def pay_in_band(stage: Stage) -> dict[str, Any]:
    return await pay_elsewhere(stage, "bench.telephone", "--keys", KeyWay.INBAND.value)


async def pay_told_twice_tone_first(stage: Stage) -> dict[str, Any]:
    return await pay_elsewhere(stage, "tests.e2e.both_ways")


async def pay_told_twice_event_first(stage: Stage) -> dict[str, Any]:
    return await pay_elsewhere(stage, "tests.e2e.both_ways", "--event-first")


async def pay_by_telephone_event(stage: Stage) -> dict[str, Any]:
    return await pay(stage, KeyWay.RFC4733)


async def pay_by_info(stage: Stage) -> dict[str, Any]:
    return await pay(stage, KeyWay.INFO)


@plays(pay_in_band)
async def test_in_band_tones_pay(stage: Stage, result: dict[str, Any]) -> None:
    await check_paid(stage, result, "inband")


async def check_told_twice(stage: Stage, result: dict[str, Any]) -> None:
    """Every digit of the card counted once, and each way agreed with the other."""
    leg = result["call"]["legs"][0]
    assert leg["dtmf"] in ("rfc4733", "inband+rfc4733", "inband")
    assert leg["rtp"]["keys_disagreed"] == 0
    await check_paid(stage, result, leg["dtmf"])


@plays(pay_told_twice_tone_first)
async def test_a_gateway_that_tells_each_key_twice_pays_once(stage: Stage, result: dict[str, Any]) -> None:
    await check_told_twice(stage, result)


@plays(pay_told_twice_event_first)
async def test_the_event_may_come_before_the_tone(stage: Stage, result: dict[str, Any]) -> None:
    await check_told_twice(stage, result)


@plays(pay_by_telephone_event)
async def test_telephone_event_pays(stage: Stage, result: dict[str, Any]) -> None:
    await check_paid(stage, result, "rfc4733")
    assert result["cause"].by_remote


@plays(pay_by_info)
async def test_sip_info_pays(stage: Stage, result: dict[str, Any]) -> None:
    await check_paid(stage, result, "info")


@plays(pay_by_telephone_event)
async def test_the_ladder_of_a_paid_call_shows_its_messages_and_no_digits(
    stage: Stage, result: dict[str, Any]
) -> None:
    answer = await stage.switch.api.get(f"/v1/calls/{result['call']['id']}/ladder")
    assert answer.status_code == 200
    for word in ("INVITE", "200", "ACK", "BYE"):
        assert word in answer.text


@plays(pay_by_info)
async def test_the_ladder_of_a_call_keyed_by_info_holds_no_key(stage: Stage, result: dict[str, Any]) -> None:
    answer = await stage.switch.api.get(f"/v1/calls/{result['call']['id']}/ladder")
    assert "INFO" in answer.text
    assert "Signal" not in answer.text


@plays(pay_by_telephone_event)
async def test_events_tell_the_story_in_order(stage: Stage, result: dict[str, Any]) -> None:
    session, told, after = result["session"]["id"], [], ""
    while True:
        page = await stage.switch.get(f"/v1/events?limit=100{after}")
        told += [event["type"] for event in page["data"] if session in str(event)]
        if not page["has_more"]:
            break
        after = f"&starting_after={page['data'][-1]['id']}"
    for name in ("payment_session.created", "payment_session.claimed", "payment_session.paid"):
        assert name in told
