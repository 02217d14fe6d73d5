"""Members, registered cards and tokens against the simulator."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.gmo_token import TokenSettings
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    Entry,
    NotATestCard,
    Order,
    OutcomeUnknown,
    Secret,
)
from sipivr.gateway.registered_cards import (
    Member,
    MemberExists,
    NotFound,
    RegisteredCard,
    RequestLost,
    SiteAccount,
)
from tests.gateway.conftest import SHOP, SITE, SimulatorProcess, card_named, make_card
from tests.gateway.test_weird_answers import gateway_answering, text

MakeOrder = Callable[..., Order]
_NUMBERS = itertools.count(1)


@pytest.fixture
async def member(gateway: GMOGateway) -> str:
    member_id = f"member-{next(_NUMBERS)}"
    assert isinstance(await gateway.save_member(SITE, Member(member_id, "山田 太郎")), Member)
    return member_id


@pytest.fixture
async def by_token(simulator: SimulatorProcess) -> AsyncIterator[GMOGateway]:
    key = simulator.client.get("/_simulator/token-key").json()
    adapter = GMOGateway(
        GMOSettings(simulator.url, True, token=TokenSettings(key["public_key"], key["key_hash"]))
    )
    yield adapter
    await adapter.aclose()


async def test_members(gateway: GMOGateway, member: str) -> None:
    assert await gateway.search_member(SITE, member) == Member(member, "山田 太郎")
    assert isinstance(await gateway.save_member(SITE, Member(member)), MemberExists)
    assert isinstance(await gateway.update_member(SITE, Member(member, "ヤマダ")), Member)
    assert await gateway.search_member(SITE, member) == Member(member, "ヤマダ")
    assert await gateway.delete_member(SITE, member) is None
    assert isinstance(await gateway.search_member(SITE, member), NotFound)
    assert isinstance(await gateway.delete_member(SITE, member), NotFound)
    assert isinstance(await gateway.update_member(SITE, Member("nobody", "x")), NotFound)
    assert "山田" not in repr(Member("m", "山田"))
    with pytest.raises(ValueError, match="member_id"):
        Member("a b")
    with pytest.raises(ValueError, match="name"):
        await gateway.save_member(SITE, Member("m", "𠮷野"))


async def test_cards(gateway: GMOGateway, member: str) -> None:
    assert isinstance(await gateway.search_cards(SITE, member), NotFound)
    assert await gateway.save_card(SITE, member, card_named("visa-approved")) == RegisteredCard(0, "111")
    second = await gateway.save_card(SITE, member, card_named("jcb-approved"), preferred=True)
    assert second == RegisteredCard(1, "000")
    assert await gateway.search_cards(SITE, member) == (
        RegisteredCard(0, "111", "3012", False),
        RegisteredCard(1, "000", "3012", True),
    )
    assert await gateway.delete_card(SITE, member, 0) is None
    # The others keep their numbers.
    replaced = await gateway.save_card(SITE, member, card_named("mastercard-approved"), sequence=1)
    assert replaced == RegisteredCard(1, "444")
    assert await gateway.search_cards(SITE, member) == (RegisteredCard(1, "444", "3012", False),)
    assert isinstance(await gateway.delete_card(SITE, member, 0), NotFound)
    for _ in range(4):
        assert isinstance(await gateway.save_card(SITE, member, card_named("visa-approved")), RegisteredCard)
    over = await gateway.save_card(SITE, member, card_named("visa-approved"))
    assert over == Declined(("E01230009",), Category.STOP, "gateway.member")
    assert isinstance(await gateway.save_card(SITE, "nobody", card_named("visa-approved")), NotFound)
    assert isinstance(await gateway.search_cards(SITE, "nobody"), NotFound)


async def test_a_card_that_is_none_of_the_simulator_s_is_not_sent(
    gateway: GMOGateway, simulator: SimulatorProcess, member: str
) -> None:
    before = len(simulator.client.get("/_simulator/ledger").json()["requests"])
    assert isinstance(await gateway.save_card(SITE, member, make_card("4242424242424242")), NotATestCard)
    assert len(simulator.client.get("/_simulator/ledger").json()["requests"]) == before


async def test_pay_with_a_registered_card(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, member: str
) -> None:
    saved = await gateway.save_card(SITE, member, card_named("visa-approved"))
    assert isinstance(saved, RegisteredCard)
    order = make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    absent = await gateway.execute_registered(SHOP, order, entry, SITE, member, 7)
    assert absent == Declined(("E01240002",), Category.STOP, "gateway.member")
    paid = await gateway.execute_registered(SHOP, order, entry, SITE, member, saved.sequence)
    assert isinstance(paid, Approved)
    assert [charge["card"] for charge in simulator.charges(order.order_id)] == ["visa-approved"]
    # A card that is a member's already is not registered from its trade again.
    again = await gateway.register_traded_card(SHOP, SITE, order.order_id, member)
    assert isinstance(again, Declined)


async def test_register_the_card_of_a_trade(gateway: GMOGateway, make_order: MakeOrder, member: str) -> None:
    order = make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    unpaid = await gateway.register_traded_card(SHOP, SITE, order.order_id, member)
    assert unpaid == Declined(("E01110010",), Category.STOP, "gateway.request")
    assert isinstance(await gateway.execute(SHOP, order, entry, card_named("visa-approved")), Approved)
    saved = await gateway.register_traded_card(SHOP, SITE, order.order_id, member)
    assert saved == RegisteredCard(0, "1111")  # this call's mask leaves four digits
    assert isinstance(await gateway.register_traded_card(SHOP, SITE, "none", member), Declined)


@pytest.mark.parametrize(
    "call", ["SaveMember", "SearchMember", "SaveCard", "SearchCard", "DeleteCard", "TradedCard"]
)
async def test_lost_requests(
    gateway: GMOGateway, simulator: SimulatorProcess, member: str, call: str
) -> None:
    simulator.fault(call=call, kind="drop_after")
    asked = {
        "SaveMember": lambda: gateway.save_member(SITE, Member("lost")),
        "SearchMember": lambda: gateway.search_member(SITE, member),
        "SaveCard": lambda: gateway.save_card(SITE, member, card_named("visa-approved")),
        "SearchCard": lambda: gateway.search_cards(SITE, member),
        "DeleteCard": lambda: gateway.delete_card(SITE, member, 0),
        "TradedCard": lambda: gateway.register_traded_card(SHOP, SITE, "x", member),
    }[call]
    assert isinstance(await asked(), RequestLost)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("site", "code"),
    [
        (SiteAccount("tsite00000001", Secret("wrong")), "E01200007"),
        (SiteAccount("tsite00000009", Secret("x")), "E01210002"),
        (SiteAccount("x" * 14, Secret("x")), "E01190008"),
    ],
)
async def test_wrong_site(gateway: GMOGateway, site: SiteAccount, code: str) -> None:
    assert await gateway.search_member(site, "m") == Declined((code,), Category.STOP, "gateway.shop_settings")


@pytest.mark.parametrize(
    "body",
    [
        "CardSeq=0&CardNo=4111111111111111&Expire=3012&DefaultFlag=0&DeleteFlag=0",
        "CardSeq=0|1&CardNo=*1111&Expire=3012&DefaultFlag=0&DeleteFlag=0",
        "CardSeq=x&CardNo=*111&Expire=3012&DefaultFlag=0&DeleteFlag=0",
        "A=1",
    ],
)
async def test_no_list_of_cards(body: str) -> None:
    answered = await gateway_answering(text(body)).search_cards(SITE, "m")
    assert answered == RequestLost("malformed")
    assert "4111" not in repr(answered)


async def test_recorded_masks() -> None:
    saved = await gateway_answering(text("CardSeq=0&CardNo=*************111&Forward=2a99662")).save_card(
        SITE, "m", card_named("visa-approved")
    )
    assert saved == RegisteredCard(0, "111")
    traded = await gateway_answering(
        text("CardSeq=0&CardNo=************1111&Forward=2a99662")
    ).register_traded_card(SHOP, SITE, "o", "m")
    assert traded == RegisteredCard(0, "1111")


# -- tokens ---------------------------------------------------------------------------------------------------


async def test_a_contract_that_refuses_raw_numbers(
    gateway: GMOGateway, by_token: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, member: str
) -> None:
    order = make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    raw = await gateway.execute(SHOP, order, entry, card_named("raw-pan-refused"))
    assert isinstance(raw, Declined)
    assert raw.codes == ("E61040001",)
    outcome = await by_token.execute(SHOP, order, entry, card_named("raw-pan-refused"))
    assert isinstance(outcome, Approved)
    assert len(simulator.charges(order.order_id)) == 1
    assert isinstance(await by_token.save_card(SITE, member, card_named("raw-pan-refused")), RegisteredCard)


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "http_500_after", "garbage_after"])
async def test_without_a_token_nothing_is_charged(
    by_token: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, kind: str
) -> None:
    order = make_order()
    entry = await by_token.enter(SHOP, order)
    assert isinstance(entry, Entry)
    simulator.fault(call="getToken", kind=kind)
    outcome = await by_token.execute(SHOP, order, entry, card_named("visa-approved"))
    assert outcome == Declined(("token_lost",), Category.TRY_LATER, "gateway.try_later")
    assert simulator.charges(order.order_id) == []
    # And the order goes on.
    assert isinstance(await by_token.execute(SHOP, order, entry, card_named("visa-approved")), Approved)


async def test_refused_tokens(simulator: SimulatorProcess, make_order: MakeOrder) -> None:
    key = simulator.client.get("/_simulator/token-key").json()
    wrong = GMOGateway(GMOSettings(simulator.url, True, token=TokenSettings(key["public_key"], "0" * 64)))
    order = make_order()
    entry = await wrong.enter(SHOP, order)
    assert isinstance(entry, Entry)
    outcome = await wrong.execute(SHOP, order, entry, card_named("visa-approved"))
    assert outcome == Declined(("token_180",), Category.STOP, "gateway.shop_settings")
    await wrong.aclose()
    padded = GMOGateway(
        GMOSettings(simulator.url, True, token=TokenSettings(key["public_key"], key["key_hash"], oaep=True))
    )
    outcome = await padded.execute(SHOP, order, entry, card_named("visa-approved"))
    assert isinstance(outcome, Declined)
    assert outcome.codes == ("token_191",)
    expired = make_card("4111111111111111", expiry="0120")
    right = GMOGateway(
        GMOSettings(simulator.url, True, token=TokenSettings(key["public_key"], key["key_hash"]))
    )
    outcome = await right.execute(SHOP, order, entry, expired)
    assert isinstance(outcome, Declined)
    assert outcome.category is Category.REENTER_EXPIRY
    await padded.aclose()
    await right.aclose()


async def test_a_token_is_good_once_and_for_half_an_hour(
    simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    tokens: list[str] = []

    class Watch(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self.inner = httpx.AsyncHTTPTransport()

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await self.inner.handle_async_request(request)
            if request.url.path.endswith("getToken"):
                await response.aread()
                tokens.append(response.json()["tokenObject"]["token"])
                return httpx.Response(200, stream=httpx.ByteStream(response.content))
            return response

        async def aclose(self) -> None:
            await self.inner.aclose()

    key = simulator.client.get("/_simulator/token-key").json()
    settings = GMOSettings(simulator.url, True, token=TokenSettings(key["public_key"], key["key_hash"]))
    gateway = GMOGateway(settings, wire=Watch())
    order = make_order()
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    assert isinstance(await gateway.execute(SHOP, order, entry, card_named("visa-approved")), Approved)
    for offset, code in ((0, "EX1000302"), (0, "EX1000304")):
        again = await gateway.enter(SHOP, second := make_order())
        assert isinstance(again, Entry)
        fields = {
            "AccessID": again.access_id,
            "AccessPass": again.access_pass.reveal(),
            "OrderID": second.order_id,
            "Method": "1",
            "Token": tokens[-1] if code != "EX1000304" else "none",
        }
        simulator.clock(offset)
        assert simulator.client.post("/payment/ExecTran.idPass", data=fields).text.endswith(code)
    third = make_order()
    entry = await gateway.enter(SHOP, third)
    assert isinstance(entry, Entry)
    simulator.fault(call="ExecTran", kind="error", code="EX1000303")
    late = await gateway.execute(SHOP, third, entry, card_named("visa-approved"))
    assert late == Declined(("EX1000303",), Category.REENTER_PAN, "gateway.token")
    await gateway.aclose()


async def test_wrong_answers_for_a_token(make_order: MakeOrder) -> None:
    order = make_order()
    entry = Entry(order.order_id, "a", Secret("b"))
    for body in ('{"resultCode": 0}', '{"resultCode": ["x"]}', "[]", "", '{"resultCode": "000"}'):
        gateway = gateway_answering(text(body))
        gateway._connection.settings = GMOSettings(
            "https://gateway.example", True, token=TokenSettings(_public_key(), "h")
        )
        outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
        assert not isinstance(outcome, Approved | OutcomeUnknown), body


def _public_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65_537, 2_048).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
