"""Settle, void, refund and another amount by the API; what the gateway makes of them is in tests/calls."""

from __future__ import annotations

import pytest

from sipivr.control.messages import ChangePayment, GiveBackPayment
from tests.api.conftest import World


async def paid(world: World) -> str:
    found = (await world.a.get("/v1/payments", params={"order_id": world.paid_order})).json()["data"]
    (payment,) = [payment for payment in found if payment["status"] == "approved"]
    return str(payment["id"])


@pytest.mark.parametrize(
    ("path", "body", "kind", "command"),
    [
        ("settle", {}, "settle", ChangePayment),
        ("amount", {"amount": 700}, "amount", ChangePayment),
        ("void", {}, "void", GiveBackPayment),
        ("refund", {}, "refund", GiveBackPayment),
        ("refund", {"amount": 300}, "refund", GiveBackPayment),
    ],
)
async def test_a_change_is_taken_once(world: World, path: str, body: dict, kind: str, command: type) -> None:
    payment = await paid(world)
    key = {"Idempotency-Key": f"key-{path}-{len(body)}"}
    answer = await world.a.post(f"/v1/payments/{payment}/{path}", json=body, headers=key)
    assert answer.status_code == 202, answer.text
    change = answer.json()
    assert (change["object"], change["kind"], change["status"]) == ("payment_change", kind, "pending")
    assert change["amount"] == body.get("amount")
    again = await world.a.post(f"/v1/payments/{payment}/{path}", json=body, headers=key)
    assert again.json()["id"] == change["id"]
    assert len(world.commands(command)) == 1
    other = await world.a.post(f"/v1/payments/{payment}/void", json={})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    listed = (await world.a.get(f"/v1/payments/{payment}/changes")).json()
    assert [row["id"] for row in listed["data"]] == [change["id"]]
    assert [started.id for started in world.switch.changes.started] == [change["id"]]


@pytest.mark.parametrize("path", ["settle", "amount", "void", "refund", "changes"])
async def test_only_of_one_s_own_payments(world: World, path: str) -> None:
    payment = await paid(world)
    method = "GET" if path == "changes" else "POST"
    body = {"amount": 5} if path == "amount" else {}
    answer = await world.b.request(
        method, f"/v1/payments/{payment}/{path}", json=None if method == "GET" else body
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("refund", {"amount": 0}),
        ("refund", {"amount": "5"}),
        ("refund", {"amount": 99_999_999}),
        ("amount", {}),
        ("void", {"amount": 5}),
        ("settle", {"amount": 5}),
    ],
)
async def test_amounts_that_do_not_fit(world: World, path: str, body: dict) -> None:
    payment = await paid(world)
    answer = await world.a.post(f"/v1/payments/{payment}/{path}", json=body)
    assert answer.status_code == 422
    assert world.switch.changes.started == []


async def test_each_needs_its_scope(world: World) -> None:
    payment = await paid(world)
    secret = await world.add_key(
        world.principal_a, world.merchant_a, scopes=("payments:read", "payments:write")
    )
    client = world.client(secret)
    for path in ("void", "refund"):
        answer = await client.post(f"/v1/payments/{payment}/{path}", json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    await client.aclose()
