"""Charges that show at the gateway after they were believed not to be: told, and taken or voided."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sipivr.calls.charging import ChargeApproved, ChargeImpossible, ChargeUnknown
from sipivr.calls.late_approvals import LateApprovals
from sipivr.gateway.gmo_connection import JST
from sipivr.store import read, write
from sipivr.store.records import SYSTEM, PaymentSession, PaymentStatus, SessionStatus
from tests.calls.test_charging import Bench, bench, simulator

__all__ = ["bench", "simulator"]


class Late:
    """The product's clock and the simulator's, moved together: the date decides between void and return."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.counted: list[str] = []
        self.offset = timedelta()
        self.late = LateApprovals(
            bench.writer,
            bench.charging._gateways,
            bench.directory.lately_not_charged,
            after_s=(3600, 21_600),
            count=self.counted.append,
            clock=lambda: datetime.now(UTC) + self.offset,
        )

    async def after(self, hours: float) -> None:
        self.offset = timedelta(hours=hours)
        await self.bench.move_clock(self.offset.total_seconds())
        try:
            await self.late.tick()
        finally:
            await self.bench.move_clock(0)


async def closed_wrongly(bench: Bench, order_id: str, call: str = "call_1") -> tuple[PaymentSession, str]:
    """A charge that stands and that SearchTrade hides for longer than `final_after_s`."""
    session = await bench.session(order_id, call)
    await bench.fault(call="ExecTran", kind="hide", seconds=3.5, order_id=order_id)
    await bench.fault(call="SearchTrade", kind="delay", seconds=0, order_id=order_id)
    result = await bench.charge(session, "4000000000025009")  # late-approval: answers a time-out
    assert isinstance(result, ChargeUnknown)
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    bench.charging.listen(result.payment.id, told.set_result)
    async with asyncio.timeout(20):
        assert isinstance(await told, ChargeImpossible)
    return session, result.payment.id


async def shown(bench: Bench, order_id: str, status: str = "CAPTURE") -> None:
    async with asyncio.timeout(10):
        while True:
            trades = {trade["order_id"]: trade for trade in await bench.ledger()}
            trade = trades[order_id]
            if trade["status"] == status and trade["hidden_until"] <= datetime.now(UTC).timestamp():
                return
            await asyncio.sleep(0.1)


async def reversal(bench: Bench, order_id: str, hours: float) -> str:
    """What taking a charge back is called `hours` from now: by the calendar of Japan (docs of the gateway)."""
    trades = {trade["order_id"]: trade for trade in await bench.ledger()}
    then, now = trades[order_id]["process_date"], datetime.now(JST) + timedelta(hours=hours)
    if then[:8] == f"{now:%Y%m%d}":
        return "VOID"
    return "RETURN" if then[:6] == f"{now:%Y%m}" else "RETURNX"


def events(bench: Bench, payment: str) -> list[str]:
    found = read.events_after(bench.directory._db, 0, limit=500)
    return [event.type for event in found if event.object.get("id") == payment]


async def ended(bench: Bench, call: str) -> None:
    await bench.writer.run(write.call_ended, call=call, outcome="declined", ended_by="switch")


async def test_taken_where_nothing_else_is_under_way(bench: Bench) -> None:
    session, payment = await closed_wrongly(bench, "late-ax")
    await ended(bench, "call_1")
    await shown(bench, "late-ax")
    late = Late(bench)
    await late.after(0.5)
    assert late.counted == []
    await late.after(1.1)
    assert late.counted == ["late_reads", "late_approvals", "late_approvals_adopted"]
    assert await bench.statuses(session) == (SessionStatus.PAID, PaymentStatus.APPROVED)
    assert events(bench, payment)[-2:] == ["payment.late_approval", "payment.approved"]
    await late.after(7)
    assert len(late.counted) == 3


async def test_waits_while_the_customer_is_on_the_line(bench: Bench) -> None:
    session, _ = await closed_wrongly(bench, "late-bx", "call_2")
    await shown(bench, "late-bx")
    late = Late(bench)
    await late.after(1.1)
    assert (await bench.statuses(session))[0] is SessionStatus.CLAIMED
    paid = await bench.charge(session)
    assert isinstance(paid, ChargeApproved)
    expected = await reversal(bench, "late-bx", 1.2)
    await late.after(1.2)
    assert late.counted[-1] == "late_approvals_voided"
    await shown(bench, "late-bx", expected)
    assert await bench.statuses(session) == (SessionStatus.PAID, PaymentStatus.APPROVED)


async def test_voided_where_the_order_is_to_be_paid_again(bench: Bench) -> None:
    session, payment = await closed_wrongly(bench, "late-cx", "call_3")
    await ended(bench, "call_3")
    status = (await bench.statuses(session))[0]
    if status is SessionStatus.OPEN:
        await bench.writer.run(write.cancel_session, SYSTEM, session=session.id)
    await bench.writer.run(
        write.create_payment_session, SYSTEM, merchant="mer_1", shop="shop_1", order_id="late-cx", amount=1000
    )
    await shown(bench, "late-cx")
    late = Late(bench)
    await bench.fault(call="AlterTran", kind="drop_after")
    expected = await reversal(bench, "late-cx", 1.1)
    await late.after(1.1)
    assert late.counted[-1] == "late_approvals_voided"  # the answer was lost, the void was not
    await shown(bench, "late-cx", expected)
    assert events(bench, payment)[-2:] == ["payment.late_approval", "payment.late_approval_voided"]
    again = Late(bench)
    await again.after(1.2)
    assert again.counted == []


@pytest.mark.parametrize("kind", ["drop_before", "http_500_before"])
async def test_a_gateway_that_cannot_say_is_asked_again(bench: Bench, kind: str) -> None:
    session, _ = await closed_wrongly(bench, f"late-{kind[:1]}x", f"call_{kind}")
    await ended(bench, f"call_{kind}")
    await shown(bench, f"late-{kind[:1]}x")
    late = Late(bench)
    await bench.fault(call="SearchTrade", kind=kind)
    await late.after(1.1)
    assert late.counted == ["late_reads"]
    await late.after(1.2)
    assert (await bench.statuses(session))[1] is PaymentStatus.APPROVED
