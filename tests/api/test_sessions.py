"""Payment sessions: made, shown, cancelled; once for each Idempotency-Key; and with the switch down."""

from __future__ import annotations

import asyncio

import pytest

from sipivr.control import messages
from tests.api.conftest import World
from tests.api.test_http import assert_problem


def body(world: World, order_id: str = "A1001", **more) -> dict:
    return {"shop": world.shop_a, "order_id": order_id, "amount": 12300} | more


async def test_create_retrieve_cancel(world: World):
    made = await world.a.post("/v1/payment_sessions", json=body(world, metadata={"desk": "3"}))
    assert made.status_code == 201, made.text
    session = made.json()
    assert session["object"] == "payment_session"
    assert session["status"] == "open"
    assert session["mode"] == "test"
    assert session["amount"] == 12300
    assert session["metadata"] == {"desk": "3"}
    assert session["identification_number"].isdecimal()
    assert session["identification_number_expires_at"].endswith("Z")
    assert session["dial"].startswith("+81")
    assert session["created_by"] == world.principal_a
    path = f"/v1/payment_sessions/{session['id']}"
    assert (await world.a.get(path)).json() == session
    renewed = (await world.a.post(f"{path}/identification_number")).json()
    assert renewed["identification_number"] != session["identification_number"]
    cancelled = await world.a.post(f"{path}/cancel", json={})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "canceled")
    assert (await world.a.post(f"{path}/cancel")).json() == cancelled.json()
    assert_problem(await world.a.post(f"{path}/identification_number"), 409, "conflict")
    assert_problem(await world.a.post(f"/v1/payment_sessions/{world.paid_session}/cancel"), 409, "conflict")


async def test_an_order_is_open_once(world: World):
    first = (await world.a.post("/v1/payment_sessions", json=body(world))).json()
    document = assert_problem(
        await world.a.post("/v1/payment_sessions", json=body(world)), 409, "order_in_progress"
    )
    assert document["related"] == first["id"]


async def test_another_merchants_shop_does_not_exist(world: World):
    answer = await world.b.post("/v1/payment_sessions", json=body(world))
    assert_problem(answer, 404, "not_found")


async def test_the_same_key_is_one_session_shown_as_it_is(world: World):
    head = {"Idempotency-Key": "order-A1001"}
    first = await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    assert "idempotent-replayed" not in first.headers
    again = await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == first.json()
    await world.a.post(f"/v1/payment_sessions/{first.json()['id']}/cancel")
    later = await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    assert (later.json()["id"], later.json()["status"]) == (first.json()["id"], "canceled")
    assert len(world.commands(messages.CreatePaymentSession)) == 1


