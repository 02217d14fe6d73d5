"""One merchant never sees or touches another's anything: every route of the document, one after the other.

A route that is new is walked by itself; only what it must be given in its path or body has to be named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.conftest import World

#: Open to everybody, and nobody's in particular (/metrics is limited to this machine or a scope).
OPERATION = {"/healthz", "/readyz", "/metrics"}
#: What has to be in the body, by operation; A's own things where it names any.
BODIES: dict[str, Any] = {
    "create_payment_session": lambda w: {"shop": w.shop_a, "order_id": "T1", "amount": 100},
    "create_call": lambda w: {"number": w.number_a, "to": "+819012345678"},
    "start_capture": lambda w: {"payment_session": w.session_a},
    "change_payment_amount": lambda w: {"amount": 400},
    "change_merchant": lambda w: {"mask": "tone"},
    "change_number": lambda w: {"rules": {"operator_heard": False}},
    "create_caller_number": lambda w: {"number": "+81312340099"},
    "create_api_key": lambda w: {"name": "walk", "mode": "test", "scopes": ["calls:read"]},
}
#: Names in the body that are another merchant's: not found, as if they did not exist.
NAMED = {"create_payment_session": 404, "create_call": 422}
#: Answered for whoever asks, with the own things alone.
OWN = {"change_merchant", "create_caller_number", "create_api_key"}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    operation: str
    needs_body: bool

    @property
    def names_something(self) -> bool:
        return "{" in self.path


async def routes(world: World) -> list[Route]:
    document = (await world.nobody.get("/openapi.json")).json()
    return [
        Route(
            method.upper(),
            path,
            operation["operationId"],
            bool(operation.get("requestBody", {}).get("required")),
        )
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path not in OPERATION
    ]


async def of_a(world: World) -> dict[str, str]:
    """A's ids by the names of path parameters."""
    listed = await world.a.post("/v1/caller_numbers", json={"number": "+81312340098"})
    return {
        "session_id": world.session_a,
        "call_id": world.call_a,
        "payment_id": world.payment_a,
        "number_id": world.number_a,
        "caller_id": listed.json()["id"],
        "key_id": world.key_id_a,
    }


async def ask(client: httpx.AsyncClient, route: Route, world: World, ids: dict[str, str]) -> httpx.Response:
    body = BODIES[route.operation](world) if route.needs_body else None
    path = route.path.format(**ids)
    if route.operation == "stream_events":  # it would not end; that it begins is seen by its head alone
        async with client.stream(route.method, path, headers={"Last-Event-ID": world.event_a}) as answer:
            await answer.aread() if answer.status_code >= 400 else None
            return answer
    return await client.request(route.method, path, json=body)


def administers(route: Route) -> bool:
    """Whether the route wants an administrator's password and not a key."""
    return route.path.startswith("/v1/api_keys")


async def walked(world: World) -> list[tuple[Route, dict[str, str]]]:
    ids = await of_a(world)
    found = await routes(world)
    assert len(found) > 30
    return [(route, ids) for route in found]


async def test_another_merchants_key_finds_nothing(world: World) -> None:
    for route, ids in await walked(world):
        if not route.names_something:
            continue
        client = world.admin_b if administers(route) else world.b
        answer = await ask(client, route, world, ids)
        assert answer.status_code == 404, (route, answer.text)
        assert answer.json()["code"] == "not_found"
        # As if there were no such thing: not a word differs but what names the request.
        absent = {name: value[:-3] + "zzz" for name, value in ids.items()}
        nothing = (await ask(client, route, world, absent)).json()
        for document in (answer.json(), nothing):
            for name in ("request_id", "instance"):
                document.pop(name)
        assert {**answer.json(), "request_id": 0, "instance": 0} == {
            **nothing,
            "request_id": 0,
            "instance": 0,
        }


async def test_lists_hold_the_own_things_alone(world: World) -> None:
    secrets = [
        *(await of_a(world)).values(),
        world.merchant_a,
        world.shop_a,
        world.event_a,
        world.principal_a,
        world.paid_session,
    ]
    for route, ids in await walked(world):
        if route.method != "GET" or route.names_something or route.operation == "stream_events":
            continue
        answer = await ask(world.admin_b if administers(route) else world.b, route, world, ids)
        assert answer.status_code == 200, (route, answer.text)
        assert not [secret for secret in secrets if secret in answer.text], route


async def test_filters_and_bodies_name_nothing_of_another_merchants(world: World) -> None:
    for path in (
        f"/v1/payment_sessions?shop={world.shop_a}",
        f"/v1/calls?number={world.number_a}",
        f"/v1/calls?session={world.paid_session}",
        f"/v1/payments?session={world.paid_session}",
        f"/v1/payments?shop={world.shop_a}",
    ):
        answer = await world.b.get(path)
        assert (answer.status_code, answer.json()["data"]) == (200, []), path
    for path, cursor in (
        ("/v1/payment_sessions", world.session_a),
        ("/v1/calls", world.call_a),
        ("/v1/payments", world.payment_a),
        ("/v1/events", world.event_a),
    ):
        answer = await world.b.get(path, params={"starting_after": cursor})
        assert answer.json()["code"] == "invalid_cursor", path
    for route, ids in await walked(world):
        if route.method == "POST" and not route.names_something and route.operation not in OWN:
            answer = await ask(world.b, route, world, ids)
            assert answer.status_code == NAMED[route.operation], (route, answer.text)


@pytest.mark.parametrize("kind", ["none", "wrong", "revoked"])
async def test_without_a_key_that_counts_nothing_is_answered(world: World, kind: str) -> None:
    walk = await walked(world)
    clients = {
        "none": world.client(),
        "wrong": world.client("sk_test_" + "x" * 32),
        "revoked": world.client(world.key_a),
    }
    if kind == "revoked":
        revoked = await world.admin_a.post(f"/v1/api_keys/{world.key_id_a}/revoke")
        assert revoked.status_code == 200
    async with clients[kind] as client:
        for route, ids in walk:
            answer = await ask(client, route, world, ids)
            # Who guesses keys is slowed down besides.
            assert answer.status_code in ({401} if kind == "none" else {401, 429}), (route, answer.text)


async def test_the_own_key_may_what_the_walk_asks(world: World) -> None:
    """Else the walk would be refused for another reason than whose things they are."""
    walk = await walked(world)
    walk.sort(key=lambda one: one[0].operation in {"revoke_api_key", "delete_caller_number"})
    for route, ids in walk:
        if route.operation == "stream_events":
            continue
        answer = await ask(world.admin_a if administers(route) else world.a, route, world, ids)
        # 409: the call has ended, the payment is being changed already.
        assert answer.status_code in {200, 201, 202, 204, 409}, (route, answer.status_code, answer.text)
