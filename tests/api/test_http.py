"""Conventions that hold on every route: ids, problems, limits, versions, the document."""

from __future__ import annotations

import json
import logging
import re

import pytest

from api import front
from api.problems import CATALOGUE
from tests.api.conftest import World

GOOD = {"order_id": "A1001", "amount": 12300}


def assert_problem(answer, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"] == f"/docs#{code}"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert {"title", "detail", "instance", "errors"} <= set(document)
    return document


async def test_every_answer_has_an_id_a_version_and_no_cache(world: World):
    for path in ("/v1/shops", "/healthz", "/nowhere", "/v1/payments/pay_none"):
        answer = await world.a.get(path)
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["sipivr-version"] == front.VERSION
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_request_id_is_taken_when_it_is_one(world: World):
    assert (await world.a.get("/healthz", headers={"X-Request-Id": "mine-1"})).headers[
        "x-request-id"
    ] == "mine-1"
    strange = await world.a.get("/healthz", headers={"X-Request-Id": "a b{}"})
    assert strange.headers["x-request-id"].startswith("req_")


async def test_versions(world: World):
    assert (await world.a.get("/v1/shops", headers={"Sipivr-Version": front.VERSION})).status_code == 200
    assert_problem(
        await world.a.get("/v1/shops", headers={"Sipivr-Version": "2020-01-01"}), 400, "invalid_version"
    )


async def test_routing_problems(world: World):
    assert_problem(await world.a.get("/v1/nothing"), 404, "no_such_route")
    refused = await world.a.delete("/v1/payment_sessions")
    assert_problem(refused, 405, "method_not_allowed")
    assert "POST" in refused.headers["allow"] or "GET" in refused.headers["allow"]


@pytest.mark.parametrize("body", ["{", "", "nul", '{"amount": 1,}', "\xff"])
async def test_malformed_json(world: World, body: str):
    answer = await world.a.post(
        "/v1/payment_sessions", content=body.encode("latin-1"), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"malformed_body", "validation_failed"}


async def test_unknown_fields_name_the_nearest(world: World):
    answer = await world.a.post(
        "/v1/payment_sessions", json=GOOD | {"shop": world.shop_a, "metdata": {"a": "4111111111111111"}}
    )
    document = assert_problem(answer, 422, "validation_failed")
    assert document["errors"] == [
        {"field": "/metdata", "code": "unknown_field", "message": "No such field; the nearest is `metadata`."}
    ]


async def test_unknown_parameters_are_refused_too(world: World):
    document = assert_problem(await world.a.get("/v1/payments?statsu=approved"), 422, "validation_failed")
    assert "`status`" in document["errors"][0]["message"]
    assert_problem(await world.a.get(f"/v1/payments/{world.payment_a}?expand=call"), 422, "validation_failed")


async def test_problems_do_not_repeat_what_was_sent(world: World):
    answer = await world.a.post(
        "/v1/payment_sessions",
        json={"shop": "4111111111111111 ", "order_id": "4111_1111_1111_1111", "amount": "4111111111111111"},
    )
    assert_problem(answer, 422, "validation_failed")
    assert "4111" not in answer.text


async def test_card_numbers_are_refused_and_not_kept(world: World, caplog):
    caplog.set_level(logging.DEBUG)
    answer = await world.a.post(
        "/v1/payment_sessions",
        json=GOOD | {"shop": world.shop_a, "metadata": {"note": "4111 1111 1111 1111"}},
        headers={"Idempotency-Key": "k"},
    )
    assert_problem(answer, 422, "card_data_refused")
    assert "1111 1111" not in answer.text + caplog.text


async def test_large_bodies(world: World):
    head = {"Content-Type": "application/json"}
    large = b"x" * (front.MAX_BODY_BYTES + 1)
    assert_problem(
        await world.a.post("/v1/payment_sessions", content=large, headers=head), 413, "body_too_large"
    )

    async def chunks():
        for _ in range(80):
            yield b"x" * 1024

    assert_problem(
        await world.a.post("/v1/payment_sessions", content=chunks(), headers=head), 413, "body_too_large"
    )


async def test_rate_limit(world: World):
    first = await world.a.get("/v1/shops")
    assert first.headers["ratelimit-policy"] == f'"key";q={world.limit};w=60'
    assert first.headers["ratelimit"].startswith(f'"key";r={world.limit - 1};t=')
    for _ in range(world.limit - 1):
        assert (await world.a.get("/v1/shops")).status_code == 200
    answer = await world.a.get("/v1/shops")
    assert_problem(answer, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0
    assert (await world.b.get("/v1/shops")).status_code == 200


async def test_the_access_log_has_no_secrets(world: World, caplog):
    caplog.set_level(logging.DEBUG)
    await world.a.get("/v1/payments?order_id=SECRET-ORDER")
    record = next(r for r in caplog.records if r.getMessage() == "request")
    fields = record.sipivr_fields
    assert fields["route"] == "/v1/payments"
    assert fields["status"] == 200
    assert "SECRET-ORDER" not in json.dumps(fields)
    assert world.key_a not in caplog.text + json.dumps(fields)


# Words of a field that would hold card data. `security_code_required` is a shop's setting, a boolean.
_CARD = re.compile(r"pan$|^pan|card|cvv|cvc|cav2|cid$|security_code|expir(y|ation)|exp_|track|pin$|holder")
_ALLOWED = {"security_code_required", "identification_number_expires_at"}


def _names(schema, found: set[str]) -> set[str]:
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        found |= {p["name"].lower() for p in schema.get("parameters", []) if isinstance(p, dict)}
        for value in schema.values():
            _names(value, found)
    elif isinstance(schema, list):
        for value in schema:
            _names(value, found)
    return found


async def test_no_schema_has_a_field_for_card_data(world: World):
    names = _names((await world.a.get("/openapi.json")).json(), set())
    assert len(names) > 60
    assert [name for name in names if _CARD.search(name) and name not in _ALLOWED] == []


async def test_the_document(world: World):
    document = (await world.nobody.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [o["operationId"] for o in operations]
    assert len(set(ids)) == len(ids)
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert reference in document["components"]["schemas"], reference
    create = document["components"]["schemas"]["PaymentSessionCreate"]
    assert create["examples"]
    for path, operations_ in document["paths"].items():
        if path.startswith("/v1"):
            for operation in operations_.values():
                assert operation["security"], path
                assert {"401", "403", "429", "500", "503"} <= set(operation["responses"]), path


async def test_the_reference_needs_nothing_from_elsewhere(world: World):
    answer = await world.nobody.get("/docs")
    assert answer.status_code == 200
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "<script" not in answer.text
    for code in CATALOGUE:
        assert f'id="{code}"' in answer.text


async def test_health_and_readiness(world: World):
    assert (await world.nobody.get("/healthz")).json() == {"status": "ok"}
    ready = await world.nobody.get("/readyz")
    everything = {"ready": True, "records": True, "switch": True, "media": True}
    assert (ready.status_code, ready.json()) == (200, everything)
    world.switch.calls.workers = 0
    deaf = await world.nobody.get("/readyz")
    assert (deaf.status_code, deaf.json()) == (503, everything | {"ready": False, "media": False})
    await world.stop_switch()
    down = await world.nobody.get("/readyz")
    assert (down.status_code, down.json()) == (
        503,
        {"ready": False, "records": True, "switch": False, "media": False},
    )


async def test_metrics_are_for_this_machine_or_a_key(world: World):
    answer = await world.nobody.get("/metrics")
    assert answer.status_code == 200
    assert "sipivr_switch_reachable 1.0" in answer.text
    assert 'sipivr_objects{kind="session"' in answer.text
    for line in (
        'sipivr_rtp_mos_bucket{heard_by="switch",le="4.2"} 1.0',
        'sipivr_rtp_mos_bucket{heard_by="switch",le="+Inf"} 3.0',
        'sipivr_rtp_mos_count{heard_by="switch"} 3.0',
        'sipivr_rtp_mos_sum{heard_by="switch"} 13.0',
        "# TYPE sipivr_rtp_round_trip_seconds histogram",
    ):
        assert line in answer.text
    assert 'figure="rtp_mos' not in answer.text
    assert world.merchant_a not in answer.text
    proxied = await world.nobody.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
    assert_problem(proxied, 401, "not_authenticated")
    async with world.client(address="192.0.2.7") as stranger:
        assert_problem(await stranger.get("/metrics"), 401, "not_authenticated")
    async with world.client(world.key_a, address="192.0.2.7") as scoped:
        assert (await scoped.get("/metrics")).status_code == 200
    async with world.client(world.key_reader, address="192.0.2.7") as unscoped:
        assert_problem(await unscoped.get("/metrics"), 403, "missing_scope")
