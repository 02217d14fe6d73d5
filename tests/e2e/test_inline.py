"""Inline calls with real SIP and RTP: who is rung, who hears whom, what operators may do, who may leave."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bench._dtmf_paths import straight
from bench._spandsp import load
from bench._talking import pitch_of, voice
from bench.telephone.customer import VISA, Customer
from bench.telephone.phone import PhoneCall
from media.arrays import Int16
from media.protocol import FRAME_SAMPLES, KeyWay
from tests.e2e.conftest import RETURN_NUMBER, Stage, plays
from tests.e2e.visit import check_paid

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOW, HIGH = voice(150.0), voice(230.0)


@dataclass
class Pair:
    """Customer and operator, connected by the switch."""

    stage: Stage
    name: str
    customer: PhoneCall
    operator: PhoneCall
    id: str

    async def command(self, what: str, **body: Any) -> int:
        """A command of the operator's; its status."""
        answer = await self.stage.switch.api.post(f"/v1/calls/{self.id}/{what}", json=body)
        return answer.status_code

    async def capture(self, session: dict[str, Any]) -> int:
        """Begins the capture of a session."""
        return await self.command("capture", payment_session=session["id"])

    async def heard(self, speaker: PhoneCall, listener: PhoneCall, samples: Int16) -> bool:
        """Whether `listener` hears what `speaker` says, by its pitch."""
        start = len(listener.heard.samples)
        await speaker.say(samples)
        await listener.ears.listen(400)
        return abs(pitch_of(listener.heard.samples[start:]) - pitch_of(samples)) < 12

    async def talk(self) -> bool:
        """Each says something; whether each heard the other."""
        there = await self.heard(self.customer, self.operator, LOW)
        return await self.heard(self.operator, self.customer, HIGH) and there

    async def pay(self, way: KeyWay = KeyWay.RFC4733) -> None:
        """What the customer does in an open capture."""
        await self.stage.capture_open(self.customer)
        person = Customer(self.customer, way=way, hurried=True)
        await person.enter_card(VISA)
        await person.confirm()

    async def closed(self) -> None:
        """Waits until customer and operator are together again."""
        await self.stage.until(
            "SELECT 1 FROM timeline WHERE call = ? AND type = 'capture.closed'"
            " AND (SELECT count(*) FROM timeline WHERE call = ? AND type = 'capture.closed')"
            " = (SELECT count(*) FROM timeline WHERE call = ? AND type = 'capture.opening')",
            *(self.id,) * 3,
            timeout_s=60,
        )

    async def part(self) -> dict[str, Any]:
        """The customer hangs up; the record of the call."""
        self.customer.hang_up()
        await self.operator.ended(10)
        return await self.stage.find_call(self.customer.sip.call_id)


async def connect(stage: Stage, name: str, desk: str | None = None) -> Pair:
    """A customer calls the number of this name, and the desk answers."""
    customer = await stage.dial(stage.inline(name))
    operator = await stage.phone.call_at(desk or f"desk-{name}", 20)
    await customer.answered(10)
    (id,) = await stage.until("SELECT call FROM leg WHERE sip_call_id = ?", customer.sip.call_id)
    return Pair(stage, name, customer, operator, id)


