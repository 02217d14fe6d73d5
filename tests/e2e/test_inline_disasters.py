"""Inline calls whose media worker is killed, and a switch that is told to stop, each on a switch of its own."""

from __future__ import annotations

import asyncio
import signal
from typing import Any, Final

import pytest

from bench.telephone.customer import VISA
from media.protocol import KeyWay
from tests.e2e.conftest import Stage, desks_planted, plays
from tests.e2e.test_disasters import kill
from tests.e2e.test_inline import Pair, connect, keys_read

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Digits of the card that have been keyed when the worker dies; the customer keys on to the end.
KEYED: Final = (1, 4, 8, 15)
#: Numbers of `INLINE_NUMBERS`, one for each call of this module: desks must not mix.
CAPTURES: Final = ("paid", "star", "back", "leaves")


async def lose_their_media(stage: Stage) -> dict[str, Any]:
    """One call in talk and four in captures."""
    plant = desks_planted(lambda _: None, stage.phone, prefix="lost-")
    async with stage.another("inline-media", plant=plant) as own:
        talking = await connect(own, "alone", "lost-desk-alone")
        pairs = [await connect(own, name, f"lost-desk-{name}") for name in CAPTURES]
        marks = []
        for pair in pairs:
            session = await own.session(language="en")
            assert await pair.capture(session) == 200
            await own.capture_open(pair.customer)
            marks.append(len(pair.operator.heard.samples))
        await asyncio.gather(*map(key_before, pairs, KEYED))
        keying = [
            asyncio.create_task(key_after(pair, keyed)) for pair, keyed in zip(pairs, KEYED, strict=True)
        ]
        await kill(own, "media-0")
        await asyncio.gather(*keying)
        await talking.customer.ears.listen(2_000)
        talked = await talking.talk()
        taken = [await pair.command("take_back") for pair in pairs]
        for pair in pairs:
            await pair.closed()
        read = [
            keys_read(pair.operator.heard.samples[mark:]) for pair, mark in zip(pairs, marks, strict=True)
        ]
        again = [await pair.talk() for pair in pairs]
        calls = [await pair.part() for pair in (*pairs, talking)]
    return {
        "talked": talked,
        "taken": taken,
        "read": read,
        "again": again,
        "events": [pair.operator.keys_heard for pair in pairs],
        "sent": [len(keys_read(pair.customer.said.samples)) for pair in pairs],
        "outcomes": [call["outcome"] for call in calls],
    }


async def key_before(pair: Pair, keyed: int) -> None:
    await pair.customer.key(VISA.number[:keyed], KeyWay.INBAND)


async def key_after(pair: Pair, keyed: int) -> None:
    await pair.customer.key(VISA.number[keyed:], KeyWay.INBAND)
    await pair.customer.key(VISA.expiry + VISA.security_code, KeyWay.INBAND)


@plays(lose_their_media)
async def test_no_key_is_read_when_the_media_worker_dies_in_a_capture(result: dict[str, Any]) -> None:
    assert all(sent > 16 for sent in result["sent"]), "the tones must be there to be hidden"
    assert result["read"] == [[], [], [], []]
    assert result["events"] == [[], [], [], []]


@plays(lose_their_media)
async def test_inline_calls_survive_their_media_worker(result: dict[str, Any]) -> None:
    assert result["talked"]
    assert result["taken"] == [200, 200, 200, 200]
    assert result["again"] == [True, True, True, True]
    assert result["outcomes"] == ["taken_back"] * 4 + ["customer_hung_up"]


async def told_to_stop(stage: Stage) -> dict[str, Any]:
    """SIGTERM with ten calls up, three of them in captures; nobody hangs up."""
    plant = desks_planted(lambda _: None, stage.phone, prefix="stop-")
    environment = {"SIPIVR_CALLS__DRAIN_S": "4"}
    async with stage.another("inline-stop", plant=plant, environment=environment) as own:
        pairs = [await connect(own, "paid", "stop-desk-paid") for _ in range(10)]
        for pair in pairs[:3]:
            assert await pair.capture(await own.session(language="en")) == 200
            await own.capture_open(pair.customer)
        stopping = asyncio.create_task(own.switch.stop())
        await draining(own)
        late = await own.dial(own.inline("paid"))
        refused = await late.ended(10)
        causes = [await pair.customer.ended(20) for pair in pairs]
        operators = [await pair.operator.ended(20) for pair in pairs]
        status = await stopping
        ended = own.rows("SELECT outcome, ended_at IS NOT NULL FROM call WHERE answered_at IS NOT NULL")
        open_ = own.rows("SELECT status FROM payment_session")
        legs = own.rows("SELECT count(*) FROM leg WHERE ended_at IS NULL")
        await own.switch.start()  # for those who clean up
    return {
        "refused": refused.status,
        "by_remote": {cause.by_remote for cause in (*causes, *operators)},
        "status": status,
        "ended": ended,
        "sessions": open_,
        "legs": legs,
    }


async def draining(stage: Stage) -> None:
    """Waits until the switch has understood."""
    async with asyncio.timeout(20):
        while "no new calls; 10 running ones" not in stage.switch.log_tail(200):
            await asyncio.sleep(0.05)


@plays(told_to_stop)
async def test_a_switch_that_is_told_to_stop_ends_its_calls_and_their_records(
    result: dict[str, Any],
) -> None:
    assert result["status"] in (0, -signal.SIGTERM)
    assert result["refused"] == 503
    assert result["by_remote"] == {True}
    assert len(result["ended"]) == 10 and all(ended for _, ended in result["ended"])
    assert result["legs"] == [(0,)]
    assert {status for (status,) in result["sessions"]} <= {"open", "expired"}
