"""The adapter against the simulator process, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections.abc import Callable

import pytest

from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    Entry,
    EntryUnknown,
    Gateway,
    GatewayUnavailable,
    Job,
    LookUpFailed,
    NoSuchTrade,
    NotATestCard,
    Order,
    OrderIdTaken,
    OutcomeUnknown,
    PayMethod,
    Secret,
    ShopAccount,
    Trade,
    TradeStatus,
)
from sipivr.gateway.resolution import judge_entry, judge_outcome
from sipivr.gateway.transport import Timeouts
from sipivr.simulator.cards import BEHAVIOURS, Delivery
from tests.gateway.conftest import SHOP, SimulatorProcess, card_named, make_card
from tests.gateway.numbers import NUMBERS

MakeOrder = Callable[..., Order]


async def entered(gateway: Gateway, order: Order) -> Entry:
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    return entry


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if name.endswith("-approved")])
async def test_approved(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, name: str
) -> None:
    order = make_order()
    card = make_card(NUMBERS[name], code="1234" if name.startswith("amex") else "123")
    outcome = await gateway.execute(SHOP, order, await entered(gateway, order), card)
    assert isinstance(outcome, Approved)
    assert outcome.order_id == order.order_id
    assert len(outcome.approval_number) == 7
    assert len(outcome.transaction_id) == 28
    assert outcome.processed_at is not None
    assert abs(dt.datetime.now(dt.UTC) - outcome.processed_at) < dt.timedelta(seconds=60)
    (charge,) = simulator.charges(order.order_id)
    assert (charge["amount"], charge["card"], charge["kind"]) == (12_300, name, "CAPTURE")
    assert charge["client_field1"] == order.intent_id


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("decline-card", Category.ANOTHER_CARD),
        ("decline-limit", Category.ANOTHER_CARD),
        ("decline-balance", Category.ANOTHER_CARD),
        ("decline-issuer", Category.ANOTHER_CARD),
        ("brand-not-accepted", Category.ANOTHER_CARD),
        ("decline-number", Category.REENTER_PAN),
        ("decline-expiry", Category.REENTER_EXPIRY),
        ("decline-security-code", Category.REENTER_SECURITY_CODE),
        ("security-code-missing", Category.REENTER_SECURITY_CODE),
        ("shop-settings", Category.STOP),
        ("raw-pan-refused", Category.STOP),
        ("congested", Category.TRY_LATER),
        ("try-later", Category.TRY_LATER),
        ("acquirer-failure", Category.TRY_LATER),
    ],
)
async def test_declined(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, name: str, category: Category
) -> None:
    order = make_order()
    outcome = await gateway.execute(SHOP, order, await entered(gateway, order), card_named(name))
    assert isinstance(outcome, Declined)
    assert outcome.category is category
    assert outcome.codes == (BEHAVIOURS[name].code,)
    assert simulator.charges(order.order_id) == []


UNKNOWN = [
    name
    for name, behaviour in BEHAVIOURS.items()
    if behaviour.code.startswith(("E9020", "E91", "E90", "E1101"))
    or behaviour.delivery in (Delivery.DROP, Delivery.ERROR_500, Delivery.GARBAGE)
    or behaviour.wrong_check_string
]


@pytest.mark.parametrize("name", UNKNOWN)
async def test_unknown_is_resolved_by_asking(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, name: str
) -> None:
    order = make_order()
    outcome = await gateway.execute(SHOP, order, await entered(gateway, order), card_named(name))
    assert isinstance(outcome, OutcomeUnknown)
    charged = bool(simulator.charges(order.order_id))
    assert charged is BEHAVIOURS[name].charges
    if not BEHAVIOURS[name].hidden:
        found = await gateway.look_up(SHOP, order.order_id)
        assert isinstance(judge_outcome(found, order, since_sent_s=0), Approved) is charged


async def test_late_approval(gateway: GMOGateway, make_order: MakeOrder) -> None:
    order = make_order()
    await gateway.execute(SHOP, order, await entered(gateway, order), card_named("late-approval"))
    first = await gateway.look_up(SHOP, order.order_id)
    assert isinstance(first, Trade)
    assert first.status is TradeStatus.UNPROCESSED
    assert first.intent_id == ""
    async with asyncio.timeout(5):
        while True:
            found = await gateway.look_up(SHOP, order.order_id)
            assert isinstance(found, Trade)
            if found.status is TradeStatus.CAPTURE:
                break
            await asyncio.sleep(0.05)
    assert found.intent_id == order.intent_id


@pytest.mark.parametrize("name", ["slow", "trickle-charged", "duplicate-answer"])
async def test_odd_deliveries_are_approved(gateway: GMOGateway, make_order: MakeOrder, name: str) -> None:
    order = make_order()
    outcome = await gateway.execute(SHOP, order, await entered(gateway, order), card_named(name))
    assert isinstance(outcome, Approved)
    # The connection of a duplicated answer is not used again.
    assert isinstance(await gateway.look_up(SHOP, order.order_id), Trade)


@pytest.mark.parametrize(
    ("kind", "charged"),
    [
        ("drop_before", False),
        ("http_500_before", False),
        ("garbage_before", False),
        ("drop_after", True),
        ("partial_after", True),
        ("http_500_after", True),
        ("garbage_after", True),
    ],
)
async def test_faults_of_exec_are_unknown(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, kind: str, charged: bool
) -> None:
    order = make_order()
    entry = await entered(gateway, order)
    simulator.fault(call="ExecTran", kind=kind, order_id=order.order_id)
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    assert isinstance(outcome, OutcomeUnknown)
    assert bool(simulator.charges(order.order_id)) is charged


async def test_unknown_code_is_an_unknown_outcome(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order()
    entry = await entered(gateway, order)
    simulator.fault(call="ExecTran", kind="error", code="Q77000001")
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    assert outcome == OutcomeUnknown("gateway", ("Q77000001",))


@pytest.mark.parametrize("kind", ["drop_after", "http_500_after", "garbage_after", "partial_after"])
async def test_a_lost_entry_is_adopted(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, kind: str
) -> None:
    order = make_order()
    simulator.fault(call="EntryTran", kind=kind)
    assert isinstance(await gateway.enter(SHOP, order), EntryUnknown)
    assert isinstance(await gateway.enter(SHOP, order), OrderIdTaken)
    entry = judge_entry(await gateway.look_up(SHOP, order.order_id), order, sent_unanswered=True)
    assert isinstance(entry, Entry)
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    assert isinstance(outcome, Approved)
    assert len(simulator.charges(order.order_id)) == 1


async def test_no_answer_in_time(simulator: SimulatorProcess, make_order: MakeOrder) -> None:
    timeouts = Timeouts(connect_s=2, answer_s=0.2, charge_s=0.2)
    gateway = GMOGateway(GMOSettings(simulator.url, True, timeouts=timeouts))
    order = make_order()
    entry = await entered(gateway, order)
    simulator.fault(call="ExecTran", kind="hold_after", order_id=order.order_id)
    outcome = await gateway.execute(SHOP, order, entry, card_named("visa-approved"))
    assert outcome == OutcomeUnknown("timeout")
    simulator.clear()
    found = await gateway.look_up(SHOP, order.order_id)
    assert isinstance(judge_outcome(found, order, since_sent_s=0), Approved)
    simulator.fault(call="EntryTran", kind="hold_before")
    assert await gateway.enter(SHOP, make_order()) == EntryUnknown("timeout")
    simulator.fault(call="SearchTrade", kind="hold_before")
    assert await gateway.look_up(SHOP, order.order_id) == LookUpFailed("timeout")
    await gateway.aclose()


async def test_execute_twice_charges_once(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order()
    entry = await entered(gateway, order)
    attempts = [gateway.execute(SHOP, order, entry, card_named("slow")) for _ in range(2)]
    outcomes = await asyncio.gather(*attempts)
    assert {type(outcome) for outcome in outcomes} == {Approved, OutcomeUnknown}
    assert len(simulator.charges(order.order_id)) == 1


async def test_nothing_listens(make_order: MakeOrder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    gateway = GMOGateway(GMOSettings(url, test_mode=True))
    order = make_order()
    with pytest.raises(GatewayUnavailable, match="connect"):
        await gateway.enter(SHOP, order)
    with pytest.raises(GatewayUnavailable):
        await gateway.execute(
            SHOP, order, Entry(order.order_id, "a", Secret("b")), card_named("visa-approved")
        )
    assert await gateway.look_up(SHOP, order.order_id) == LookUpFailed("connect")
    await gateway.aclose()
    with pytest.raises(GatewayUnavailable, match="closed"):
        await gateway.enter(SHOP, order)


async def test_no_connection_free(simulator: SimulatorProcess, make_order: MakeOrder) -> None:
    settings = GMOSettings(simulator.url, True, timeouts=Timeouts(pool_s=0.05), max_connections=1)
    gateway = GMOGateway(settings)
    simulator.fault(call="EntryTran", kind="hold_before")
    first = asyncio.create_task(gateway.enter(SHOP, make_order()))
    await asyncio.to_thread(simulator.client.get, "/_simulator/wait?call=EntryTran")
    with pytest.raises(GatewayUnavailable, match="pool_timeout"):
        await gateway.enter(SHOP, make_order())
    simulator.clear()
    assert isinstance(await first, Entry)
    await gateway.aclose()


async def test_not_a_test_card(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order()
    entry = await entered(gateway, order)
    card = make_card("4242424242424242")
    assert gateway.refuses(card) == NotATestCard()
    assert await gateway.execute(SHOP, order, entry, card) == NotATestCard()
    requests = simulator.client.get("/_simulator/ledger").json()["requests"]
    assert [r["call"] for r in requests if r["order_id"] == order.order_id] == ["EntryTran"]


async def test_refusals_of_entry(gateway: GMOGateway, make_order: MakeOrder) -> None:
    order = make_order()
    wrong = ShopAccount("tshop00000001", Secret("wrong"))
    assert await gateway.enter(wrong, order) == Declined(
        ("E01030002",), Category.STOP, "gateway.shop_settings"
    )
    await entered(gateway, order)
    assert await gateway.enter(SHOP, order) == OrderIdTaken(("E01040010",))
    assert await gateway.look_up(SHOP, "no-such-order") == NoSuchTrade(("E01110002",))
    assert await gateway.look_up(wrong, order.order_id) == LookUpFailed("gateway", ("E01030002",))


async def test_check_and_instalments(gateway: GMOGateway, make_order: MakeOrder) -> None:
    check = make_order(0, Job.CHECK)
    outcome = await gateway.execute(SHOP, check, await entered(gateway, check), card_named("visa-approved"))
    assert isinstance(outcome, Approved)
    order = make_order(5_000, Job.AUTH, tax_yen=500, method=PayMethod.INSTALMENTS, pay_times=3)
    outcome = await gateway.execute(SHOP, order, await entered(gateway, order), card_named("visa-approved"))
    assert isinstance(outcome, Approved)
    found = await gateway.look_up(SHOP, order.order_id)
    assert isinstance(found, Trade)
    assert (found.status, found.amount_yen, found.tax_yen) == (TradeStatus.AUTH, 5_000, 500)
    assert found.entry.access_id == found.access_id


async def test_entry_of_another_order(gateway: GMOGateway, make_order: MakeOrder) -> None:
    with pytest.raises(ValueError, match="another order"):
        await gateway.execute(SHOP, make_order(), Entry("x", "a", Secret("b")), card_named("visa-approved"))


async def test_a_hundred_at_once(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    async def pay() -> str:
        order = make_order()
        outcome = await gateway.execute(
            SHOP, order, await entered(gateway, order), card_named("visa-approved")
        )
        assert isinstance(outcome, Approved)
        return order.order_id

    order_ids = await asyncio.gather(*(pay() for _ in range(100)))
    charged = [c["order_id"] for c in simulator.client.get("/_simulator/ledger").json()["charges"]]
    assert all(charged.count(order_id) == 1 for order_id in order_ids)