def keys_read(samples: Int16) -> list[int]:
    """The most that a decoder reads out of a recording."""
    whole = samples[None, : len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
    readers = [straight] + ([reference.keys] if (reference := load()) else [])
    return max((read(whole)[0] for read in readers), key=len)


# -- a payment ------------------------------------------------------------------------------------------


async def paid(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "paid")
    before = await pair.talk()
    session = await stage.session(language="en")
    begun = await pair.capture(session)
    again = await pair.capture(session)
    mark = len(pair.operator.heard.samples)
    await pair.pay()
    await pair.closed()
    masked = pair.operator.heard.samples[mark:]
    after = await pair.talk()
    late = await pair.command("take_back")
    call = await pair.part()
    return {
        "session": session,
        "call": call,
        "talked": (before, after),
        "statuses": (begun, again, late),
        "masked": masked,
        "events": pair.operator.keys_heard,
        "caller": pair.operator.caller,
        "customer": stage.switch.caller,
    }


@plays(paid)
async def test_an_inline_call_pays_and_the_two_talk_again(stage: Stage, result: dict[str, Any]) -> None:
    assert result["talked"] == (True, True)
    assert result["statuses"] == (200, 409, 409)
    assert result["caller"].lstrip("+")[-9:] == result["customer"].lstrip("+")[-9:]
    call = result["call"]
    assert [leg["party"] for leg in call["legs"]] == ["customer", "operator"]
    assert all(leg["codec"] == "PCMU" and leg["ended_at"] for leg in call["legs"])
    types = [entry["type"] for entry in call["timeline"]]
    wanted = ["operator.rung", "operator.answered", "capture.opening", "card_wiped", "capture.closed"]
    assert [one for one in types if one in wanted] == wanted
    assert call["ended_by"] == "customer"
    await check_paid(stage, {**result, "call": {**call, "ended_by": "switch"}}, "rfc4733")
    ladder = (await stage.switch.api.get(f"/v1/calls/{call['id']}/ladder")).text
    assert ladder.count("INVITE") >= 2


@plays(paid)
async def test_the_operator_hears_nothing_of_the_capture(result: dict[str, Any]) -> None:
    assert result["events"] == []
    assert keys_read(result["masked"]) == []
    # Comfort noise is all there was: no prompt, no voice, no tone.
    loudest = np.abs(result["masked"].astype(np.int32)).max()
    assert loudest < 1000, loudest


async def star(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "star")
    session = await stage.session(language="en")
    await pair.operator.key("*9" + "0" * len(session["identification_number"]))
    await pair.operator.ears.announcement(600)
    await pair.operator.key("*9" + session["identification_number"])
    await pair.pay()
    await pair.closed()
    talked = await pair.talk()
    return {"session": session, "call": await pair.part(), "talked": talked}


@plays(star)
async def test_star_nine_and_the_identification_number_begin_the_capture(
    stage: Stage, result: dict[str, Any]
) -> None:
    assert result["talked"]
    assert "capture.refused" in [entry["type"] for entry in result["call"]["timeline"]]
    await check_paid(stage, {**result, "call": {**result["call"], "ended_by": "switch"}}, "rfc4733")


# -- finding an operator --------------------------------------------------------------------------------


async def following(stage: Stage) -> dict[str, Any]:
    customer = asyncio.create_task(connect(stage, "next"))
    rung = await stage.phone.ringing_at("silent-1", 20)
    pair = await customer
    cause = await rung.ended(5)
    talked = await pair.talk()
    return {"call": await pair.part(), "talked": talked, "cancelled": cause.by_remote}


@plays(following)
async def test_busy_and_no_answer_lead_to_the_next_desk(result: dict[str, Any]) -> None:
    assert result["talked"] and result["cancelled"]
    rung = [entry["detail"] for entry in result["call"]["timeline"] if entry["type"] == "operator.rung"]
    assert [one["outcome"] for one in rung] == ["busy", "no_answer", "answered"]
    statuses = [leg["sip_status"] for leg in result["call"]["legs"] if leg["party"] == "operator"]
    assert statuses == [486, 487, 200]


async def nobody(stage: Stage) -> dict[str, Any]:
    answers = {}
    for name in ("nobody", "silent"):
        customer = await stage.dial(stage.inline(name))
        cause = await customer.ended(40)
        answers[name] = (cause.status, customer.ears.spoken_ms, await stage.find_call(customer.sip.call_id))
    return answers


@plays(nobody)
@pytest.mark.parametrize(("name", "status"), [("nobody", 486), ("silent", 480)])
async def test_a_caller_whom_nobody_answers_hears_why(result: dict[str, Any], name: str, status: int) -> None:
    answered, spoken_ms, call = result[name]
    assert answered == status
    assert spoken_ms > 1500
    assert (call["outcome"], call["answered_at"], call["ended_by"]) == ("no_operator", None, "switch")


async def early(stage: Stage) -> dict[str, Any]:
    customer = await stage.dial(stage.inline("early"))
    operator = await stage.phone.ringing_at("early-1", 20)
    await stage.until("SELECT 1 FROM leg WHERE sip_call_id = ?", operator.sip.call_id)
    pair = Pair(stage, "early", customer, operator, "")
    await asyncio.wait_for(_agreed(customer), 10)
    heard = await pair.heard(operator, customer, HIGH)
    other_way = await pair.heard(customer, operator, LOW)
    up_early = customer.up
    stage.phone.pick_up(operator)
    await customer.answered(10)
    talked = await pair.talk()
    return {
        "heard": heard,
        "other_way": other_way,
        "up": up_early,
        "talked": talked,
        "call": await pair.part(),
    }


async def _agreed(call: PhoneCall) -> None:
    while call.agreed is None:
        await asyncio.sleep(0.02)


@plays(early)
async def test_what_a_desk_plays_before_it_answers_is_passed_on_one_way(result: dict[str, Any]) -> None:
    assert (result["heard"], result["other_way"], result["up"]) == (True, False, False)
    assert result["talked"]


# -- what an operator may do ----------------------------------------------------------------------------


async def taken_back(stage: Stage) -> dict[str, Any]:
    """Four digits, taken back, twelve more all the same; then the same session anew."""
    pair = await connect(stage, "back")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    mark = len(pair.operator.heard.samples)
    await pair.customer.ears.listen(1500)
    await pair.customer.key(VISA.number[:4], KeyWay.INBAND)
    reset = await pair.command("reset_field")
    await pair.customer.ears.listen(1500)
    await pair.customer.key(VISA.number[:4], KeyWay.INBAND)
    taken = await pair.command("take_back")
    await pair.customer.key(VISA.number[4:], KeyWay.INBAND)
    await pair.closed()
    quiet = pair.operator.heard.samples[mark:]
    talked = await pair.talk()
    released = await stage.session_now(session)
    again = await pair.capture(session)
    await pair.pay()
    await pair.closed()
    return {
        "statuses": (reset, taken, again),
        "released": released["status"],
        "read": keys_read(quiet),
        "talked": talked,
        "session": session,
        "call": await pair.part(),
    }


@plays(taken_back)
async def test_a_customer_taken_back_keys_on_and_nobody_reads_it(
    stage: Stage, result: dict[str, Any]
) -> None:
    assert result["statuses"] == (200, 200, 200)
    assert result["read"] == []
    assert result["released"] == "open"
    assert result["talked"]
    closed = [e["detail"]["outcome"] for e in result["call"]["timeline"] if e["type"] == "capture.closed"]
    assert closed == ["aborted", "done"]
    assert (await stage.session_now(result["session"]))["status"] == "paid"
    assert len(await stage.charges(result["session"])) == 1


MASKS = ("silence", "comfort_noise", "tone", "scramble")


async def masked(stage: Stage) -> dict[str, Any]:
    """One capture after another on one call, each with another mask; a card is keyed in each, and taken back."""
    pair = await connect(stage, "masks")
    found: dict[str, Any] = {}
    for mask in MASKS:
        await pair.capture(await stage.session(language="en", mask=mask))
        await stage.until("SELECT 1 FROM call WHERE id = ? AND status = 'capturing'", pair.id, timeout_s=30)
        mark = len(pair.operator.heard.samples)
        await pair.customer.key(VISA.number, KeyWay.INBAND)
        keyed = len(pair.operator.heard.samples)
        await pair.command("take_back")
        await pair.closed()
        heard = pair.operator.heard.samples[mark:]
        # The level while the mask was on; what follows may be the line's own noise.
        loudest = int(np.abs(heard[: keyed - mark].astype(np.int32)).max())
        found[mask] = (keys_read(heard), loudest)
    return {"masks": found, "said": keys_read(pair.customer.said.samples), "call": await pair.part()}


@plays(masked)
@pytest.mark.parametrize("mask", MASKS)
async def test_no_mask_lets_a_decoder_read_a_key(result: dict[str, Any], mask: str) -> None:
    read, loudest = result["masks"][mask]
    assert read == []
    if mask != "scramble":  # what is left there of tones alone is its own affair
        assert (loudest == 0) is (mask == "silence"), loudest
    assert len(result["said"]) >= 60, "the customer's tones must be there to be hidden"


async def keyed_in_talk(stage: Stage) -> dict[str, Any]:
    """A card keyed before anything is captured."""
    pair = await connect(stage, "keys")
    mark = len(pair.operator.heard.samples)
    await pair.customer.key(VISA.number, KeyWay.INBAND)
    await pair.customer.key(VISA.number)
    heard = pair.operator.heard.samples[mark:]
    return {
        "read": keys_read(heard),
        "events": pair.operator.keys_heard,
        "said": keys_read(pair.customer.said.samples),
        "call": await pair.part(),
    }


@plays(keyed_in_talk)
async def test_a_card_keyed_before_the_capture_is_read_by_nobody(result: dict[str, Any]) -> None:
    assert len(result["said"]) >= 14, "the customer's tones must be there to be hidden"
    assert (result["read"], result["events"]) == ([], [])


async def menu(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "menu")
    mark = len(pair.operator.heard.samples)
    await pair.customer.key("123", KeyWay.INBAND)
    await pair.operator.ears.listen(300)
    before = keys_read(pair.operator.heard.samples[mark:])
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    await pair.command("take_back")
    await pair.closed()
    mark = len(pair.operator.heard.samples)
    await pair.customer.key("123456", KeyWay.INBAND)
    await pair.operator.ears.listen(300)
    after = keys_read(pair.operator.heard.samples[mark:])
    await pair.part()
    return {"before": before, "after": after}


@plays(menu)
async def test_keys_for_a_menu_pass_only_until_a_session_is_attached(result: dict[str, Any]) -> None:
    assert len(result["before"]) >= 2
    assert result["after"] == []


async def unheard(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "held")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    await pair.customer.key("4")  # cuts the prompt
    await pair.customer.ears.quiet(700)
    during = await pair.heard(pair.operator, pair.customer, HIGH)
    await pair.command("take_back")
    await pair.closed()
    after = await pair.talk()
    return {"during": during, "after": after, "call": await pair.part()}


@plays(unheard)
async def test_an_operator_may_be_held_during_the_capture(result: dict[str, Any]) -> None:
    assert (result["during"], result["after"]) == (False, True)


# -- who leaves -----------------------------------------------------------------------------------------


async def operator_leaves(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "leaves")
    session = await stage.session(language="en")
    await pair.capture(session)
    await stage.capture_open(pair.customer)
    pair.operator.hang_up()
    await pair.pay()
    cause = await pair.customer.ended(60)
    call = await stage.find_call(pair.customer.sip.call_id)
    return {"session": session, "cause": cause, "call": call}


@plays(operator_leaves)
async def test_a_payment_goes_on_when_the_operator_leaves(stage: Stage, result: dict[str, Any]) -> None:
    assert result["cause"].by_remote
    await check_paid(stage, result, "rfc4733")
    assert "operator.left" in [entry["type"] for entry in result["call"]["timeline"]]


async def leave_in_talk(stage: Stage) -> dict[str, Any]:
    pair = await connect(stage, "alone")
    pair.operator.hang_up()
    cause = await pair.customer.ended(10)
    return {"cause": cause, "call": await stage.find_call(pair.customer.sip.call_id)}


@plays(leave_in_talk)
async def test_the_customer_is_not_left_alone_when_the_operator_hangs_up(result: dict[str, Any]) -> None:
    assert result["cause"].by_remote
    assert (result["call"]["outcome"], result["call"]["ended_by"]) == ("ended", "operator")


async def returned(stage: Stage) -> dict[str, Any]:
    """A blind transfer: the customer pays alone, then the operator is dialled."""
    session = await stage.switch.create_session(number="num_return", language="en")
    customer = await stage.call_up(RETURN_NUMBER)
    person = Customer(customer, way=KeyWay.RFC4733, hurried=True)
    await person.identify(session["identification_number"])
    await stage.capture_open(customer)
    await person.enter_card(VISA)
    await person.confirm()
    operator = await stage.phone.call_at("desk-return", 60)
    (id,) = await stage.until("SELECT call FROM leg WHERE sip_call_id = ?", customer.sip.call_id)
    pair = Pair(stage, "return", customer, operator, id)
    await customer.ears.listen(500)
    talked = await pair.talk()
    operator.hang_up()
    cause = await customer.ended(10)
    return {
        "session": session,
        "talked": talked,
        "cause": cause,
        "call": await stage.find_call(customer.sip.call_id),
    }


@plays(returned)
async def test_after_a_blind_transfer_the_operator_is_dialled(stage: Stage, result: dict[str, Any]) -> None:
    assert result["talked"]
    call = result["call"]
    assert (call["outcome"], call["ended_by"]) == ("paid", "operator")
    rung = [entry["detail"]["outcome"] for entry in call["timeline"] if entry["type"] == "operator.rung"]
    assert rung == ["no_extension", "answered"]
    await check_paid(stage, {**result, "call": {**call, "ended_by": "switch"}}, "rfc4733")
