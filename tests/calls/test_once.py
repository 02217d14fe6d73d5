"""One order, many tries at the same time and one after the other: charged once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from sipivr.calls.charging import ChargeApproved, ChargeImpossible, ChargeResult, ChargeUnknown, Charging
from sipivr.store import write
from sipivr.store.errors import OrderAlreadyPaid, OrderInProgress
from sipivr.store.records import SYSTEM, ClaimRefused, Mode, PaymentSession, RefusalReason, SessionStatus
from sipivr.store.writer import StoreWriter
from tests.calls.test_charging import CARDS, Bench, bench, card, charges, simulator

__all__ = ["bench", "simulator"]


async def again(bench: Bench, order_id: str) -> PaymentSession:
    return await bench.writer.run(
        write.create_payment_session, SYSTEM, merchant="mer_1", shop="shop_1", order_id=order_id, amount=1000
    )


async def charged(bench: Bench, order_id: str) -> int:
    return sum(
        trade["status"] == "CAPTURE" and trade["order_id"].startswith(order_id)
        for trade in await bench.ledger()
    )


async def test_twenty_transfers_of_one_session_charge_once(bench: Bench) -> None:
    session = await bench.session("many-x")
    results = await asyncio.gather(*(bench.charge(session) for _ in range(20)))
    assert sum(isinstance(result, ChargeApproved) for result in results) == 1
    refused = [result for result in results if isinstance(result, ChargeImpossible)]
    assert len(refused) == 19
    assert await charged(bench, "many-x") == 1


async def test_two_calls_that_key_one_number_in_the_same_millisecond_charge_once(bench: Bench) -> None:
    session, now = await again(bench, "ms-x"), datetime.now(UTC)
    for call in ("call_ms_1", "call_ms_2"):
        await bench.writer.run(
            write.call_started,
            id=call,
            merchant="mer_1",
            number="num_1",
            called="+81312345678",
            caller="+81312340001",
            mode=Mode.TEST,
            node="n",
        )
    claims = await asyncio.gather(
        *(
            bench.writer.run(
                write.claim_identification_number,
                merchant="mer_1",
                digits=session.identification_number,
                call=call,
                now=now,
            )
            for call in ("call_ms_1", "call_ms_2")
        )
    )
    taken = [claim for claim in claims if isinstance(claim, PaymentSession)]
    assert len(taken) == 1
    assert ClaimRefused(RefusalReason.USED) in claims
    assert isinstance(await bench.charge(taken[0]), ChargeApproved)
    assert await charged(bench, "ms-x") == 1


async def test_two_processes_charge_once(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A second writer of the same file, as a process that should not be there would be one."""
    session = await bench.session("two-x")
    other = StoreWriter(bench.writer._path, bench.writer._keys)
    await other.start()
    second = Charging(other, bench.charging._gateways, final_after_s=2.0)
    done: list[asyncio.Future[ChargeResult]] = []
    assert session.call is not None
    with card("4111111111111111") as in_hand:
        for charging in (bench.charging, second) * 5:
            told: asyncio.Future[ChargeResult] = asyncio.get_running_loop().create_future()
            charging.start(session, bench.shop, session.call, in_hand, told.set_result)
            done.append(told)
        async with asyncio.timeout(30):
            results = await asyncio.gather(*done)
    await second.stop()
    await other.stop()
    assert sum(isinstance(result, ChargeApproved) for result in results) == 1
    assert await charged(bench, "two-x") == 1


async def test_an_order_whose_first_session_is_unknown_is_locked(bench: Bench) -> None:
    session = await bench.session("again-ux")
    result = await bench.charge(session, CARDS["lost-answer-charged"])
    assert isinstance(result, ChargeUnknown)
    with pytest.raises(OrderInProgress) as refused:
        await again(bench, "again-ux")
    assert refused.value.session == session.id
    assert isinstance(await bench.charge(session), ChargeImpossible)
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    bench.charging.listen(result.payment.id, told.set_result)
    async with asyncio.timeout(20):
        await told
    with pytest.raises(OrderAlreadyPaid):
        await again(bench, "again-ux")
    assert await charged(bench, "again-ux") == 1
    assert len(await charges(bench, result.payment.id)) == 1


async def test_an_order_whose_first_session_was_declined_is_paid_by_the_next(bench: Bench) -> None:
    session = await bench.session("again-dx", "call_d1")
    await bench.charge(session, CARDS["decline-limit"])
    with pytest.raises(OrderInProgress):
        await again(bench, "again-dx")
    await bench.writer.run(write.call_ended, call="call_d1", outcome="declined", ended_by="customer")
    assert (await bench.statuses(session))[0] is SessionStatus.DECLINED
    result = await bench.charge(await bench.session("again-dx", "call_d2"))
    assert isinstance(result, ChargeApproved)
    assert result.payment.gateway_order_id == "again-dx-2"
    assert await charged(bench, "again-dx") == 1


async def test_an_order_whose_first_session_expired_is_paid_by_the_next(bench: Bench) -> None:
    import datetime as dt

    first = await again(bench, "again-ex")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=6)
    await bench.writer.run(write.expire_sessions, now=later)
    assert (await bench.statuses(first))[0] is SessionStatus.EXPIRED
    assert isinstance(await bench.charge(await bench.session("again-ex", "call_e2")), ChargeApproved)
    assert await charged(bench, "again-ex") == 1


REAL_PAN = "4539578763621486"  # Luhn-valid, and no test card


async def test_a_real_number_on_a_test_line_is_in_no_byte_on_the_gateway_s_socket(bench: Bench) -> None:
    heard = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await bench.writer.run(
        lambda store: write.put_connector(
            store, SYSTEM, id="con_1", kind="gmo", url=f"http://127.0.0.1:{port}", mode="test"
        )
    )
    session = await bench.session("real-2x")
    await bench.charge(session, REAL_PAN)
    assert not heard
    await bench.charge(session, "4111111111111111")
    assert b"EntryTran" in heard  # the socket was the right one
    assert REAL_PAN.encode() not in heard
    server.close()
    await server.wait_closed()
