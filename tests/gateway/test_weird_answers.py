"""Answers that no gateway should give, through httpx's own mock of the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import httpx
import pytest

from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    Entry,
    EntryUnknown,
    GatewayUnavailable,
    Job,
    LookUpFailed,
    Order,
    OutcomeUnknown,
    Secret,
    Trade,
    TradeStatus,
)
from tests.gateway.conftest import SHOP, card_named

ORDER = Order("order-w", 1_000, Job.CAPTURE, "intent-w")
ENTRY = Entry("order-w", "a" * 32, Secret("b" * 32))


def gateway_answering(answer: Callable[[httpx.Request], httpx.Response]) -> GMOGateway:
    settings = GMOSettings("https://gateway.example", test_mode=True, shop_in_exec=True)
    return GMOGateway(settings, wire=httpx.MockTransport(answer))


def text(body: str, status: int = 200) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, stream=httpx.ByteStream(body.encode("cp932")))


def approval(**changed: str) -> str:
    fields = {
        "ACS": "0",
        "OrderID": "order-w",
        "Forward": "2a99662",
        "Method": "1",
        "PayTimes": "",
        "Approve": "6295358",
        "TranID": "1302161349111111111111193378",
        "TranDate": "20261123134954",
        **changed,
    }
    joined = "".join(value for name, value in fields.items() if name != "ACS") + SHOP.password.reveal()
    fields["CheckString"] = hashlib.md5(joined.encode("cp932"), usedforsecurity=False).hexdigest()
    return "&".join(f"{name}={value}" for name, value in fields.items())


async def test_request_as_the_gateway_wants_it() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(approval().encode()))

    outcome = await gateway_answering(answer).execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert isinstance(outcome, Approved)
    (request,) = seen
    assert str(request.url) == "https://gateway.example/payment/ExecTran.idPass"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["host"] == "gateway.example"
    fields = dict(piece.split("=") for piece in request.content.decode().split("&"))
    assert fields["Expire"] == "3012"  # the customer keyed 1230
    assert fields["SecurityCode"] == "123"
    assert (fields["ClientField1"], fields["ClientFieldFlag"]) == ("intent-w", "1")
    assert fields["ShopID"] == SHOP.shop_id
    assert "PayTimes" not in fields
    assert int(request.headers["content-length"]) == len(request.content)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("", "malformed"),
        ("AccessID=x", "malformed"),
        (approval(OrderID="order-other"), "malformed"),
        (approval(TranDate="2026"), "malformed"),
        (approval(TranDate="20261399999999"), "malformed"),
        (approval() + "0", "check_string"),
        (approval() + "&Approve=2", "malformed"),
        (approval(ACS="0").replace("6295358", "6295359"), "check_string"),
    ],
)
async def test_no_approval(body: str, detail: str) -> None:
    outcome = await gateway_answering(text(body)).execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert outcome == OutcomeUnknown(detail)


async def test_authentication_asked_for() -> None:
    gateway = gateway_answering(text(approval(ACS="1")))
    outcome = await gateway.execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert outcome == Declined(("ACS",), Category.STOP, "gateway.authentication_needed")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 502, 503])
async def test_other_statuses(status: int) -> None:
    gateway = gateway_answering(text(approval(), status))
    outcome = await gateway.execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert outcome == OutcomeUnknown(f"http_{status}")
    assert await gateway.enter(SHOP, ORDER) == EntryUnknown(f"http_{status}")
    assert await gateway.look_up(SHOP, "order-w") == LookUpFailed(f"http_{status}")


@pytest.mark.parametrize(
    ("raised", "detail"),
    [
        (httpx.ReadError("x"), "broken"),
        (httpx.WriteError("x"), "broken"),
        (httpx.ReadTimeout("x"), "timeout"),
        (httpx.WriteTimeout("x"), "timeout"),
        (httpx.RemoteProtocolError("x"), "protocol"),
        (httpx.CloseError("x"), "broken"),
        (OSError("x"), "broken"),
        (RuntimeError("x"), "broken"),
        (TimeoutError(), "timeout"),
    ],
)
async def test_faults_after_the_first_byte(raised: Exception, detail: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise raised

    outcome = await gateway_answering(answer).execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert outcome == OutcomeUnknown(detail)


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (httpx.ConnectError("x"), "connect"),
        (httpx.ConnectTimeout("x"), "connect_timeout"),
        (httpx.PoolTimeout("x"), "pool_timeout"),
    ],
)
async def test_faults_before_the_first_byte(raised: Exception, reason: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(GatewayUnavailable) as caught:
        await gateway_answering(answer).execute(SHOP, ORDER, ENTRY, card_named("visa-approved"))
    assert caught.value.reason == reason


@pytest.mark.parametrize("body", ["AccessID=&AccessPass=", "AccessID=a", "AccessID=a b&AccessPass=c", "A=1"])
async def test_no_entry(body: str) -> None:
    assert await gateway_answering(text(body)).enter(SHOP, ORDER) == EntryUnknown("malformed")


@pytest.mark.parametrize("code", ["E91020001", "E90010001", "Q00000001"])
async def test_entry_may_stand(code: str) -> None:
    gateway = gateway_answering(text(f"ErrCode={code[:3]}&ErrInfo={code}"))
    assert await gateway.enter(SHOP, ORDER) == EntryUnknown(code)


@pytest.mark.parametrize(
    "body", ["OrderID=order-w", "OrderID=other&Status=CAPTURE", "OrderID=order-w&Status=AUTH&Amount=12x"]
)
async def test_no_trade(body: str) -> None:
    assert await gateway_answering(text(body)).look_up(SHOP, "order-w") == LookUpFailed("malformed")


async def test_look_up_still_processing_and_odd_status() -> None:
    gateway = gateway_answering(text("ErrCode=E90&ErrInfo=E90010001"))
    expected = LookUpFailed("gateway", ("E90010001",), still_processing=True)
    assert await gateway.look_up(SHOP, "order-w") == expected
    gateway = gateway_answering(text("OrderID=order-w&Status=NEWWORD&ProcessDate=x&Amount=null"))
    found = await gateway.look_up(SHOP, "order-w")
    assert isinstance(found, Trade)
    assert (found.status, found.processed_at, found.amount_yen) == (TradeStatus.OTHER, None, 0)


async def test_recorded_search() -> None:
    body = (
        "OrderID=order-w&Status=UNPROCESSED&ProcessDate=20130301115932&JobCd=AUTH"
        "&AccessID=3618be802c7ac572414274731e50cb6c&AccessPass=4099664bd4b110800e09805539d1d7b5&ItemCode=0000990"
        "&Amount=100&Tax=0&SiteID=&MemberID=&CardNo=&Expire=&Method=&PayTimes=&Forward=&TranID=&Approve="
        "&ClientField1=&ClientField2=&ClientField3="
    )
    found = await gateway_answering(text(body)).look_up(SHOP, "order-w")
    assert isinstance(found, Trade)
    assert (found.status, found.job, found.amount_yen) == (TradeStatus.UNPROCESSED, "AUTH", 100)
    assert found.processed_at is not None
    assert found.processed_at.isoformat() == "2013-03-01T11:59:32+09:00"
