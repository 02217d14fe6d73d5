from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.control import frames, server
from sipivr.control.client import ControlClient, SwitchUnavailable
from sipivr.control.frames import FrameError
from sipivr.control.messages import (
    MAX_FRAME_BYTES,
    CreatePaymentSession,
    ErrorCode,
    EventNotice,
    Ping,
    ProgressNotice,
    Reply,
    Request,
    Subscribe,
)
from sipivr.control.server import ControlServer
from sipivr.store import read
from tests.control.conftest import Switch

PING = Ping(principal="")


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):  # what is waited for has no event of its own
        while not condition():
            await asyncio.sleep(0.005)


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            while await reader.read(65536):
                pass
    except ConnectionResetError:
        pass
    return True


async def test_the_socket_is_for_its_group_alone(switch: Switch) -> None:
    assert switch.path.stat().st_mode & 0o777 == 0o660
    await switch.server.stop()
    assert not switch.path.exists()


async def test_another_user_is_refused(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch.server, "_allowed", frozenset({os.getuid() + 1}))
    reader, writer = await asyncio.open_unix_connection(str(switch.path))
    writer.write(frames.encode(Request(id=1, command=PING)))
    assert await closed(reader)
    assert switch.server.counters.refused_peers == 1
    assert switch.server.counters.requests == 0
    writer.close()
    assert (await switch.ask(PING)).result  # who was in stays in


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        struct.pack(">I", MAX_FRAME_BYTES + 1) + b"x" * 100,
        struct.pack(">I", 5) + b"hello",
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 4000) + b"\x91" * 4000,
        frames.encode(Subscribe(version=99)),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_message_costs_its_sender_the_connection_and_nobody_else(
    switch: Switch, sent: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(switch.path))
    writer.write(sent)
    assert await closed(reader)
    writer.close()
    assert switch.server.counters.malformed == 1
    assert (await switch.ask(PING)).result


async def test_a_frame_cut_short_is_malformed(switch: Switch) -> None:
    reader, writer = await asyncio.open_unix_connection(str(switch.path))
    writer.write(struct.pack(">I", 100) + b"half")
    writer.write_eof()
    assert await closed(reader)
    writer.close()
    assert switch.server.counters.malformed == 1


async def test_a_command_of_a_newer_api_is_answered(switch: Switch) -> None:
    reader, writer = await asyncio.open_unix_connection(str(switch.path))
    document = msgspec.msgpack.encode({"type": "Request", "id": 7, "command": {"type": "FlyToTheMoon"}})
    writer.write(struct.pack(">I", len(document)) + document)
    answer = frames.decode_from_switch(await frames.read_frame(reader) or b"")
    assert isinstance(answer, Reply) and (answer.id, answer.error) == (7, ErrorCode.INVALID)
    writer.write(frames.encode(Request(id=8, command=PING)))
    answer = frames.decode_from_switch(await frames.read_frame(reader) or b"")
    assert isinstance(answer, Reply) and answer.id == 8 and answer.result
    writer.close()


@given(st.binary(max_size=300))
def test_no_document_does_anything_but_fail(document: bytes) -> None:
    try:
        frames.decode_from_api(document)
    except FrameError:
        frames.request_number(document)


async def test_an_error_of_ours_is_an_answer_and_the_connection_lives(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> dict[str, str | int | bool | None]:
        raise ValueError("4111111111111111")

    switch.server._handle = broken
    client = ControlClient(switch.path)
    await client.start()
    assert await client.wait_connected(5)
    reply = await client.request(PING)
    assert reply.error is ErrorCode.INTERNAL and "4111" not in str(reply)
    assert (await client.request(PING)).error is ErrorCode.INTERNAL
    assert switch.server.counters.failures == 2
    await client.close()


async def test_replies_find_their_requests_in_any_order(switch: Switch) -> None:
    async def slow(command: object) -> dict[str, str | int | bool | None]:
        assert isinstance(command, Ping)
        await asyncio.sleep(0.02 if command.principal == "0" else 0)
        return {"principal": command.principal}

    switch.server._handle = slow
    client = ControlClient(switch.path)
    await client.start()
    await client.wait_connected(5)
    replies = await asyncio.gather(*(client.request(Ping(principal=str(i))) for i in range(200)))
    assert [r.result and r.result["principal"] for r in replies] == [str(i) for i in range(200)]
    await client.close()


async def test_requests_under_way_are_bounded(switch: Switch) -> None:
    gate = asyncio.Event()
    running = 0

    async def wait(_: object) -> dict[str, str | int | bool | None]:
        nonlocal running
        running += 1
        await gate.wait()
        return {}

    switch.server._handle = wait
    client = ControlClient(switch.path)
    await client.start()
    await client.wait_connected(5)
    tasks = [asyncio.create_task(client.request(PING)) for _ in range(500)]
    await until(lambda: running >= server.MAX_REQUESTS_UNDER_WAY)
    await asyncio.sleep(0.05)
    assert running == server.MAX_REQUESTS_UNDER_WAY
    assert (await switch.ask(PING)).result  # another connection is not held up
    gate.set()
    assert all(reply.error is None for reply in await asyncio.gather(*tasks))
    await client.close()


async def test_connections_are_bounded(switch: Switch) -> None:
    opened = [await asyncio.open_unix_connection(str(switch.path)) for _ in range(server.MAX_CONNECTIONS + 3)]
    await until(lambda: switch.server.counters.refused_full == 4)
    assert (await switch.ask(PING)).result
    for _, writer in opened:
        writer.close()


async def test_no_answer_in_time(switch: Switch) -> None:
    async def never(_: object) -> dict[str, str | int | bool | None]:
        await asyncio.sleep(60)
        return {}

    switch.server._handle = never
    client = ControlClient(switch.path, request_timeout_s=0.05)
    await client.start()
    await client.wait_connected(5)
    with pytest.raises(SwitchUnavailable) as error:
        await client.request(PING)
    assert error.value.sent
    await client.close()


async def test_without_a_switch_requests_fail_at_once(tmp_path: Path) -> None:
    client = ControlClient(tmp_path / "none.sock")
    await client.start()
    assert not await client.wait_connected(0.02)
    with pytest.raises(SwitchUnavailable) as error:
        await client.request(PING)
    assert not error.value.sent
    await client.close()
    await client.close()


async def test_a_command_that_is_too_long_is_not_sent(switch: Switch) -> None:
    with pytest.raises(SwitchUnavailable) as error:
        await switch.ask(
            CreatePaymentSession(
                principal=switch.key, shop="s", order_id="o", amount=1, metadata={"x": "y" * MAX_FRAME_BYTES}
            )
        )
    assert not error.value.sent
    assert (await switch.ask(PING)).result


async def test_the_client_comes_back_and_misses_no_event(switch: Switch) -> None:
    seen: list[int] = []
    following = asyncio.create_task(_follow(switch.client, seen))
    await asyncio.sleep(0)
    first = await switch.ask(_create(switch, "A1"))
    assert first.result
    await until(lambda: seen and seen[-1] == read.newest_sequence(switch.world.store.db))
    waiting = asyncio.create_task(switch.ask(PING))
    await switch.server.stop()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: not switch.client.connected)
    from sipivr.store import write
    from sipivr.store.records import SYSTEM

    await switch.writer.run(
        write.create_payment_session,
        SYSTEM,
        merchant=switch.world.merchant,
        shop=switch.world.shop,
        order_id="A2",
        amount=1,
    )
    newest = read.newest_sequence(switch.world.store.db)
    again = ControlServer(switch.path, switch.commands, newest=newest)
    await again.start()
    assert await switch.client.wait_connected(10)
    await until(lambda: seen[-1] == newest)
    assert (await switch.ask(PING)).result
    await again.stop()
    await switch.client.close()
    await following


