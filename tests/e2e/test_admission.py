"""Calls that are not taken: each with its SIP answer and a record that says why."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from bench.telephone.phone import PhoneCall
from tests.e2e.conftest import BUSY_NUMBER, OFF_NUMBER, OTHERS_NUMBER, Stage, plays

pytestmark = pytest.mark.asyncio(loop_scope="session")

LINES = 5
STRANGER = "+81399999999"
NEWCOMER = "+81399999998"
NOBODYS_NUMBER = "0398765432"


async def status_of(call: PhoneCall) -> int:
    """The SIP status of a call that is not taken."""
    cause = await call.ended(10)
    assert cause.by_remote
    return cause.status


async def dials(stage: Stage, number: str | None = None, caller: str | None = None) -> int:
    call = await (stage.dial(number, caller) if number else stage.dial(caller=caller))
    return await status_of(call)


#: What is dialled → the scenario, its SIP status, the refusal in the record.
REFUSED: dict[str, tuple[Any, int, str]] = {
    "caller not allowed": (partial(dials, caller=STRANGER), 403, "caller_not_allowed"),
    "anonymous": (partial(dials, caller="anonymous"), 403, "caller_anonymous"),
    "unknown number": (partial(dials, number=NOBODYS_NUMBER), 404, "number_unknown"),
    "disabled number": (partial(dials, number=OFF_NUMBER), 404, "number_disabled"),
    "number of another merchant": (partial(dials, number=OTHERS_NUMBER), 404, "number_unknown"),
}


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        pytest.param(status, refusal, marks=plays(play), id=name)
        for name, (play, status, refusal) in REFUSED.items()
    ],
)
async def test_a_call_that_is_not_admitted(stage: Stage, result: int, status: int, refusal: str) -> None:
    assert result == status
    await stage.until(
        "SELECT 1 FROM call WHERE refusal = ? AND sip_status = ? AND status = 'refused'", refusal, status
    )


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(refusal, marks=plays(play))
        for play, _, refusal in (REFUSED["caller not allowed"], REFUSED["disabled number"])
    ],
)
async def test_a_merchant_sees_who_was_refused_on_its_numbers(
    stage: Stage, result: int, refusal: str
) -> None:
    page = await stage.switch.get(f"/v1/calls?refusal={refusal}")
    assert page["data"] and all(call["outcome"] == "refused" for call in page["data"])
    assert page["data"][0]["ended_by"] == "switch"
    assert STRANGER not in str(page)


@dataclass(frozen=True)
class FullHouse:
    """Six calls at once, and a seventh when one has left."""

    sixth: int
    up_after: int
    seventh: bool


async def fills_the_lines(stage: Stage) -> FullHouse:
    calls = [await stage.dial(BUSY_NUMBER) for _ in range(LINES)]
    await asyncio.gather(*(call.answered(20) for call in calls))
    sixth = await status_of(await stage.dial(BUSY_NUMBER))
    # What still works is said by the calls themselves: each goes on being spoken to.
    await asyncio.gather(*(call.ears.listen(500) for call in calls))
    up = sum(call.up for call in calls)
    leaver, *rest = calls
    leaver.hang_up()
    await stage.find_call(leaver.sip.call_id)
    seventh = await stage.call_up(BUSY_NUMBER)
    found = FullHouse(sixth, up, seventh.up)
    for call in (*rest, seventh):
        call.hang_up()
    return found


@plays(fills_the_lines)
async def test_the_sixth_call_on_five_lines_is_busy(stage: Stage, result: FullHouse) -> None:
    assert result == FullHouse(sixth=486, up_after=LINES, seventh=True)
    page = await stage.switch.get("/v1/calls?refusal=line_limit")
    assert [(call["sip_status"], call["number"]) for call in page["data"]] == [(486, "num_busy")]


@dataclass(frozen=True)
class LetIn:
    """A caller before the list has it, with it on the list, and afterwards."""

    before: int
    up: bool
    after: int


async def is_let_in(stage: Stage) -> LetIn:
    before = await dials(stage, caller=NEWCOMER)
    first = stage.switch.first
    key = await stage.switch.api.post(
        "/v1/api_keys",
        json={"name": "list keeper", "scopes": ["caller_numbers:write"]},
        auth=(first["administrator"], first["password"]),
    )
    key.raise_for_status()
    bearer = {"Authorization": f"Bearer {key.json()['secret']}"}
    added = await stage.switch.api.post("/v1/caller_numbers", json={"number": NEWCOMER}, headers=bearer)
    added.raise_for_status()
    call = await stage.dial(caller=NEWCOMER)
    await call.answered(20)
    up = call.up
    call.hang_up()
    taken = await stage.switch.api.delete(f"/v1/caller_numbers/{added.json()['id']}", headers=bearer)
    taken.raise_for_status()
    return LetIn(before, up, await dials(stage, caller=NEWCOMER))


@plays(is_let_in)
async def test_a_caller_is_let_in_and_out_by_the_api(result: LetIn) -> None:
    assert result == LetIn(before=403, up=True, after=403)
