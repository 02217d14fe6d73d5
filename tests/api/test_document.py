"""The document against the application: strange requests on every route get only what the document says."""

from __future__ import annotations

import json
import re
import typing
import urllib.parse
from pathlib import Path

import pytest

from api import inputs
from tests.api.conftest import World

STRANGE = ["x", "0", "-1", "%00", "é" * 20, "' OR 1=1 --", "a" * 300, "\U0001f4b3", "../..", "null", "[]"]
BODIES = [b"", b"{}", b"[]", b"1", b'"x"', b'{"a":{"b":[1]}}', b'{"amount":1e400}', b"\x00", b'{"scopes":[]}']


def _operations(document) -> list[tuple[str, str, dict]]:
    return [
        (method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not path.endswith("/stream")
    ]


@pytest.mark.parametrize("strange", STRANGE)
async def test_strange_values_get_documented_answers(world: World, strange: str):
    document = (await world.nobody.get("/openapi.json")).json()
    # The limit is not what this is about.
    world.deps.limiter._limit = 10_000
    for method, template, operation in _operations(document):
        client = world.admin_a if "api_keys" in template else world.a
        path = re.sub(r"{\w+}", urllib.parse.quote(strange, safe="%"), template)
        names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
        for query in [{}, *({name: strange} for name in names)]:
            answer = await client.request(method, path, params=query or None)
            _assert_documented(answer, operation, (method, path, query))


@pytest.mark.parametrize("content", BODIES, ids=repr)
async def test_strange_bodies_get_documented_answers(world: World, content: bytes):
    document = (await world.nobody.get("/openapi.json")).json()
    ids = {
        "session_id": world.session_a,
        "call_id": world.call_a,
        "payment_id": world.payment_a,
        "key_id": "key_none",
    }
    for method, template, operation in _operations(document):
        if method != "POST":
            continue
        client = world.admin_a if "api_keys" in template else world.a
        path = re.sub(r"{(\w+)}", lambda m: ids[m.group(1)], template)
        answer = await client.request(
            method, path, content=content, headers={"Content-Type": "application/json"}
        )
        _assert_documented(answer, operation, (method, path, content))


def _assert_documented(answer, operation, what) -> None:
    code = answer.json()["code"] if answer.status_code >= 400 else None
    if code == "no_such_route":
        return
    assert str(answer.status_code) in operation["responses"], (what, answer.text)
    assert answer.status_code < 500, (what, answer.text)
    if code is not None:
        described = operation["responses"][str(answer.status_code)]["description"]
        assert f"`{code}`" in described, (what, answer.text)


async def test_answers_fit_their_schemas(world: World):
    """By the document's own words: required fields are there, unknown ones are not."""
    document = (await world.nobody.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path, id_, client in (
        ("/v1/payment_sessions/{}", world.session_a, world.a),
        ("/v1/calls/{}", world.call_a, world.a),
        ("/v1/payments/{}", world.payment_a, world.a),
        ("/v1/shops", "", world.a),
        ("/v1/numbers", "", world.a),
        ("/v1/events", "", world.a),
        ("/v1/api_keys", "", world.admin_a),
    ):
        answer = (await client.get(path.format(id_))).json()
        template = next(p for p in document["paths"] if re.sub(r"{\w+}", "{}", p) == path)
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        _assert_fits(answer, schemas[schema["$ref"].rpartition("/")[2]], schemas)


def _assert_fits(value: dict, schema: dict, schemas: dict) -> None:
    properties = schema["properties"]
    assert set(value) <= set(properties), json.dumps(value)
    assert set(schema.get("required", ())) <= set(value)
    for name, kind in properties.items():
        items = kind.get("items", {})
        if "$ref" in items:
            for item in value[name]:
                _assert_fits(item, schemas[items["$ref"].rpartition("/")[2]], schemas)


async def test_the_guide_knows_every_scope_and_resource(world: World):
    guide = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    document = (await world.nobody.get("/openapi.json")).json()
    for scope in typing.get_args(inputs.Scope):
        assert f"`{scope}`" in guide
    for resource in {path.split("/")[2] for path in document["paths"] if path.startswith("/v1/")}:
        assert f"/v1/{resource}" in guide
