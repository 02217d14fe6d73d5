"""How captures of inline calls end, with the customer keying tones to the very end; and baresip at both ends."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from bench._talking import pitch_of
from bench.telephone.customer import VISA, Customer
from bench.telephone.phone import PhoneCall
from media.arrays import Int16
from media.protocol import Direction, KeyWay
from tests.e2e.baresip import Baresip, baresip
from tests.e2e.conftest import Stage, plays
from tests.e2e.test_inline import HIGH, LOW, Pair, connect, keys_read
from tests.e2e.test_inline_sip import point
from tests.e2e.visit import DECLINED, SLOW, check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")


def outcomes(call: dict[str, Any]) -> list[str]:
    return [entry["detail"]["outcome"] for entry in call["timeline"] if entry["type"] == "capture.closed"]


async def declined(stage: Stage) -> dict[str, Any]:
    """A card that the gateway declines, then another one, both in tones."""
    pair = await connect(stage, "declined")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    mark = len(pair.operator.heard.samples)
    person = Customer(pair.customer, way=KeyWay.INBAND, hurried=True)
    await person.enter_card(DECLINED)
    await person.confirm()
    await stage.until(
        "SELECT 1 FROM payment WHERE session = ? AND status = 'declined'", session["id"], timeout_s=30
    )
    await person.enter_card(VISA)
    await person.confirm()
    await pair.closed()
    heard = pair.operator.heard.samples[mark:]
    talked = await pair.talk()
    return {
        "read": keys_read(heard),
        "said": keys_read(pair.customer.said.samples),
        "talked": talked,
        "session": session,
        "call": await pair.part(),
    }


@plays(declined)
async def test_another_card_after_a_decline_is_read_by_nobody(stage: Stage, result: dict[str, Any]) -> None:
    assert len(result["said"]) >= 40, "the customer's tones must be there to be hidden"
    assert result["read"] == []
    assert result["talked"]
    assert result["call"]["outcome"] == "paid"
    statuses = [payment["status"] for payment in await stage.payments_of(result["session"])]
    assert statuses == ["declined", "approved"]
    assert len(await stage.charges(result["session"])) == 1


async def timed_out(stage: Stage) -> dict[str, Any]:
    """Half a card number, silence until the switch gives up, and then the other half all the same."""
    pair = await connect(stage, "timeout")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    mark = len(pair.operator.heard.samples)
    await pair.customer.ears.listen(1_500)
    await pair.customer.key(VISA.number[:8], KeyWay.INBAND)
    await stage.until("SELECT 1 FROM timeline WHERE call = ? AND type = 'card_wiped'", pair.id, timeout_s=120)
    await pair.customer.key(VISA.number[8:], KeyWay.INBAND)
    await pair.closed()
    heard = pair.operator.heard.samples[mark:]
    talked = await pair.talk()
    return {
        "read": keys_read(heard),
        "said": keys_read(pair.customer.said.samples),
        "talked": talked,
        "session": await stage.session_now(session),
        "call": await pair.part(),
    }


@plays(timed_out)
async def test_half_a_card_after_the_time_out_is_read_by_nobody(result: dict[str, Any]) -> None:
    assert len(result["said"]) >= 14, "the customer's tones must be there to be hidden"
    assert result["read"] == []
    assert result["talked"]
    assert outcomes(result["call"]) == ["aborted"]
    assert result["session"]["status"] == "open"


async def left(stage: Stage) -> dict[str, Any]:
    """The customer hangs up while the gateway works: its answer comes to nobody, and counts."""
    pair = await connect(stage, "left")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    person = Customer(pair.customer, way=KeyWay.RFC4733, hurried=True)
    await person.enter_card(SLOW)
    await person.confirm()
    await stage.until("SELECT 1 FROM payment WHERE session = ? AND status = 'executing'", session["id"])
    call = await pair.part()
    await stage.until(
        "SELECT 1 FROM payment_session WHERE id = ? AND status = 'paid'", session["id"], timeout_s=40
    )
    return {"session": session, "call": call}


@plays(left)
async def test_a_charge_outlives_both_legs(stage: Stage, result: dict[str, Any]) -> None:
    call = result["call"]
    assert (call["outcome"], call["ended_by"]) == ("payment_pending", "customer")
    assert all(leg["ended_at"] for leg in call["legs"])
    assert (await stage.payment_of(result["session"]))["status"] == "approved"
    assert len(await stage.charges(result["session"])) == 1


async def reoffered(call: PhoneCall, direction: Direction) -> None:
    before = call.agreed
    call.reoffer(direction)
    async with asyncio.timeout(10):
        while call.agreed is before:
            await asyncio.sleep(0.02)


async def unheld(stage: Stage) -> dict[str, Any]:
    """The operator's PBX holds and takes back in the middle of a card number; the customer keys all the time."""
    pair = await connect(stage, "unheld")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    mark = len(pair.operator.heard.samples)
    await pair.customer.key(VISA.number[:5], KeyWay.INBAND)
    await reoffered(pair.operator, Direction.SENDONLY)
    await pair.customer.key(VISA.number[5:8], KeyWay.INBAND)
    taken_back = len(pair.operator.heard.samples)
    await reoffered(pair.operator, Direction.SENDRECV)
    await pair.customer.key(VISA.number[8:12], KeyWay.INBAND)
    keyed = len(pair.operator.heard.samples)
    status = stage.status_of(pair.customer.sip.call_id)
    await pair.command("take_back")
    await pair.closed()
    heard = pair.operator.heard.samples
    talked = await pair.talk()
    return {
        "read": keys_read(heard[mark:]),
        "loudest": int(np.abs(heard[taken_back:keyed].astype(np.int32)).max()),
        "said": keys_read(pair.customer.said.samples),
        "status": status,
        "talked": talked,
        "call": await pair.part(),
    }