async def _follow(client: ControlClient, seen: list[int]) -> None:
    async for notice in client.notices():
        if isinstance(notice, EventNotice):
            seen.append(notice.sequence)


def _create(switch: Switch, order_id: str) -> CreatePaymentSession:
    return CreatePaymentSession(principal=switch.key, shop=switch.world.shop, order_id=order_id, amount=1)


def _progress(i: int) -> ProgressNotice:
    return ProgressNotice(merchant="m", session="s", call="c", values={"step": i, "text": "x" * 2000})


async def test_a_subscriber_that_does_not_read_is_dropped_alone(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_TIMEOUT_S", 0.2)
    reader, writer = await asyncio.open_unix_connection(str(switch.path), limit=1024)
    writer.write(frames.encode(Subscribe()))
    await frames.read_frame(reader)  # accepted; from here on nothing is read
    writer.transport.pause_reading()
    got: list[object] = []

    async def listen() -> None:
        async for notice in switch.client.notices():
            got.append(notice)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    for i in range(2000):
        switch.server.publish_progress(_progress(i))
        if i % 50 == 0:
            await asyncio.sleep(0.002)
    await until(lambda: switch.server.counters.slow_dropped == 1)
    await until(lambda: bool(got) and got[-1] == _progress(1999))
    assert (await switch.ask(PING)).result
    writer.transport.abort()
    await switch.client.close()
    await listening


async def test_event_numbers_do_not_pile_up(switch: Switch) -> None:
    reader, writer = await asyncio.open_unix_connection(str(switch.path))
    writer.write(frames.encode(Subscribe()))
    await frames.read_frame(reader)
    for sequence in range(1000, 11_000):
        switch.server.publish_event(sequence)
    notice = frames.decode_from_switch(await frames.read_frame(reader) or b"")
    assert notice == EventNotice(sequence=10_999)
    assert switch.server.counters.slow_dropped == 0
    writer.close()


async def test_a_listener_that_is_slow_keeps_the_newest(switch: Switch) -> None:
    listener = switch.client.notices()
    first = asyncio.create_task(anext(listener))
    await asyncio.sleep(0)
    switch.server.publish_event(1_000_000)
    await first
    for i in range(600):
        switch.server.publish_progress(_progress(i))
        if i % 100 == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    kept = [await anext(listener) for _ in range(256)]
    assert kept[-1] == _progress(599)
    await listener.aclose()


async def test_a_socket_left_by_a_killed_switch_is_replaced_and_a_live_one_is_not(switch: Switch) -> None:
    second = ControlServer(switch.path, switch.commands)
    with pytest.raises(FileExistsError, match="another switch"):
        await second.start()
    import socket

    stale = switch.path.with_name("stale.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    third = ControlServer(stale, switch.commands)
    await third.start()
    await third.stop()
    file = switch.path.with_name("file")
    file.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket"):
        await ControlServer(file, switch.commands).start()
    assert file.read_text() == "precious"


async def test_what_was_accepted_is_done_though_its_asker_left(switch: Switch) -> None:
    _, writer = await asyncio.open_unix_connection(str(switch.path))
    writer.write(frames.encode(Request(id=1, command=_create(switch, "A7"))))
    await writer.drain()
    writer.close()
    await until(
        lambda: bool(read.payment_sessions(switch.world.store.db, switch.world.merchant, order_id="A7").items)
    )
