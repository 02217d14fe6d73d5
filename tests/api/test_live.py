"""Event streams over a real server: order, resume, tenancy, revocation, slow clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from api import live, server
from api.live import Live
from sipivr.control.messages import ProgressNotice
from sipivr.store import write
from sipivr.store.records import SYSTEM, EventRecord, Mode
from tests.api.conftest import World, a_world


class Served:
    """The world's application behind uvicorn on a port of its own."""

    def __init__(self, world: World, base_url: str) -> None:
        self.world = world
        self.base_url = base_url

    @asynccontextmanager
    async def events(self, key: str, last: str | None = None) -> AsyncIterator[AsyncIterator[dict]]:
        headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last} if last else {})
        async with (
            httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=10) as client,
            client.stream("GET", "/v1/events/stream") as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _parsed(answer)


async def _parsed(answer: httpx.Response) -> AsyncIterator[dict]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            fields["comment"] = line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


async def _next(events: AsyncIterator[dict], type_: str | None = None) -> dict:
    async with asyncio.timeout(5):
        async for found in events:
            if "data" in found and (type_ is None or found["event"] == type_):
                return found
            if type_ == "comment" and "comment" in found:
                return found
    raise AssertionError("the stream ended")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with a_world() as world:
        settings = type(world.settings.api)(listen="127.0.0.1:0")
        http = server.server(world.app, world.deps, settings)
        # The application's lifespan is run by the world.
        http.config.lifespan = "off"
        task = asyncio.create_task(http.serve())
        async with asyncio.timeout(10):
            while not http.started:
                await asyncio.sleep(0.01)
        port = http.servers[0].sockets[0].getsockname()[1]
        try:
            yield Served(world, f"http://127.0.0.1:{port}")
        finally:
            http.should_exit = True
            await asyncio.wait_for(task, 10)


async def _happen(world: World, order: str, merchant: str = "a") -> str:
    session = await world.writer.run(
        write.create_payment_session,
        SYSTEM,
        merchant=getattr(world, f"merchant_{merchant}"),
        shop=getattr(world, f"shop_{merchant}"),
        order_id=order,
        amount=1,
    )
    return session.id


async def test_events_come_as_they_happen_and_to_their_merchant_alone(served: Served):
    world = served.world
    async with served.events(world.key_a) as of_a, served.events(world.key_b) as of_b:
        await _next(of_a, "comment")
        await _next(of_b, "comment")
        mine, theirs = await _happen(world, "L1"), await _happen(world, "L1", "b")
        for events, session, key in ((of_a, mine, "a"), (of_b, theirs, "b")):
            event = await _next(events)
            data = json.loads(event["data"])
            assert data["data"]["id"] == session, key
            assert event["id"] == data["id"]
            assert event["event"] == data["type"]
            assert "identification_number" not in data["data"]


async def test_resume_misses_nothing_and_repeats_nothing(served: Served):
    world = served.world
    all_events = (await world.a.get("/v1/events?limit=100")).json()["data"]
    last = all_events[2]["id"]
    expected = [event["id"] for event in all_events[3:]]
    async with served.events(world.key_a, last) as events:
        seen = [(await _next(events))["id"] for _ in expected]
        assert seen == expected
        session = await _happen(world, "R1")
        assert json.loads((await _next(events))["data"])["data"]["id"] == session
    async with served.events(world.key_a, seen[-1]) as events:
        assert json.loads((await _next(events))["data"])["data"]["id"] == session


async def test_a_lost_notice_is_made_up_for(served: Served, monkeypatch):
    monkeypatch.setattr(live, "POLL_S", 0.05)
    world = served.world
    async with served.events(world.key_a) as events:
        await _next(events, "comment")
        await world.stop_switch()
        session = await _happen(world, "N1")
        assert json.loads((await _next(events))["data"])["data"]["id"] == session