@plays(unheld)
async def test_an_operator_who_takes_the_call_back_from_hold_hears_the_mask(result: dict[str, Any]) -> None:
    assert len(result["said"]) >= 10, "the customer's tones must be there to be hidden"
    assert result["read"] == []
    # The mask's noise, no prompt and no tone.
    assert 0 < result["loudest"] < 1000
    assert result["status"] == "capturing"
    assert result["talked"]
    assert outcomes(result["call"]) == ["aborted"]


# -- other people's telephones at both ends ---------------------------------------------------------------


async def heard(speaker: Baresip, listener: Baresip, samples: Int16) -> bool:
    start = len(listener.heard)
    await speaker.say(samples)
    await listener.ears.listen(500)
    return abs(pitch_of(listener.heard[start:]) - pitch_of(samples)) < 12


async def from_baresip_to_baresip(stage: Stage) -> dict[str, Any]:
    directories = [stage.directory / f"baresip-inline-{party}" for party in ("customer", "operator")]
    for directory in directories:
        directory.mkdir()
    async with (
        baresip(directories[0], caller=stage.switch.caller) as customer,
        baresip(directories[1], caller="desk", answers=True) as operator,
    ):
        point(stage, "baresip", operator.uri)
        await customer.dial(stage.switch.uri(stage.inline("baresip")))
        await operator.event("CALL_ESTABLISHED")
        (id,) = await stage.until("SELECT call FROM leg WHERE sip_call_id = ?", customer.call_id)
        await customer.ears.listen(500)
        before = (await heard(customer, operator, LOW), await heard(operator, customer, HIGH))
        session = await stage.session(language="en")
        answer = await stage.switch.api.post(
            f"/v1/calls/{id}/capture", json={"payment_session": session["id"]}
        )
        await stage.until("SELECT 1 FROM call WHERE id = ? AND status = 'capturing'", id)
        mark = len(operator.heard)
        person = Customer(customer, way=KeyWay.INBAND, hurried=True)  # type: ignore[arg-type]
        await person.enter_card(VISA)
        await person.confirm()
        pair = Pair(stage, "baresip", customer, operator, id)  # type: ignore[arg-type]
        await pair.closed()
        masked = operator.heard[mark:]
        after = (await heard(customer, operator, LOW), await heard(operator, customer, HIGH))
        customer.command("hangup")
        await operator.ended(10)
        call = await stage.find_call(customer.call_id)
    return {
        "status": answer.status_code,
        "talked": before + after,
        "read": keys_read(masked),
        "loudest": int(np.abs(masked[: len(masked) // 2].astype(np.int32)).max()),
        "session": session,
        "call": call,
    }


@plays(from_baresip_to_baresip)
async def test_baresip_pays_with_baresip_on_the_line(stage: Stage, result: dict[str, Any]) -> None:
    assert result["status"] == 200
    assert result["talked"] == (True, True, True, True)
    assert result["read"] == []
    assert result["loudest"] < 1000
    call = result["call"]
    assert call["ended_by"] == "customer"
    await check_paid(stage, {**result, "call": {**call, "ended_by": "switch"}}, "inband")
