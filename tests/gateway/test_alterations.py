"""Settle, void, refund and other amounts against the simulator, over the calendar."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from sipivr.gateway.alterations import (
    JST,
    Alteration,
    AlterationUnknown,
    Altered,
    Amount,
    NotAllowed,
    amount_change_of,
    judge_alteration,
    judge_amount,
    reversal_of,
    settlement_of,
)
from sipivr.gateway.gmo import GMOGateway
from sipivr.gateway.port import (
    Approved,
    Declined,
    Entry,
    Job,
    LookUpFailed,
    NoSuchTrade,
    Order,
    Secret,
    Trade,
    TradeStatus,
)
from tests.gateway.conftest import SHOP, SimulatorProcess, card_named

MakeOrder = Callable[..., Order]
DAY_S = 86_400
NOON = dt.datetime(2026, 3, 31, 12, tzinfo=JST)


def trade_of(status: TradeStatus, processed_at: dt.datetime | None = NOON) -> Trade:
    return Trade("o", status, "CAPTURE", 100, 0, "a", Secret("p"), "1", "t", "f", processed_at, "i")


@pytest.mark.parametrize(
    ("status", "now", "expected"),
    [
        (TradeStatus.AUTH, NOON + dt.timedelta(days=40), Alteration.VOID),
        (TradeStatus.AUTH, NOON + dt.timedelta(days=181), NotAllowed("too_old")),
        (TradeStatus.CAPTURE, NOON + dt.timedelta(hours=11), Alteration.VOID),
        # 00:30 of the next day and month in Japan is still the 31st in UTC.
        (TradeStatus.SALES, NOON.replace(day=30) + dt.timedelta(hours=12, minutes=30), Alteration.REFUND),
        (TradeStatus.SALES, NOON + dt.timedelta(hours=12, minutes=30), Alteration.REFUND_CROSS_MONTH),
        (TradeStatus.SALES, NOON + dt.timedelta(days=365), NotAllowed("too_old")),
        (TradeStatus.VOID, NOON, NotAllowed("not_charged")),
        (TradeStatus.UNPROCESSED, NOON, NotAllowed("not_charged")),
    ],
)
def test_which_reversal(status: TradeStatus, now: dt.datetime, expected: object) -> None:
    then = NOON.replace(day=30) if expected is Alteration.REFUND else NOON
    assert reversal_of(trade_of(status, then), now.astimezone(dt.UTC)) == expected


def test_rules_without_a_gateway() -> None:
    assert reversal_of(trade_of(TradeStatus.SALES, None), NOON) == NotAllowed("date_unknown")
    assert settlement_of(trade_of(TradeStatus.AUTH), NOON) is Alteration.SETTLE
    assert settlement_of(trade_of(TradeStatus.SALES), NOON) == NotAllowed("not_authorized")
    assert settlement_of(trade_of(TradeStatus.AUTH), NOON + dt.timedelta(days=200)) == NotAllowed("too_old")
    assert amount_change_of(trade_of(TradeStatus.SALES), NOON) is TradeStatus.CAPTURE
    assert amount_change_of(trade_of(TradeStatus.AUTH), NOON) is TradeStatus.AUTH
    assert amount_change_of(trade_of(TradeStatus.VOID), NOON) == NotAllowed("not_charged")
    assert judge_alteration(LookUpFailed("x"), Alteration.VOID) is None
    assert judge_alteration(NoSuchTrade(), Alteration.VOID) == NotAllowed("not_done")
    assert judge_alteration(trade_of(TradeStatus.AUTH), Alteration.VOID) == NotAllowed("not_done")
    assert isinstance(judge_alteration(trade_of(TradeStatus.VOID), Alteration.VOID), Altered)
    assert judge_amount(trade_of(TradeStatus.AUTH), Amount(100)) is True
    assert judge_amount(trade_of(TradeStatus.AUTH), Amount(101)) is False
    assert judge_amount(LookUpFailed("x"), Amount(100)) is None
    with pytest.raises(ValueError, match="amount_yen"):
        Amount(0)
    with pytest.raises(ValueError, match="tax_yen"):
        Amount(1, 10_000_000)


async def paid(gateway: GMOGateway, order: Order) -> Entry:
    entry = await gateway.enter(SHOP, order)
    assert isinstance(entry, Entry)
    assert isinstance(await gateway.execute(SHOP, order, entry, card_named("visa-approved")), Approved)
    return entry


async def trade(gateway: GMOGateway, order: Order) -> Trade:
    found = await gateway.look_up(SHOP, order.order_id)
    assert isinstance(found, Trade)
    return found


async def test_settle_keeps_the_approval(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order(job=Job.AUTH)
    entry = await paid(gateway, order)
    before = await trade(gateway, order)
    with pytest.raises(ValueError, match="amount"):
        await gateway.alter(SHOP, entry, Alteration.SETTLE)
    settled = await gateway.alter(SHOP, entry, Alteration.SETTLE, Amount(order.amount_yen))
    assert isinstance(settled, Altered)
    assert (settled.approval_number, settled.transaction_id) == (
        before.approval_number,
        before.transaction_id,
    )
    again = await gateway.alter(SHOP, entry, Alteration.SETTLE, Amount(order.amount_yen))
    assert not isinstance(again, Altered)
    assert [charge["kind"] for charge in simulator.charges(order.order_id)] == ["AUTH", "SALES"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, Alteration.VOID), (40, Alteration.REFUND_CROSS_MONTH), (200, NotAllowed("too_old"))],
)
async def test_reversal_over_the_calendar(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, days: int, expected: object
) -> None:
    order = make_order()
    entry = await paid(gateway, order)
    simulator.clock(days * DAY_S)
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    chosen = reversal_of(await trade(gateway, order), now)
    assert chosen == expected
    for alteration in (Alteration.VOID, Alteration.REFUND, Alteration.REFUND_CROSS_MONTH):
        if alteration is chosen:
            continue
        if alteration is Alteration.REFUND and days == 0:
            continue  # the gateway would take it too
        refused = await gateway.alter(SHOP, entry, alteration)
        # "Not in this state" may mean that somebody did it before: it is looked up, never taken for granted.
        assert isinstance(refused, AlterationUnknown | Declined), alteration
        assert isinstance(judge_alteration(await trade(gateway, order), alteration), NotAllowed)
    if isinstance(chosen, Alteration):
        assert isinstance(await gateway.alter(SHOP, entry, chosen), Altered)
        assert (await trade(gateway, order)).status.value == chosen.value


async def test_refund_in_the_same_month(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    # The fifth of next month, then the sixth: whatever today is, no month is crossed.
    today = dt.datetime.now(JST)
    fifth = (today.replace(day=1) + dt.timedelta(days=32)).replace(day=5)
    simulator.clock((fifth - today).total_seconds())
    order = make_order()
    entry = await paid(gateway, order)
    simulator.clock((fifth - today).total_seconds() + DAY_S)
    assert reversal_of(await trade(gateway, order), fifth + dt.timedelta(days=1)) is Alteration.REFUND
    assert not isinstance(await gateway.alter(SHOP, entry, Alteration.VOID), Altered)
    assert isinstance(await gateway.alter(SHOP, entry, Alteration.REFUND), Altered)


async def test_another_amount(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder
) -> None:
    order = make_order()
    entry = await paid(gateway, order)
    before = await trade(gateway, order)
    with pytest.raises(ValueError, match="job"):
        await gateway.change_amount(SHOP, entry, TradeStatus.SALES, Amount(1))
    changed = await gateway.change_amount(SHOP, entry, TradeStatus.CAPTURE, Amount(9_000, 900))
    assert isinstance(changed, Altered)
    assert changed.transaction_id != before.transaction_id
    after = await trade(gateway, order)
    assert (after.amount_yen, after.tax_yen, after.status) == (9_000, 900, TradeStatus.CAPTURE)
    assert judge_amount(after, Amount(9_000, 900)) is True
    wrong = await gateway.change_amount(SHOP, entry, TradeStatus.AUTH, Amount(1))
    assert isinstance(wrong, AlterationUnknown)
    await gateway.alter(SHOP, entry, Alteration.VOID)
    assert not isinstance(await gateway.change_amount(SHOP, entry, TradeStatus.CAPTURE, Amount(1)), Altered)


@pytest.mark.parametrize(
    "kind", ["drop_before", "drop_after", "partial_after", "http_500_after", "garbage_after"]
)
async def test_a_lost_alteration_is_looked_up(
    gateway: GMOGateway, simulator: SimulatorProcess, make_order: MakeOrder, kind: str
) -> None:
    order = make_order()
    entry = await paid(gateway, order)
    simulator.fault(call="AlterTran", kind=kind)
    assert isinstance(await gateway.alter(SHOP, entry, Alteration.VOID), AlterationUnknown)
    judged = judge_alteration(await trade(gateway, order), Alteration.VOID)
    assert isinstance(judged, NotAllowed if kind == "drop_before" else Altered)


async def test_a_trade_that_is_not_there(gateway: GMOGateway, make_order: MakeOrder) -> None:
    entry = await gateway.enter(SHOP, make_order())
    assert isinstance(entry, Entry)
    assert isinstance(await gateway.alter(SHOP, entry, Alteration.VOID), Declined)  # nothing was charged yet
    absent = replace(entry, access_id="0" * 32)
    assert isinstance(await gateway.alter(SHOP, absent, Alteration.VOID), Declined)