async def test_fifty_at_once_with_one_key_are_one_session(world: World):
    head = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(
        *(world.a.post("/v1/payment_sessions", json=body(world), headers=head) for _ in range(50))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(world.commands(messages.CreatePaymentSession)) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1


async def test_the_same_key_with_another_request(world: World):
    head = {"Idempotency-Key": "k"}
    made = (await world.a.post("/v1/payment_sessions", json=body(world), headers=head)).json()
    other = await world.a.post("/v1/payment_sessions", json=body(world, amount=1), headers=head)
    assert_problem(other, 409, "idempotency_key_reused")
    path = await world.a.post(f"/v1/payment_sessions/{made['id']}/cancel", headers=head)
    assert_problem(path, 409, "idempotency_key_reused")


async def test_the_order_of_fields_is_not_another_request(world: World):
    head = {"Idempotency-Key": "k"}
    await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    again = await world.a.post("/v1/payment_sessions", json=dict(reversed(body(world).items())), headers=head)
    assert again.status_code == 201


async def test_keys_belong_to_their_sender(world: World):
    head = {"Idempotency-Key": "k"}
    await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    other = await world.b.post(
        "/v1/payment_sessions", json=body(world) | {"shop": world.shop_b}, headers=head
    )
    assert other.status_code == 201
    assert "idempotent-replayed" not in other.headers


async def test_a_refusal_is_replayed_too(world: World):
    await world.a.post("/v1/payment_sessions", json=body(world))
    answers = [
        await world.a.post("/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    for answer in answers:
        assert_problem(answer, 409, "order_in_progress")
    assert answers[1].headers["idempotent-replayed"] == "true"


async def test_twenty_at_once_are_one(world: World):
    world.delay_s = 0.05
    answers = await asyncio.gather(
        *(
            world.a.post("/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": "k"})
            for _ in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(world.commands(messages.CreatePaymentSession)) == 1


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
async def test_keys_that_are_none(world: World, key: str):
    answer = await world.a.post(
        "/v1/payment_sessions", json=body(world), headers={"Idempotency-Key": key.encode()}
    )
    assert_problem(answer, 400, "invalid_idempotency_key")


async def test_the_switch_is_down(world: World):
    head = {"Idempotency-Key": "k"}
    await world.stop_switch()
    answer = await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    assert_problem(answer, 503, "switch_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    for path in ("/v1/payment_sessions", f"/v1/calls/{world.call_a}", "/v1/payments", "/v1/events"):
        assert (await world.a.get(path)).status_code == 200
    await world.start_switch()
    retried = await world.a.post("/v1/payment_sessions", json=body(world), headers=head)
    assert retried.status_code == 201
    assert "idempotent-replayed" not in retried.headers


async def test_pages(world: World):
    made = []
    for n in range(7):
        answer = await world.a.post("/v1/payment_sessions", json=body(world, f"P{n}"))
        made.insert(0, answer.json()["id"])
    made.append(world.session_a)
    seen, cursor = [], None
    for _ in range(10):
        params = {"limit": 3} | ({"starting_after": cursor} if cursor else {})
        page = (await world.a.get("/v1/payment_sessions", params=params)).json()
        assert page["object"] == "list"
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        cursor = page["data"][-1]["id"]
    assert seen[:7] == made[:7]
    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)
    for limit in ("0", "101", "x"):
        answer = await world.a.get("/v1/payment_sessions", params={"limit": limit})
        assert_problem(answer, 422, "validation_failed")


async def test_filters(world: World):
    await world.a.post("/v1/payment_sessions", json=body(world, "F1"))
    found = (await world.a.get("/v1/payment_sessions?order_id=F1&status=open")).json()["data"]
    assert [row["order_id"] for row in found] == ["F1"]
    assert (await world.a.get("/v1/payment_sessions?order_id=F1&status=paid")).json()["data"] == []
    assert_problem(await world.a.get("/v1/payment_sessions?status=nope"), 422, "validation_failed")
    assert_problem(await world.a.get("/v1/calls?started_from=yesterday"), 422, "validation_failed")
    paid = (await world.a.get(f"/v1/payments?order_id={world.paid_order}")).json()["data"]
    assert [row["id"] for row in paid] == [world.payment_a]


async def test_a_call_and_its_payment(world: World):
    call = (await world.a.get(f"/v1/calls/{world.call_a}")).json()
    leg = call["legs"][0]
    assert leg["party"] == "customer"
    assert (leg["mos"], leg["remote_mos"], leg["round_trip_ms"]) == (4.38, 4.21, 38.2)
    assert (leg["rtp"], leg["remote_lost"], leg["remote_jitter_ms"]) == ({"packets_lost": 3}, 12, None)
    assert call["timeline"]
    assert "1234" in call["caller"]
    assert "90123" not in call["caller"]
    ladder = await world.a.get(f"/v1/calls/{world.call_a}/ladder")
    assert ladder.headers["content-type"].startswith("text/plain")
    assert "INVITE" in ladder.text
    assert "\x1b" not in ladder.text
    payment = (await world.a.get(f"/v1/payments/{world.payment_a}")).json()
    assert (payment["brand"], payment["last4"], payment["status"]) == ("visa", "1111", "approved")
    assert "access_id" not in payment
    assert "legs" not in (await world.a.get("/v1/calls")).json()["data"][0]
