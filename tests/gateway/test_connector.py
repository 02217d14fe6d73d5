"""What only the connector has: signatures, addresses, pinned keys, hostile answers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.gateway.connector import ConnectorGateway, ConnectorSettings
from sipivr.gateway.connector_wire import JSONBody, MalformedAnswer, parse_answer
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.network import allowed, pin_of
from sipivr.gateway.port import (
    Approved,
    Entry,
    GatewayUnavailable,
    Job,
    Order,
    OutcomeUnknown,
    Secret,
    ShopAccount,
)
from sipivr.gateway.signatures import BadSignature, content_digest, sign_request, verify_answer
from tests.gateway.conftest import card_named
from tests.gateway.numbers import NUMBERS
from tests.gateway.receiver.server import Receiver
from tests.gateway.receiver.signing import Unsigned, Verifier, signed_answer

MakeOrder = Callable[..., Order]
KEY = b"an-example-key-of-32-characters!"
SHOP = ShopAccount("shop-1", Secret(KEY.decode()))
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def receiver(certificate: tuple[str, str]) -> Iterator[Receiver]:
    with Receiver(certificate, {"shop-1": KEY}, NUMBERS) as running:
        yield running


def adapter(receiver: Receiver, certificate: tuple[str, str], **changed: Any) -> ConnectorGateway:
    settings: dict[str, Any] = {"test_mode": True, "networks": LOOPBACK, "ca_file": certificate[0], **changed}
    return ConnectorGateway(ConnectorSettings(receiver.url, **settings))


def pin(certificate: tuple[str, str]) -> str:
    return pin_of(ssl.PEM_cert_to_DER_cert(Path(certificate[0]).read_text()))


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("unsigned_after", "signature"),
        ("tampered_after", "signature"),
        ("wrong_key_after", "signature"),
        ("other_request_after", "signature"),
        ("redirect_after", "http_307"),
        ("garbage_after", "malformed"),
    ],
)
async def test_an_answer_that_is_not_the_receiver_s_proves_nothing(
    receiver: Receiver, certificate: tuple[str, str], make_order: MakeOrder, kind: str, detail: str
) -> None:
    gateway, order = adapter(receiver, certificate), make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    receiver.faults.append(("execute", kind))
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    assert outcome == OutcomeUnknown(detail)
    await gateway.aclose()


async def test_a_wrong_secret_is_heard_of(
    receiver: Receiver, certificate: tuple[str, str], make_order: MakeOrder
) -> None:
    gateway = adapter(receiver, certificate)
    wrong = ShopAccount("shop-1", Secret("another-key-of-at-least-32-letters"))
    assert "http_401" in repr(await gateway.enter(wrong, make_order()))
    assert receiver.refused == ["signature"]
    with pytest.raises(GatewayUnavailable, match="key_too_short"):
        await gateway.enter(ShopAccount("shop-1", Secret("short")), make_order())
    await gateway.aclose()


async def test_a_pinned_key(receiver: Receiver, certificate: tuple[str, str], make_order: MakeOrder) -> None:
    right = adapter(receiver, certificate, pins=("0" * 64, pin(certificate).upper()))
    assert isinstance(await right.enter(SHOP, make_order()), Entry)
    await right.aclose()
    before = len(receiver.requests)
    wrong = adapter(receiver, certificate, pins=("0" * 64,))
    order = make_order()
    with pytest.raises(GatewayUnavailable, match="pin_mismatch"):
        await wrong.execute(SHOP, order, Entry(order.order_id, "a", Secret("b")), card_named("visa-approved"))
    await wrong.aclose()
    gmo = GMOGateway(GMOSettings(receiver.url, True, ca_file=certificate[0], pins=("0" * 64,)))
    with pytest.raises(GatewayUnavailable, match="pin_mismatch"):
        await gmo.enter(SHOP, make_order())
    await gmo.aclose()
    assert len(receiver.requests) == before


async def test_addresses_are_checked_where_they_are_connected_to(
    receiver: Receiver, certificate: tuple[str, str], make_order: MakeOrder
) -> None:
    # The receiver is up and its certificate good: it is the address alone that is refused.
    for networks in ((), (ip_network("10.0.0.0/8"),)):
        gateway = adapter(receiver, certificate, networks=networks)
        with pytest.raises(GatewayUnavailable, match="address_refused"):
            await gateway.enter(SHOP, make_order())
        await gateway.aclose()
    assert receiver.requests == []


async def test_a_name_with_one_bad_address_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def resolve(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.215.14", 443)), (2, 1, 6, "", ("169.254.169.254", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    gateway = ConnectorGateway(ConnectorSettings("https://pay.example", test_mode=False))
    with pytest.raises(GatewayUnavailable, match="address_refused"):
        await gateway.enter(SHOP, Order("o", 1, Job.CAPTURE, "i"))
    await gateway.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "fd00::1",
        "not-an-address",
    ],
)
def test_what_is_not_the_public_internet(address: str) -> None:
    assert not allowed(address, None)
    assert allowed("93.184.215.14", None)
    assert allowed("2606:4700::1111", None)
    assert allowed("::ffff:10.0.0.1", (ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://a@b.example", "https://b.example/path", "ftp://x"]
)
def test_where_a_connector_may_not_be(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        ConnectorSettings(url, test_mode=True)


async def test_nothing_of_a_card_or_a_key_is_said(
    receiver: Receiver, certificate: tuple[str, str], make_order: MakeOrder
) -> None:
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        gateway, order = adapter(receiver, certificate), make_order()
        entry = await gateway.enter(SHOP, order)
        assert isinstance(entry, Entry)
        outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
        assert isinstance(outcome, Approved)
        await gateway.aclose()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    said = stream.getvalue() + repr(gateway) + repr(vars(gateway)) + repr(outcome) + repr(entry)
    for secret in (NUMBERS["visa-approved"], KEY.decode(), entry.access_pass.reveal()):
        assert secret not in said


def test_body_wipes() -> None:
    body = JSONBody()
    body.add("a", 'quo"te')
    body.add("none", None)
    body.add_digits("card_number", b"4111111111111111")
    body.close()
    assert json.loads(bytes(body.view())) == {"a": 'quo"te', "card_number": "4111111111111111"}
    body.wipe()
    assert not any(body._buffer)
    with pytest.raises(ValueError, match="not digits"):
        JSONBody().add_digits("card_number", b"4111x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"result": "yes"}',
        b'{"result": "ok", "codes": ["4111111111111111"]}',
        b'{"result": "ok", "amount_yen": -1}',
        b'{"result": "ok", "processed_at": "2026-01-01T00:00:00"}',
        b'{"result": "ok", "cards": [{"sequence": 0, "tail": "4111111111111111"}]}',
        b'{"result": "ok", "transaction_id": "' + b"x" * 65 + b'"}',
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        parse_answer(body)
    assert caught.value.__context__ is None
    assert "4111" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedAnswer):
        assert parse_answer(body).result


@given(st.binary(max_size=200), st.sampled_from(["body", "status", "request", "key", "age", "none"]))
def test_signatures_hold_and_break(body: bytes, changed: str) -> None:
    headers = {
        "content-type": "application/json",
        "content-digest": content_digest(body),
        "idempotency-key": "k",
    }
    import time

    now = int(time.time())
    signed = sign_request(KEY, "shop-1", authority="a.example", path="/v1/x", headers=headers, created=now)
    received = {
        **headers,
        "host": "a.example",
        "signature-input": signed["Signature-Input"],
        "signature": signed["Signature"],
    }
    verifier = Verifier({"shop-1": KEY})
    assert verifier.verify("POST", "/v1/x", received, body) == "shop-1"
    with pytest.raises(Unsigned):  # a nonce is good once
        verifier.verify("POST", "/v1/x", received, body)
    answer = {
        name.lower(): value for name, value in signed_answer(KEY, 200, body, signed["Signature"]).items()
    }
    arguments: dict[str, Any] = {
        "status": 201 if changed == "status" else 200,
        "body": body + b"x" if changed == "body" else body,
        "headers": answer,
        "request_signature": "other" if changed == "request" else signed["Signature"],
        "now": now + 1_000 if changed == "age" else now,
    }
    if changed == "none":
        verify_answer(KEY, **arguments)
    else:
        with pytest.raises(BadSignature):
            verify_answer(b"y" * 32 if changed == "key" else KEY, **arguments)
