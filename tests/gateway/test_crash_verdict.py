"""The judge of `python -m bench crash` sees what it is there to see, and the relay breaks where it says."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bench._crash_proxy import BOUNDARIES, Proxy
from bench._crash_verdict import Verdict, base_of, judge, open_payments, search
from bench.harness import free_port

VISA = "4111111111111111"


def ledgers(
    tmp_path: Path, payments: list[tuple[str, str]], charges: list[tuple[str, str]]
) -> tuple[Path, Path]:
    ours, theirs = tmp_path / "switch.db", tmp_path / "ledger.db"
    db = sqlite3.connect(ours)
    db.execute("CREATE TABLE payment (order_id, gateway_order_id, status)")
    db.execute("CREATE TABLE audit (action, object)")
    rows = [(base_of(attempt), attempt, status) for attempt, status in payments]
    db.executemany("INSERT INTO payment VALUES (?, ?, ?)", rows)
    db.commit()
    db.close()
    db = sqlite3.connect(theirs)
    db.execute("CREATE TABLE charges (id INTEGER PRIMARY KEY, order_id, kind)")
    db.executemany("INSERT INTO charges (order_id, kind) VALUES (?, ?)", charges)
    db.commit()
    db.close()
    return ours, theirs


def judged(tmp_path: Path, payments: list[tuple[str, str]], charges: list[tuple[str, str]]) -> Verdict:
    return judge(*ledgers(tmp_path, payments, charges))


def test_all_is_well(tmp_path: Path) -> None:
    verdict = judged(
        tmp_path,
        [("a", "approved"), ("b", "declined"), ("b-2", "approved"), ("c", "not_charged")],
        [("a", "CAPTURE"), ("b-2", "CAPTURE"), ("c", "CAPTURE"), ("c", "VOID")],
    )
    assert verdict.right
    assert (verdict.payments, verdict.orders_charged) == (4, 2)


@pytest.mark.parametrize(
    ("payments", "charges", "figure"),
    [
        (
            [("a", "not_charged"), ("a-2", "approved")],
            [("a", "CAPTURE"), ("a-2", "CAPTURE")],
            "double_charges",
        ),
        ([("a", "approved")], [("a", "CAPTURE"), ("a", "CAPTURE")], "double_charges"),
        ([("a", "unknown")], [("a", "CAPTURE")], "lost_approvals"),
        ([], [("a", "CAPTURE")], "lost_approvals"),
        ([("a", "approved")], [], "phantom_approvals"),
        ([("a", "executing")], [], "unresolved"),
        ([("a", "not_charged")], [("a", "CAPTURE")], "late_captures_unresolved"),
    ],
)
def test_what_is_wrong_is_seen(
    tmp_path: Path, payments: list[tuple[str, str]], charges: list[tuple[str, str]], figure: str
) -> None:
    verdict = judged(tmp_path, payments, charges)
    assert getattr(verdict, figure) == 1
    assert not verdict.right
    assert verdict.details


def test_what_is_open_is_counted(tmp_path: Path) -> None:
    ours, _ = ledgers(tmp_path, [("a", "intent"), ("b", "unknown"), ("c", "approved")], [])
    assert open_payments(ours) == 2


@pytest.mark.parametrize(
    "octets",
    [
        VISA.encode(),
        b"4111 1111 1111 1111",
        b"4111-1111-1111-1111",
        VISA[::-1].encode(),
        VISA.encode("utf-16-le"),
        VISA.encode().hex().encode(),
        base64.b64encode(b"CardNo=" + VISA.encode() + b"&Expire=3012"),
        base64.b64encode(b"xCardNo=" + VISA.encode() + b"&"),
        base64.b64encode(b"xyCardNo=" + VISA.encode() + b"&&"),
    ],
)
def test_a_card_number_is_found_in_every_usual_encoding(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "log").write_bytes(b"before " + octets + b" after")
    assert search([tmp_path / "log"], [], [VISA])
    assert search([], [b"x" + octets], [VISA])
    assert not search([tmp_path / "log"], [], ["5555555555554444"])


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nStatusOK!!"


@pytest.fixture
async def relay() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    received: list[bytes] = []

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(b"")
        try:
            while chunk := await reader.read(4096):
                received[-1] += chunk
                if b"&end=1" in received[-1]:
                    writer.write(ANSWER)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    proxy = Proxy(free_port(), server.sockets[0].getsockname()[1], 0.01)
    await proxy.start()
    yield proxy, received
    await proxy.stop()
    server.close()
    await server.wait_closed()


async def ask(proxy: Proxy, order_id: str) -> bytes:
    """What came back, up to a reset; an exception only if nothing did."""
    body = f"OrderID={order_id}-2&filler={'x' * 50}&end=1".encode()
    head = (
        f"POST /payment/ExecTran.idPass HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    back = b""
    try:
        writer.write(head + body)
        while chunk := await reader.read(4096):
            back += chunk
            if back.endswith(b"OK!!"):
                break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return back


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_the_relay_breaks_where_it_says(relay: tuple[Proxy, list[bytes]], boundary: str) -> None:
    proxy, received = relay
    proxy.arm("order", "ExecTran", boundary)
    assert await ask(proxy, "other") == ANSWER
    back = await ask(proxy, "order")
    head = ANSWER.index(b"\r\n\r\n") + 4
    assert (b"&end=1" in received[-1]) is (boundary != "mid_request")
    expected = {
        "mid_request": 0,
        "after_request": 0,
        "answer_headers": head // 2,
        "answer_body": head + 5,
        "after_answer": len(ANSWER),
    }[boundary]
    async with asyncio.timeout(5):
        while not proxy.hits:
            await asyncio.sleep(0.01)
    assert len(back) == expected
    assert proxy.hits == {f"ExecTran {boundary}": 1}
    assert await ask(proxy, "order")  # once


async def test_a_connection_is_cut_or_refused(relay: tuple[Proxy, list[bytes]]) -> None:
    proxy, received = relay
    proxy.cut_next()
    assert await ask(proxy, "order") == b""
    assert received == []
    refusing = asyncio.ensure_future(proxy.refuse_for(0.2))
    await asyncio.sleep(0.05)
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{proxy.port}/")
    await refusing
    assert await ask(proxy, "order")
