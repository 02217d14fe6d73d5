"""Keys, scopes, administrators, and that one merchant never sees another's anything."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from api.store import credentials
from tests.api.conftest import ADMIN_PASSWORD, World
from tests.api.test_http import assert_problem


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer sk_test_AAAAAAAA_" + "A" * 43,
        "Bearer nonsense",
        "Basic YWRtaW46eA==",
        "Bearer sk_live_" + "é" * 8,
    ],
)
async def test_no_valid_key(world: World, header: str | None):
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    answer = await world.nobody.get("/v1/payments", headers=headers)
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_an_address_that_keeps_failing_waits(world: World):
    async with world.client("sk_test_AAAAAAAA_" + "A" * 43, address="192.0.2.66") as guesser:
        for _ in range(world.limit):
            assert (await guesser.get("/v1/payments")).status_code == 401
        assert_problem(await guesser.get("/v1/payments"), 429, "rate_limited")
    assert (await world.a.get("/v1/payments")).status_code == 200


async def test_scopes(world: World):
    async with world.client(world.key_reader) as reader:
        assert (await reader.get("/v1/calls")).status_code == 200
        document = assert_problem(await reader.get("/v1/payments"), 403, "missing_scope")
        assert document["detail"] == "Needs `payments:read`."
        refused = await reader.post(
            "/v1/payment_sessions", json={"shop": world.shop_a, "order_id": "A1", "amount": 1}
        )
        assert_problem(refused, 403, "missing_scope")


async def test_a_key_can_do_no_more_than_its_principal(world: World):
    await world.set_permissions(world.principal_a, ("calls:read",))
    assert (await world.a.get("/v1/calls")).status_code == 200
    assert_problem(await world.a.get("/v1/payments"), 403, "missing_scope")


async def test_a_principal_that_is_no_longer_active(world: World):
    await world.deactivate(world.principal_a)
    assert_problem(await world.a.get("/v1/calls"), 401, "not_authenticated")


async def test_a_live_key_neither_sees_nor_makes_test_data(world: World):
    key = await world.add_key(world.principal_a, world.merchant_a, mode="live")
    async with world.client(key) as live:
        assert (await live.get("/v1/payments")).json()["data"] == []
        assert_problem(await live.get(f"/v1/payments/{world.payment_a}"), 404, "not_found")
        made = await live.post(
            "/v1/payment_sessions", json={"shop": world.shop_a, "order_id": "A1", "amount": 1}
        )
        assert_problem(made, 403, "forbidden")


def _paths(document) -> list[tuple[str, str, object]]:
    """Method, path and an example of the body of every route with an id in its path."""
    return [
        (method.upper(), path, _example(document, operation))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/v1") and "{" in path
    ]


def _example(document, operation) -> object:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = body.get("$ref", "").rpartition("/")[2]
    examples = document["components"]["schemas"].get(name, {}).get("examples", [None])
    return examples[0]


async def test_other_merchants_ids_do_not_exist(world: World):
    """Every route with an id in its path, from the document: no route can be forgotten."""
    document = (await world.nobody.get("/openapi.json")).json()
    ids = {
        "session_id": world.session_a,
        "call_id": world.call_a,
        "payment_id": world.payment_a,
        "key_id": world.key_id_a,
        "number_id": world.number_a,
        "caller_id": (await world.a.post("/v1/caller_numbers", json={"number": "+81312340042"})).json()["id"],
    }
    paths = _paths(document)
    assert len(paths) >= 7
    for method, template, body in paths:
        name = re.search(r"{(\w+)}", template).group(1)
        path = template.replace("{" + name + "}", ids[name])
        absent = template.replace("{" + name + "}", ids[name][:-4] + "0000")
        other, own = (world.b, world.a) if "api_keys" not in path else (world.admin_b, world.admin_a)
        for client in (other, own):
            target = path if client is other else absent
            needed = {"amount": 5} if path.endswith("/amount") else None
            answer = (
                await client.request(method, target, json=body or needed)
                if body or needed
                else await client.request(method, target)
            )
            assert_problem(answer, 404, "not_found")
    # The objects are there for their owner, so that the 404s above mean something; and nothing was changed.
    assert (await world.a.get(f"/v1/payment_sessions/{world.session_a}")).json()["status"] == "open"
    assert (await world.a.get(f"/v1/calls/{world.call_a}")).status_code == 200
    assert (await world.a.get(f"/v1/payments/{world.payment_a}")).status_code == 200


async def test_lists_and_cursors_are_the_merchants_own(world: World):
    for path, other in (
        ("/v1/payment_sessions", world.session_a),
        ("/v1/calls", world.call_a),
        ("/v1/payments", world.payment_a),
        ("/v1/shops", world.shop_a),
        ("/v1/numbers", world.number_a),
        ("/v1/events", world.event_a),
    ):
        mine = {row["id"] for row in (await world.a.get(path)).json()["data"]}
        theirs = {row["id"] for row in (await world.b.get(path)).json()["data"]}
        assert other in mine or path == "/v1/events"
        assert not mine & theirs
        refused = await world.b.get(path, params={"starting_after": other})
        assert_problem(refused, 400, "invalid_cursor")


async def test_every_route_refuses_nobody(world: World):
    document = (await world.nobody.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        if not path.startswith("/v1"):
            continue
        for method in operations:
            answer = await world.nobody.request(method.upper(), re.sub(r"{\w+}", "x_1", path))
            assert_problem(answer, 401, "not_authenticated")


async def test_a_key_is_made_shown_once_used_and_revoked(world: World):
    made = await world.admin_a.post("/v1/api_keys", json={"name": "desk", "scopes": ["calls:read"]})
    assert made.status_code == 201, made.text
    key = made.json()
    assert key["secret"].startswith(key["prefix"] + "_")
    assert key["mode"] == "test"
    async with world.client(key["secret"]) as desk:
        assert (await desk.get("/v1/calls")).status_code == 200
        assert_problem(await desk.get("/v1/payments"), 403, "missing_scope")
        listed = (await world.admin_a.get("/v1/api_keys")).json()["data"]
        assert key["secret"] not in str(listed)
        shown = next(row for row in listed if row["id"] == key["id"])
        assert shown["last_used_at"] is not None
        assert shown["secret"] is None
        revoked = await world.admin_a.post(f"/v1/api_keys/{key['id']}/revoke")
        assert revoked.json()["revoked_at"] is not None
        assert_problem(await desk.get("/v1/calls"), 401, "not_authenticated")
    assert not (await world.principal(key["principal"])).active


async def test_a_key_is_revoked_while_the_switch_is_down(world: World):
    await world.stop_switch()
    assert (await world.admin_a.post(f"/v1/api_keys/{world.key_id_a}/revoke")).status_code == 200
    assert_problem(await world.a.get("/v1/calls"), 401, "not_authenticated")
    assert (await world.principal(world.principal_a)).active
    await world.start_switch()
    await world.retire()
    assert not (await world.principal(world.principal_a)).active


async def test_a_replayed_key_has_no_secret(world: World):
    body = {"name": "desk", "scopes": ["calls:read"]}
    first, second = [
        await world.admin_a.post("/v1/api_keys", json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json()["secret"] is None
    # What is behind the prefix, underscores and all: a piece of it could be anywhere by chance.
    secret = first.json()["secret"].split("_", 3)[3].encode()
    assert len(secret) > 30
    assert all(secret not in file.read_bytes() for file in world.paths.api_db.parent.iterdir())


async def test_a_key_makes_no_keys(world: World):
    answer = await world.a.post("/v1/api_keys", json={"name": "x", "scopes": ["calls:read"]})
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_an_administrators_password_opens_nothing_else(world: World):
    assert_problem(await world.admin_a.get("/v1/payments"), 401, "not_authenticated")


async def test_scopes_that_do_not_exist(world: World):
    answer = await world.admin_a.post("/v1/api_keys", json={"name": "x", "scopes": ["api_keys:write"]})
    assert_problem(answer, 422, "validation_failed")


@pytest.mark.parametrize("name", ["admin-a", "nobody"])
async def test_guessing_locks_out_that_address(world: World, name: str):
    async with world.client(address="192.0.2.1", auth=httpx.BasicAuth(name, "wrong")) as guesser:
        for _ in range(credentials.FREE_TRIES):
            assert_problem(await guesser.get("/v1/api_keys"), 401, "not_authenticated")
        locked = await guesser.get("/v1/api_keys")
        assert_problem(locked, 429, "locked_out")
        assert int(locked.headers["retry-after"]) >= 1
    right = httpx.BasicAuth("admin-a", ADMIN_PASSWORD)
    async with world.client(address="192.0.2.1", auth=right) as same_address:
        expected = 429 if name == "admin-a" else 200
        assert (await same_address.get("/v1/api_keys")).status_code == expected
    async with world.client(address="192.0.2.2", auth=right) as other_address:
        assert (await other_address.get("/v1/api_keys")).status_code == 200


@pytest.mark.parametrize("value", ["Basic", "Basic %%%", "Basic YWRtaW4=", "Basic " + "A" * 4000, "Bearer x"])
async def test_passwords_that_are_none(world: World, value: str):
    answer = await world.nobody.get("/v1/api_keys", headers={"Authorization": value})
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_guessers_do_not_share_the_password_check(world: World):
    """More guesses at once than may wait are refused at once: each would cost 32 MB and 0.3 s."""

    async def guess(n: int) -> int:
        async with world.client(address=f"192.0.2.{n}", auth=httpx.BasicAuth("nobody", "x")) as guesser:
            return (await guesser.get("/v1/api_keys")).status_code

    assert set(await asyncio.gather(*(guess(n) for n in range(12)))) == {401, 429}
