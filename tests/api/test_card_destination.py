"""No route of a merchant's key or administrator changes where a card goes: host, URL, kind and pin are refused
on each."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sipivr.store import read
from tests.api.conftest import World

DESTINATIONS: dict[str, Any] = {
    "host": "evil.example",
    "url": "https://evil.example",
    "gateway": "https://evil.example",
    "gateway_host": "evil.example",
    "connector": "con_evil",
    "connector_url": "https://evil.example",
    "kind": "json",
    "tls_pin": "0" * 64,
    "pins": ["0" * 64],
    "networks": ["0.0.0.0/0"],
}
WRITING = ("post", "put", "patch", "delete")


def routes(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, operations in document["paths"].items()
        for method in operations
        if method in WRITING
    ]


@pytest.mark.parametrize("field", DESTINATIONS)
async def test_every_route_refuses_a_destination(world: World, field: str) -> None:
    document = (await world.nobody.get("/openapi.json")).json()
    world.deps.limiter._limit = 10_000
    before = world.read(read.connectors)
    commands = len(world.switch.commands)
    tried = 0
    for method, template in routes(document):
        for id in (world.session_a, before[0].id):
            path = re.sub(r"{\w+}", id, template)
            for client in (world.a, world.admin_a):
                if method == "delete":
                    continue  # a deletion takes no body, and no path of it names a destination
                answer = await client.request(method, path, json={field: DESTINATIONS[field]})
                tried += 1
                assert 400 <= answer.status_code < 500, (method, path, answer.status_code)
    assert tried > 10
    assert world.read(read.connectors) == before
    assert len(world.switch.commands) == commands


@pytest.mark.parametrize(
    "path", ["/v1/connectors", "/v1/connector_proposals", "/v1/gateways", "/v1/shops/x/connector"]
)
async def test_there_is_no_such_route(world: World, path: str) -> None:
    for client in (world.a, world.admin_a):
        for method in WRITING:
            answer = await client.request(method, path, json={})
            assert answer.status_code in (404, 405)
    document = (await world.nobody.get("/openapi.json")).json()
    assert not any("connector" in route for _, route in routes(document))
