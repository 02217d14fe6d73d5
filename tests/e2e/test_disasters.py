"""Processes that are killed and a database that is locked, each on a switch of its own, in the middle of calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from bench.telephone.customer import VISA
from tests.e2e.conftest import ROOMY_NUMBER, Stage, plays
from tests.e2e.visit import SLOW, Ended, Visit, come_back, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def kill(stage: Stage, kind: str) -> int:
    """SIGKILL to one process of the switch; returns when the supervisor has started another."""
    old = stage.switch.children()[kind]
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(20):
        while stage.switch.children().get(kind, old) == old:
            await asyncio.sleep(0.1)
    return old


# -- media ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survivor:
    """A call whose media worker was killed twice: in the identification number and in the expiry."""

    ended: Ended
    session: str
    charges: int
    told: list[str]


async def loses_its_media(stage: Stage) -> Survivor:
    async with stage.another("media") as own:
        customer = await visit(own)
        number = customer.session["identification_number"]
        await customer.answer(number[:3])
        await kill(own, "media-0")
        # What was keyed is gone; the number is asked for again.
        await customer.answer_again(number)
        await own.capture_open(customer.call)
        await customer.answer(VISA.number)
        await customer.answer(VISA.expiry[:2])
        await kill(own, "media-0")
        await customer.answer_again(VISA.expiry)
        await customer.answer(VISA.security_code)
        await customer.customer.confirm()
        ended = await customer.ended()
        now = await own.session_now(ended.session)
        charges = await own.charges(ended.session)
        return Survivor(ended, now["status"], len(charges), [e["type"] for e in ended.call["timeline"]])


@plays(loses_its_media)
async def test_a_call_survives_its_media_worker(stage: Stage, result: Survivor) -> None:
    assert (result.ended.call["outcome"], result.session, result.charges) == ("paid", "paid", 1)
    assert "card_wiped" in result.told


#: Where each of four customers is when their worker dies: fields that are done, and digits of the next.
PLACES = ((0, 9), (1, 2), (2, 1), (3, 0))


@dataclass(frozen=True)
class Survivors:
    """Four calls that lost one media worker in the middle of their captures."""

    ended: list[Ended]
    sessions: list[str]
    charges: list[int]
    figures: dict[str, float]


async def up_to(customer: Visit, fields: int, digits: int) -> None:
    """Into the card; whoever is in the middle of a field keys on, whatever happens to the line."""
    await customer.identify()
    keys = (VISA.number, VISA.expiry, VISA.security_code)
    for field in keys[:fields]:
        await customer.answer(field)
    if fields < len(keys):
        await customer.answer(keys[fields][:digits])
    else:
        await customer.call.ears.announcement(900)


async def go_on(customer: Visit, fields: int) -> None:
    """What was begun is asked for anew, the rest as always."""
    keys = (VISA.number, VISA.expiry, VISA.security_code)
    if fields < len(keys):
        await customer.answer_again(keys[fields])
        for field in keys[fields + 1 :]:
            await customer.answer(field)
    await customer.customer.confirm()


async def lose_their_media(stage: Stage) -> Survivors:
    async with stage.another("media-four") as own:
        customers = [await visit(own) for _ in PLACES]
        await asyncio.gather(
            *(up_to(customer, *place) for customer, place in zip(customers, PLACES, strict=True))
        )
        keying_on = asyncio.ensure_future(customers[0].customer.key("the rest", VISA.number[9:]))
        await kill(own, "media-0")
        await keying_on
        await asyncio.gather(
            *(go_on(customer, place[0]) for customer, place in zip(customers, PLACES, strict=True))
        )
        ended = [await customer.ended() for customer in customers]
        metrics = (await own.switch.api.get("/metrics")).text
        return Survivors(
            ended,
            [(await own.session_now(one.session))["status"] for one in ended],
            [len(await own.charges(one.session)) for one in ended],
            {
                name: float(value)
                for name, value in re.findall(
                    r'^sipivr_switch\{figure="(\w+)"\} (\S+)$', metrics, re.MULTILINE
                )
            },
        )


@plays(lose_their_media)
async def test_four_captures_survive_their_media_worker(stage: Stage, result: Survivors) -> None:
    assert [one.call["outcome"] for one in result.ended] == ["paid"] * 4
    assert result.sessions == ["paid"] * 4
    assert result.charges == [1] * 4
    for one in result.ended:
        assert "card_wiped" in [entry["type"] for entry in one.call["timeline"]]


@plays(lose_their_media)
async def test_a_lost_worker_shows_in_the_metrics(stage: Stage, result: Survivors) -> None:
    figures = result.figures
    assert figures["media_workers_lost"] == 1
    assert figures["media_workers_back"] == 1
    assert (figures["media_calls_restored"], figures["media_calls_not_restored"]) == (4, 0)
    assert figures["media_restore_ms_max"] > 0


# -- sipivr itself ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AfterTheCrash:
    """Two calls that were up when `sipivr` was killed, and one that came after it."""

    keying: dict[str, Any]
    authorizing: dict[str, Any]
    sessions: list[str]
    payments: list[str]
    charges: list[int]
    next: Ended


async def ready_again(stage: Stage) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await stage.switch.api.get("/readyz")).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.2)


async def loses_its_switch(stage: Stage) -> AfterTheCrash:
    async with stage.another("crash") as own:
        authorizing = await visit(own)
        await authorizing.identify()
        await authorizing.card(SLOW)
        keying = await visit(own)
        await asyncio.gather(authorizing.customer.confirm(), keying.identify())
        await keying.answer("41111")
        await own.until("SELECT 1 FROM payment WHERE status = 'executing'", timeout_s=10)
        await kill(own, "main")
        await ready_again(own)
        # Nobody has told the telephones; they notice the silence and hang up.
        for customer in (keying, authorizing):
            customer.hang_up()
        records = [await own.find_call(customer.call.sip.call_id) for customer in (keying, authorizing)]
        after = await come_back(keying)
        await after.identify()
        await after.pay()
        ended = await after.ended()
        paying = authorizing.session
        await own.until("SELECT 1 FROM payment_session WHERE id = ? AND status = 'paid'", paying["id"])
        both = (keying.session, authorizing.session)
        return AfterTheCrash(
            *records,
            sessions=[(await own.session_now(session))["status"] for session in both],
            payments=[payment["status"] for session in both for payment in await own.payments_of(session)],
            charges=[len(await own.charges(session)) for session in both],
            next=ended,
        )


@plays(loses_its_switch)
async def test_calls_of_a_killed_switch_are_recorded_as_interrupted(
    stage: Stage, result: AfterTheCrash
) -> None:
    for call in (result.keying, result.authorizing):
        assert (call["outcome"], call["ended_by"]) == ("interrupted", "switch")
        assert call["capture_ended_at"]
        assert all(leg["ended_at"] for leg in call["legs"])


@plays(loses_its_switch)
async def test_a_charge_under_way_is_resolved_and_the_next_call_pays(
    stage: Stage, result: AfterTheCrash
) -> None:
    assert result.next.call["outcome"] == "paid"
    assert result.sessions == ["paid", "paid"]
    assert result.payments == ["approved", "approved"]
    assert result.charges == [1, 1]


# -- the store --------------------------------------------------------------------------------------------

#: Longer than a write waits (`StoreWriter`: 3 s), shorter than a call.
LOCKED_S = 8.0


@contextlib.asynccontextmanager
async def locked(stage: Stage) -> AsyncIterator[None]:
    """Another process holds the write lock."""
    holder = sqlite3.connect(stage.database, timeout=10, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")
    finally:
        holder.close()


@dataclass(frozen=True)
class WhileLocked:
    """Calls that were up when the database was locked, one that came then, and one after it."""

    refused: int
    refusals: list[dict[str, Any]]
    left: Ended
    charging: Ended
    next: Ended
    sessions: list[str]
    charges: list[int]


async def finds_the_store_locked(stage: Stage) -> WhileLocked:
    async with stage.another("locked") as own:
        leaving, charging = await visit(own), await visit(own)
        await asyncio.gather(_up_to_the_confirmation(charging), leaving.identify())
        async with locked(own):
            unlocked = asyncio.get_running_loop().time() + LOCKED_S
            await leaving.customer.key("a part of the card number", "41111")
            leaving.hang_up()
            refused = await own.dial(ROOMY_NUMBER)
            await charging.customer.key("1 to agree", "1")
            cause = await refused.ended(10)
            left = await leaving.call.ended()
            await asyncio.sleep(unlocked - asyncio.get_running_loop().time())
        charged = await charging.ended(60)
        gone = Ended(leaving.session, left, await own.find_call(leaving.call.sip.call_id))
        again = await come_back(leaving)
        await again.identify()
        await again.pay()
        ended = await again.ended()
        both = (leaving.session, charging.session)
        return WhileLocked(
            cause.status,
            (await own.switch.get("/v1/calls?refusal=store_unavailable"))["data"],
            gone,
            charged,
            ended,
            [(await own.session_now(session))["status"] for session in both],
            [len(await own.charges(session)) for session in both],
        )


async def _up_to_the_confirmation(customer: Visit) -> None:
    await customer.identify()
    await customer.card(VISA)
    await customer.call.ears.announcement(900)


@plays(finds_the_store_locked)
async def test_a_call_that_cannot_be_recorded_is_refused_and_recorded_later(
    stage: Stage, result: WhileLocked
) -> None:
    assert result.refused == 503
    assert [(call["outcome"], call["sip_status"]) for call in result.refusals] == [("refused", 503)]


@plays(finds_the_store_locked)
async def test_a_charge_that_cannot_be_recorded_is_not_made(stage: Stage, result: WhileLocked) -> None:
    call = result.charging.call
    assert (call["outcome"], call["ended_by"]) == ("gateway_unavailable", "switch")
    assert result.charges[1] == 0
    assert result.sessions[1] in {"open", "expired"}
    assert "card_wiped" in [entry["type"] for entry in call["timeline"]]


@plays(finds_the_store_locked)
async def test_what_ended_behind_the_lock_is_recorded_after_it(stage: Stage, result: WhileLocked) -> None:
    call = result.left.call
    assert (call["outcome"], call["ended_by"]) == ("customer_hung_up", "customer")
    assert "card_wiped" in [entry["type"] for entry in call["timeline"]]
    assert result.next.call["outcome"] == "paid"
    assert (result.sessions[0], result.charges[0]) == ("paid", 1)
