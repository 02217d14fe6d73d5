"""What goes wrong inside or at the edges: each has a defined answer, and none says too much."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
import logging
import typing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from api import front, idempotency, inputs, server
from api.app import create_app
from api.reader import Reader
from api.store import idempotency as records
from sipivr.control.authorise import PERMISSIONS
from sipivr.control.messages import CreatePaymentSession
from sipivr.store import read
from tests.api.conftest import World
from tests.api.test_http import assert_problem
from tests.api.test_live import Served, served  # noqa: F401  (a fixture)
from tests.api.test_sessions import body

JSON = {"Content-Type": "application/json"}


async def test_a_fault_of_ours_says_nothing(world: World, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("the secret 4111111111111111")

    monkeypatch.setattr(read, "shops", broken)
    answer = await world.a.get("/v1/shops")
    assert_problem(answer, 500, "internal")
    assert "4111" not in answer.text + caplog.text
    fault = next(r for r in caplog.records if r.getMessage() == "fault")
    assert fault.sipivr_fields["exception"] == "ValueError"
    assert "4111" not in json.dumps(fault.sipivr_fields)
    assert fault.sipivr_fields["request_id"] == answer.headers["x-request-id"]


async def test_a_missing_database_is_503_until_it_is_there(world: World, monkeypatch, tmp_path):
    reader = Reader(tmp_path / "switch.db")
    deps = dataclasses.replace(world.deps, reader=reader, registry=CollectorRegistry())
    monkeypatch.setattr(world, "app", create_app(deps))
    try:
        async with world.client(world.key_a) as client:
            answer = await client.get("/v1/shops")
            assert_problem(answer, 503, "store_unavailable")
            assert answer.headers["retry-after"]
            ready = (await client.get("/readyz")).json()
            assert ready == {"ready": False, "records": False, "switch": True, "media": True}
            (tmp_path / "switch.db").symlink_to(world.paths.switch_db)
            assert (await client.get("/v1/shops")).status_code == 200
    finally:
        reader.close()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"amount": ' + b"9" * 60_000 + b"}",
        b'{"order_id": "\\ud800"}',
        b'{"amount": NaN}',
        b"null",
        b"[]",
    ],
    ids=["deep", "huge", "surrogate", "nan", "null", "list"],
)
async def test_hostile_json(world: World, content: bytes):
    for path in ("/v1/payment_sessions", f"/v1/payment_sessions/{world.session_a}/cancel"):
        answer = await world.a.post(path, content=content, headers=JSON | {"Idempotency-Key": "k"})
        if path.endswith("cancel") and content == b"null":
            continue
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_types(world: World, media_type: str):
    answer = await world.a.post("/v1/payment_sessions", content=b"{}", headers={"Content-Type": media_type})
    assert_problem(answer, 415, "unsupported_media_type")


async def test_a_body_that_does_not_come(world: World, monkeypatch):
    monkeypatch.setattr(front, "BODY_TIMEOUT_S", 0.05)

    async def slow():
        yield b"{"
        await asyncio.sleep(1)

    assert_problem(await world.a.post("/v1/payment_sessions", content=slow(), headers=JSON), 408, "timed_out")


async def test_a_head_that_does_not_come(served: Served, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.2)
    host, _, port = served.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await reader.readuntil(b"\r\n")
    writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
    async with asyncio.timeout(5):
        await reader.read()
        assert reader.at_eof()
    writer.close()


async def test_what_a_dead_process_left_is_taken_over(world: World):
    caller = world.principal_a
    await world.a.post("/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": "k"})
    await world.deps.store.run(lambda db: db.execute("UPDATE idempotency SET status = NULL, body = NULL"))
    again = await world.a.post("/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": "k"})
    assert_problem(again, 409, "order_in_progress")
    kept = await world.deps.store.run(records.begin, caller, "k", b"", 0.0)
    assert kept.status == 409


async def test_waiting_for_the_same_key_ends(world: World, monkeypatch):
    monkeypatch.setattr(idempotency, "WAIT_S", 0.05)
    world.delay_s = 0.5
    answers = await asyncio.gather(
        *(
            world.a.post("/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": "k"})
            for _ in range(2)
        )
    )
    refused, carried_out = sorted(answers, key=lambda answer: -answer.status_code)
    assert carried_out.status_code == 201
    assert_problem(refused, 409, "idempotency_key_in_use")
    assert len(world.commands(CreatePaymentSession)) == 1


async def test_ended_calls_are_not_hung_up(world: World):
    answer = await world.a.post(f"/v1/calls/{world.call_a}/hang_up", headers={"Idempotency-Key": "k"})
    assert_problem(answer, 409, "conflict")


async def test_the_audit_log_knows_from_where(world: World):
    async with world.client(world.key_a, address="192.0.2.9") as remote:
        await remote.post("/v1/payment_sessions", json=body(world))
    assert world.commands(CreatePaymentSession)[0].source == "192.0.2.9"


def test_scopes_are_the_switchs_permissions():
    # `api_keys:write` is an administrator's alone: no key makes keys; `platform:write` is the platform's.
    assert set(typing.get_args(inputs.Scope)) == PERMISSIONS.keys() - {"api_keys:write", "platform:write"}


ALLOWED = {"sipivr", "sipivr.config", "sipivr.control", "sipivr.store"}
ALLOWED |= {
    f"sipivr.{name}"
    for name in ("control.histograms", "control.messages", "control.client", "store.read", "store.records")
}


@pytest.mark.parametrize("file", sorted(Path("api").rglob("*.py")), ids=str)
def test_what_the_control_plane_imports(file: Path):
    """The arrow of the overview, exactly: `api` could otherwise write what is the switch's to write."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in {"sipivr", "sipivr.store", "sipivr.control"}:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    ours = {name for name in names if name.split(".")[0] in {"sipivr", "media", "bench", "tests"}}
    assert ours <= ALLOWED
    assert len(file.read_text("utf-8").splitlines()) <= 400


def test_the_log_is_one_line_of_json(capsys):
    from api import logs

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("INFO", as_json=True)
        logs.say(logging.getLogger("api"), logging.INFO, "x", value="a\nb\x1b")
        logs.configure("INFO", as_json=False)
        logs.say(logging.getLogger("api"), logging.INFO, "x", value="a\nb\x1b")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["value"] == "a\nb\x1b"
    assert "\x1b" not in lines[1]
