"""Registration in all its ways, with answers lost at each step."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.modes import NotRegistered, PaymentMode, Registered, register, register_traded
from sipivr.gateway.port import Approved, Category, Entry, GatewayUnavailable, Job, NotATestCard, Order
from sipivr.gateway.registered_cards import Member, RegisteredCard
from tests.gateway.conftest import SHOP, SITE, SimulatorProcess, card_named, make_card

MakeOrder = Callable[..., Order]
_NUMBERS = itertools.count(1)


@pytest.fixture
def member() -> Member:
    return Member(f"modes-{next(_NUMBERS)}", "デモ 太郎")


async def paid(gateway: GMOGateway, order: Order) -> None:
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    assert isinstance(await gateway.execute(SHOP, order, entry, card_named("visa-approved")), Approved)


def test_what_a_mode_is() -> None:
    assert PaymentMode.PAY.job(Job.AUTH) is Job.AUTH
    assert PaymentMode.PAY_AND_REGISTER.job(Job.CAPTURE) is Job.CAPTURE
    assert PaymentMode.CHECK.job(Job.CAPTURE) is Job.CHECK
    assert PaymentMode.REGISTER.job(Job.CAPTURE) is None
    assert [mode for mode in PaymentMode if mode.charges] == [PaymentMode.PAY, PaymentMode.PAY_AND_REGISTER]
    assert [mode for mode in PaymentMode if mode.registers] == [
        PaymentMode.REGISTER,
        PaymentMode.PAY_AND_REGISTER,
    ]


async def test_check_moves_no_money(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order(amount_yen=0, job=Job.CHECK)
    await paid(gateway, order)
    assert [(charge["kind"], charge["amount"]) for charge in simulator.charges(order.order_id)] == [
        ("CHECK", 0)
    ]


async def test_register_makes_the_member_once(gateway: GMOGateway, member: Member) -> None:
    first = await register(gateway, SITE, member, card_named("visa-approved"))
    second = await register(gateway, SITE, member, card_named("jcb-approved"))
    assert first == Registered(member.member_id, RegisteredCard(0, "111"))
    assert second == Registered(member.member_id, RegisteredCard(1, "000"))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("SaveMember", "drop_after"),
        ("SaveMember", "garbage_after"),
        ("SaveCard", "drop_after"),
        ("SaveCard", "partial_after"),
        ("SaveCard", "http_500_after"),
    ],
)
async def test_a_lost_answer_registers_once(
    gateway: GMOGateway, simulator: SimulatorProcess, member: Member, call: str, kind: str
) -> None:
    simulator.fault(call=call, kind=kind)
    done = await register(gateway, SITE, member, card_named("visa-approved"))
    assert done == Registered(
        member.member_id, RegisteredCard(0, "111", "3012"[: 4 if call == "SaveCard" else 0])
    )
    cards = await gateway.search_cards(SITE, member.member_id)
    assert isinstance(cards, tuple)
    assert len(cards) == 1


async def test_a_request_that_never_arrived_is_known_to_have_registered_nothing(
    gateway: GMOGateway, simulator: SimulatorProcess, member: Member
) -> None:
    simulator.fault(call="SaveCard", kind="drop_before")
    assert await register(gateway, SITE, member, card_named("visa-approved")) == NotRegistered("lost")
    simulator.fault(call="SaveCard", kind="drop_after")
    simulator.fault(call="SearchCard", kind="drop_before", times=2)
    unsure = await register(gateway, SITE, member, card_named("visa-approved"))
    assert unsure == NotRegistered("lost", certain=False)


async def test_what_the_gateway_refuses_goes_to_the_dialogue(
    gateway: GMOGateway, simulator: SimulatorProcess, member: Member
) -> None:
    simulator.fault(call="SaveCard", kind="error", code="E41170099")
    refused = await register(gateway, SITE, member, card_named("visa-approved"))
    assert isinstance(refused, NotRegistered)
    assert refused.declined is not None
    assert refused.declined.category is Category.REENTER_PAN
    assert isinstance(await register(gateway, SITE, member, make_card("4242424242424242")), NotATestCard)


@pytest.mark.parametrize(
    "fault",
    [
        {"call": "TradedCard", "kind": "error", "code": "E01640010"},
        {"call": "TradedCard", "kind": "drop_before"},
        {"call": "TradedCard", "kind": "garbage_before"},
        {"call": "SearchMember", "kind": "drop_before"},
        {"call": "SearchMember", "kind": "error", "code": "E01200007"},
        {"call": "SaveMember", "kind": "error", "code": "E01220008"},
    ],
)
async def test_a_failed_registration_leaves_the_payment(
    gateway: GMOGateway,
    simulator: SimulatorProcess,
    make_order: MakeOrder,
    member: Member,
    fault: dict[str, str],
) -> None:
    order = make_order()
    await paid(gateway, order)
    simulator.fault(**fault)
    failed = await register_traded(gateway, SHOP, SITE, member, order.order_id, "1111")
    assert isinstance(failed, NotRegistered)
    assert [charge["kind"] for charge in simulator.charges(order.order_id)] == ["CAPTURE"]
    done = await register_traded(gateway, SHOP, SITE, member, order.order_id, "1111")
    assert done == Registered(member.member_id, RegisteredCard(0, "1111"))


async def test_traded_card_whose_answer_is_lost(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, member: Member
) -> None:
    order = make_order()
    await paid(gateway, order)
    simulator.fault(call="TradedCard", kind="drop_after")
    done = await register_traded(gateway, SHOP, SITE, member, order.order_id, "1111")
    assert isinstance(done, Registered)


async def test_a_gateway_that_is_away(member: Member) -> None:
    away = GMOGateway(GMOSettings("http://127.0.0.1:1", test_mode=True))
    assert await register_traded(away, SHOP, SITE, member, "o", "1111") == NotRegistered("connect")
    with pytest.raises(GatewayUnavailable):
        await register(away, SITE, member, card_named("visa-approved"))
    await away.aclose()