async def test_another_merchants_event_is_no_place_to_resume(served: Served):
    async with httpx.AsyncClient(base_url=served.base_url) as client:
        for last in (served.world.event_a, "evt_none"):
            answer = await client.get(
                "/v1/events/stream",
                headers={"Authorization": f"Bearer {served.world.key_b}", "Last-Event-ID": last},
            )
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_progress_has_no_id_and_goes_to_its_merchant(served: Served):
    world = served.world
    async with served.events(world.key_a) as of_a, served.events(world.key_b) as of_b:
        await _next(of_a, "comment")
        await _next(of_b, "comment")
        world.switch.progress(
            ProgressNotice(merchant=world.merchant_a, session="ps_1", call="call_1", values={"pan_groups": 2})
        )
        event = await _next(of_a)
        assert event["event"] == "capture.progress"
        assert "id" not in event
        assert json.loads(event["data"]) == {"session": "ps_1", "call": "call_1", "values": {"pan_groups": 2}}
        await _happen(world, "B1", "b")
        assert (await _next(of_b))["event"] != "capture.progress"


async def test_a_revoked_keys_streams_end(served: Served):
    world = served.world
    async with served.events(world.key_a) as events:
        await _next(events, "comment")
        await world.admin_a.post(f"/v1/api_keys/{world.key_id_a}/revoke")
        async with asyncio.timeout(5):
            assert [
                event async for event in events if "data" in event and "principal" not in event["event"]
            ] == []


async def test_heart_beats_look_whether_the_key_still_may(served: Served, monkeypatch):
    monkeypatch.setattr(live, "HEART_BEAT_S", 0.05)
    world = served.world
    async with served.events(world.key_a) as events:
        await _next(events, "comment")
        assert "heart-beat" in (await _next(events, "comment"))["comment"]
        await world.set_permissions(world.principal_a, ("calls:read",))
        async with asyncio.timeout(5):
            async for _ in events:
                pass


async def test_a_stream_that_is_never_silent_looks_too(world: World, monkeypatch):
    monkeypatch.setattr(live, "HEART_BEAT_S", 0.05)

    async def switched_off() -> bool:
        return False

    stream = world.deps.live.open(
        key="key_1", merchant="mer_x", mode=Mode.TEST, progress=True, still_allowed=switched_off
    )

    async def events() -> None:
        for n in range(10_000):
            stream.offer(_event(n + 1))
            await asyncio.sleep(0.005)

    feeding = asyncio.create_task(events())
    async with asyncio.timeout(5):
        chunks = [chunk async for chunk in stream.chunks(None)]
    feeding.cancel()
    assert len(chunks) > 2
    assert not any("heart-beat" in chunk for chunk in chunks)


async def test_streams_of_a_key_are_limited(world: World):
    opened = [_open(world.deps.live) for _ in range(live.STREAMS_PER_KEY)]
    with pytest.raises(Exception, match="too_many_streams"):
        _open(world.deps.live)
    opened[0].close()
    _open(world.deps.live).close()


def _open(of: Live, key: str = "key_1", merchant: str = "mer_x"):
    async def allowed() -> bool:
        return True

    return of.open(key=key, merchant=merchant, mode=Mode.TEST, progress=True, still_allowed=allowed)


def _event(sequence: int, mode: Mode | None = Mode.TEST) -> EventRecord:
    return EventRecord(
        sequence, f"evt_{sequence}", "x.happened", "mer_x", mode, "2026-11-23T00:00:00.000Z", {}
    )


async def test_a_slow_client_is_dropped_and_costs_a_bounded_queue(world: World):
    slow, other = _open(world.deps.live), _open(world.deps.live, "key_2", "mer_y")
    for n in range(live.QUEUE_EVENTS * 2):
        slow.offer(_event(n + 1))
        other.offer(_event(n + 1))
    assert slow._queue.qsize() <= live.QUEUE_EVENTS + 1
    async with asyncio.timeout(2):
        chunks = [chunk async for chunk in slow.chunks(None)]
    assert len(chunks) == 1
    assert other._queue.empty()


async def test_a_stream_shows_its_mode(world: World):
    stream = _open(world.deps.live)
    for n, mode in enumerate((Mode.LIVE, Mode.TEST, None)):
        stream.offer(_event(n + 1, mode))
    assert stream._queue.qsize() == 2


async def test_the_server_stops_with_streams_open(served: Served):
    async with served.events(served.world.key_a) as events:
        await _next(events, "comment")
        served.world.deps.live.close()
        async with asyncio.timeout(5):
            async for _ in events:
                pass
