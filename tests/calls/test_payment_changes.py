"""Settle, void, refund and another amount of real payments at the simulator, with answers lost and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sipivr.calls.charging import ChargeApproved
from sipivr.calls.payment_changes import PaymentChanges
from sipivr.store import read, write
from sipivr.store.errors import Conflict, Invalid, NotFound
from sipivr.store.records import SYSTEM, ChangeKind, ChangeStatus, Payment, PaymentChange
from tests.calls.test_charging import Bench, bench, simulator

__all__ = ["bench", "simulator"]


def changes_of(bench: Bench) -> PaymentChanges:
    return PaymentChanges(
        bench.writer,
        bench.charging._gateways,
        payment=bench.directory.payment,
        open_changes=bench.directory.open_changes,
        sure_after_s=2.0,
    )


@pytest.fixture
async def changes(bench: Bench) -> AsyncIterator[PaymentChanges]:
    made = changes_of(bench)
    yield made
    await made.stop()


async def paid(bench: Bench, order_id: str, job: str = "CAPTURE") -> Payment:
    await bench.writer.run(lambda store: store.db.execute("UPDATE shop SET job = ?", [job]) and None)
    shop = bench.directory.shop("shop_1")
    assert shop is not None
    bench.shop = shop
    result = await bench.charge(await bench.session(order_id, f"call_{order_id}"))
    assert isinstance(result, ChargeApproved)
    return result.payment


async def begun(bench: Bench, payment: Payment, kind: str, amount: int | None = None) -> PaymentChange:
    return await bench.writer.run(
        write.begin_change, SYSTEM, payment=payment.id, kind=ChangeKind(kind), amount=amount
    )


async def carried_out(
    bench: Bench, changes: PaymentChanges, payment: Payment, kind: str, amount: int | None = None
) -> PaymentChange:
    change = await begun(bench, payment, kind, amount)
    changes.start(change)
    return await closed(bench, change)


async def closed(bench: Bench, change: PaymentChange) -> PaymentChange:
    async with asyncio.timeout(20):
        while True:
            now = read.payment_change(bench.directory._db, change.id)
            assert now is not None
            if now.closed_at is not None:
                return now
            await asyncio.sleep(0.05)


async def at_gateway(bench: Bench, payment: Payment) -> tuple[str, int]:
    trades = {trade["order_id"]: trade for trade in await bench.ledger()}
    trade = trades[payment.gateway_order_id]
    return trade["status"], trade["amount"]


async def test_settle_then_give_back(bench: Bench, changes: PaymentChanges) -> None:
    payment = await paid(bench, "chg-ax", "AUTH")
    early = await carried_out(bench, changes, payment, "refund")
    assert (early.status, early.reason) == (ChangeStatus.REFUSED, "not_settled")
    done = await carried_out(bench, changes, payment, "settle")
    assert (done.status, done.job) == (ChangeStatus.DONE, "SALES")
    assert (await carried_out(bench, changes, payment, "settle")).reason == "not_authorized"
    assert (await carried_out(bench, changes, payment, "refund")).job == "VOID"  # the same day
    assert await at_gateway(bench, payment) == ("VOID", 1000)
    with pytest.raises(Conflict, match="given back"):
        await begun(bench, payment, "void")
    types = [event.type for event in read.events_after(bench.directory._db, 0, limit=500)]
    assert types[-4:] == [
        "payment.change_refused",
        "payment.settled",
        "payment.change_refused",
        "payment.refunded",
    ]


async def test_a_part_is_given_back_and_the_amount_changed(bench: Bench, changes: PaymentChanges) -> None:
    payment = await paid(bench, "chg-bx")
    done = await carried_out(bench, changes, payment, "refund", 300)
    assert done.status is ChangeStatus.DONE
    assert await at_gateway(bench, payment) == ("CAPTURE", 700)
    with pytest.raises(Invalid):
        await begun(bench, payment, "refund", 701)
    await carried_out(bench, changes, payment, "amount", 900)
    assert await at_gateway(bench, payment) == ("CAPTURE", 900)
    now = bench.directory.payment(payment.id)
    assert now is not None
    assert now.amount == 900
    await carried_out(bench, changes, payment, "void")
    assert await at_gateway(bench, payment) == ("VOID", 900)


@pytest.mark.parametrize(
    ("kind", "call", "amount"), [("void", "AlterTran", None), ("amount", "ChangeTran", 400)]
)
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "garbage_after"])
async def test_a_lost_answer_is_asked_for(
    bench: Bench, changes: PaymentChanges, kind: str, call: str, amount: int | None, fault: str
) -> None:
    order_id = f"chg-{kind}-{fault.replace('_', '-')}x"[:24]
    payment = await paid(bench, order_id)
    await bench.fault(call=call, kind=fault)
    change = await carried_out(bench, changes, payment, kind, amount)
    if fault == "drop_before":
        assert (change.status, change.reason) == (ChangeStatus.REFUSED, "not_done")
        assert await at_gateway(bench, payment) == ("CAPTURE", 1000)
    else:
        assert change.status is ChangeStatus.DONE
        assert await at_gateway(bench, payment) == (("VOID", 1000) if kind == "void" else ("CAPTURE", 400))
    trades = [trade for trade in await bench.ledger() if trade["order_id"] == order_id]
    assert len(trades) == 1


async def test_one_change_at_a_time(bench: Bench) -> None:
    payment = await paid(bench, "chg-cx")
    first = await begun(bench, payment, "void")
    with pytest.raises(Conflict) as refused:
        await begun(bench, payment, "refund")
    assert refused.value.related == first.id
    with pytest.raises(NotFound):
        await bench.writer.run(
            write.begin_change, SYSTEM, payment=payment.id, kind=ChangeKind.VOID, merchant="mer_other"
        )
    for kind, amount in (("void", 1), ("settle", 1), ("amount", None), ("amount", 1000), ("refund", 0)):
        with pytest.raises((Invalid, Conflict)):
            await begun(bench, payment, kind, amount)


@pytest.mark.parametrize("sent", [False, True])
async def test_after_a_restart(bench: Bench, sent: bool) -> None:
    payment = await paid(bench, f"chg-d{int(sent)}x")
    change = await begun(bench, payment, "void")
    if sent:
        # Committed as sent, and the process died before a byte was.
        await bench.writer.run(write.change_sent, change=change.id, job="VOID")
        with pytest.raises(Conflict):
            await bench.writer.run(write.change_sent, change=change.id, job="VOID")
    successor = changes_of(bench)
    assert successor.recover() >= 1
    now = await closed(bench, change)
    await successor.stop()
    assert now.status is (ChangeStatus.REFUSED if sent else ChangeStatus.DONE)
    assert (await at_gateway(bench, payment))[0] == ("CAPTURE" if sent else "VOID")


async def test_a_gateway_that_is_away(bench: Bench, changes: PaymentChanges) -> None:
    payment = await paid(bench, "chg-ex")
    await bench.fault(call="SearchTrade", kind="error", code="E92000001", times=4)
    change = await carried_out(bench, changes, payment, "void")
    assert (change.status, change.reason) == (ChangeStatus.REFUSED, "gateway_unavailable")
    assert await at_gateway(bench, payment) == ("CAPTURE", 1000)
