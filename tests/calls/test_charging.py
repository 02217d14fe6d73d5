"""Charging against the real store and the simulator over HTTP: the rules of exactly once, one fault at a time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sipivr.calls.charging import (
    ChargeApproved,
    ChargeDeclined,
    ChargeImpossible,
    ChargeResult,
    ChargeUnknown,
    Charging,
    OnlyTestCards,
)
from sipivr.calls.directory import StoredDirectory
from sipivr.calls.gateways import StoredGateways
from sipivr.card import Card, ExpiryEntry, PANEntry, SecurityCodeEntry
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import Category
from sipivr.gateway.transport import Timeouts
from sipivr.store import crypto, write
from sipivr.store.records import SYSTEM, Mode, PaymentSession, PaymentStatus, SessionStatus, Shop
from sipivr.store.writer import StoreWriter

APPROVED = "4111111111111111"

#: From docs/simulator.md.
CARDS = {
    "decline-limit": "4000000000002008",
    "lost-answer-charged": "4000000000017006",
    "lost-request": "4000000000018004",
}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import subprocess

    ledger = tmp_path_factory.mktemp("simulator") / "ledger.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "sipivr.simulator", "--listen", "127.0.0.1:0", "--ledger", str(ledger)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "listening on" in line
    yield line.split()[-1] if line.split()[-1].startswith("http") else f"http://{line.split()[-1]}"
    process.terminate()
    process.wait(10)
    process.stdout.close()


@dataclass
class Bench:
    writer: StoreWriter
    directory: StoredDirectory
    charging: Charging
    shop: Shop
    url: str

    async def session(self, order_id: str = "order-a", digits_call: str = "call_1") -> PaymentSession:
        made = await self.writer.run(
            write.create_payment_session,
            SYSTEM,
            merchant="mer_1",
            shop="shop_1",
            order_id=order_id,
            amount=1000,
        )
        await self.writer.run(
            write.call_started,
            id=digits_call,
            merchant="mer_1",
            number="num_1",
            called="+81312345678",
            caller="+81312340001",
            mode=Mode.TEST,
            node="n",
        )
        claimed = await self.writer.run(
            write.claim_identification_number,
            merchant="mer_1",
            digits=made.identification_number,
            call=digits_call,
        )
        assert isinstance(claimed, PaymentSession)
        return claimed

    async def charge(self, session: PaymentSession, pan: str = APPROVED) -> ChargeResult:
        done: asyncio.Future[ChargeResult] = asyncio.get_running_loop().create_future()
        with card(pan) as in_hand:
            assert session.call is not None
            self.charging.start(session, self.shop, session.call, in_hand, done.set_result)
            async with asyncio.timeout(20):
                return await done

    async def ledger(self) -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=self.url) as client:
            found = (await client.get("/_simulator/ledger")).json()
            trades: list[dict[str, Any]] = found["trades"] if isinstance(found, dict) else found
            return trades

    async def fault(self, **fault: Any) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:
            (await client.post("/_simulator/faults", json=fault)).raise_for_status()

    async def move_clock(self, seconds: float) -> None:
        """The simulator's time from now on, against this machine's."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            (await client.post("/_simulator/clock", json={"offset_s": seconds})).raise_for_status()

    async def statuses(self, session: PaymentSession) -> tuple[SessionStatus, PaymentStatus | None]:
        from sipivr.store import read

        db = self.directory._db
        now = read.payment_session(db, session.id)
        assert now is not None
        payment = read.payment(db, now.payment) if now.payment else None
        return now.status, payment.status if payment else None


def card(pan: str, expiry: str = "1235", code: str = "123") -> Card:
    made = Card()
    number, date, security = PANEntry(), ExpiryEntry(), SecurityCodeEntry(3)
    for digit in pan:
        number.append(int(digit))
    for digit in expiry:
        date.append(int(digit))
    for digit in code:
        security.append(int(digit))
    made.put_pan(number.take())
    made.put_expiry(date.take())
    made.put_security_code(security.take())
    return made


def seed(store: Any, url: str) -> None:
    write.put_merchant(store, SYSTEM, id="mer_1", name="Acme", mode=Mode.TEST)
    write.put_number(store, SYSTEM, id="num_1", merchant="mer_1", e164="+81312345678")
    write.put_connector(store, SYSTEM, id="con_1", kind="gmo", url=url, mode=Mode.TEST)
    write.put_shop(
        store,
        SYSTEM,
        id="shop_1",
        merchant="mer_1",
        name="Acme",
        gateway_shop_id="tshop00000001",
        gateway_password="sandbox001",
        connector="con_1",
    )


@pytest.fixture
async def bench(tmp_path: Path, simulator: str) -> AsyncIterator[Bench]:
    keys = crypto.generate_keys()
    path = tmp_path / "switch.db"
    writer = StoreWriter(path, keys)
    await writer.start()
    await writer.run(seed, simulator)
    directory = StoredDirectory(path, keys)
    gateways = StoredGateways(
        shop=directory.shop,
        connector=directory.connector,
        password=directory.shop_password,
        open_intents=directory.open_intents,
        make=lambda connector: GMOGateway(
            GMOSettings(
                base_url=connector.url,
                test_mode=True,
                timeouts=Timeouts(connect_s=1, answer_s=2, charge_s=2),
            )
        ),
    )
    shop = directory.shop("shop_1")
    assert shop is not None
    charging = Charging(writer, gateways, final_after_s=2.0)
    yield Bench(writer, directory, charging, shop, simulator)
    await charging.stop()
    await gateways.aclose()
    directory.close()
    await writer.stop()
    async with httpx.AsyncClient(base_url=simulator) as client:
        await client.delete("/_simulator/faults")


async def charges(bench: Bench, payment: str) -> list[dict[str, Any]]:
    return [trade for trade in await bench.ledger() if payment in str(trade) and trade["status"] == "CAPTURE"]


async def test_an_approved_card_is_charged_once_and_recorded(bench: Bench) -> None:
    session = await bench.session("once-1x")
    result = await bench.charge(session)
    assert isinstance(result, ChargeApproved)
    assert result.payment.approval_number
    assert (result.payment.brand, result.payment.last4) == ("visa", "1111")
    assert await bench.statuses(session) == (SessionStatus.PAID, PaymentStatus.APPROVED)
    assert len(await charges(bench, result.payment.id)) == 1


async def test_a_declined_card_leaves_the_session_open_for_another(bench: Bench) -> None:
    session = await bench.session("declined-1x")
    declined = await bench.charge(session, CARDS["decline-limit"])
    assert isinstance(declined, ChargeDeclined)
    assert declined.category is Category.ANOTHER_CARD
    assert await bench.statuses(session) == (SessionStatus.CLAIMED, PaymentStatus.DECLINED)
    approved = await bench.charge(session)
    assert isinstance(approved, ChargeApproved)
    assert approved.payment.gateway_order_id == "declined-1x-2"


async def test_a_card_that_is_no_test_card_never_leaves_and_leaves_no_intent(bench: Bench) -> None:
    session = await bench.session("real-1x")
    before = len(await bench.ledger())
    assert isinstance(await bench.charge(session, "4539578763621486"), OnlyTestCards)
    assert await bench.statuses(session) == (SessionStatus.CLAIMED, None)
    assert len(await bench.ledger()) == before


async def test_a_lost_answer_is_resolved_by_asking_and_charged_once(bench: Bench) -> None:
    session = await bench.session("lost-1x")
    result = await bench.charge(session, CARDS["lost-answer-charged"])
    assert isinstance(result, ChargeUnknown)
    assert await bench.statuses(session) == (SessionStatus.UNKNOWN, PaymentStatus.UNKNOWN)
    later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bench.charging.listen(result.payment.id, later.set_result)
    async with asyncio.timeout(20):
        resolved = await later
    assert isinstance(resolved, ChargeApproved)
    assert await bench.statuses(session) == (SessionStatus.PAID, PaymentStatus.APPROVED)
    assert len(await charges(bench, result.payment.id)) == 1


async def test_a_lost_request_is_found_not_charged_once_it_is_final(bench: Bench) -> None:
    session = await bench.session("lost-2x")
    result = await bench.charge(session, CARDS["lost-request"])
    assert isinstance(result, ChargeUnknown)
    later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bench.charging.listen(result.payment.id, later.set_result)
    async with asyncio.timeout(20):
        assert isinstance(await later, ChargeImpossible)
    assert (await bench.statuses(session))[1] is PaymentStatus.NOT_CHARGED


async def test_a_gateway_that_cannot_be_reached_charges_nothing(bench: Bench) -> None:
    await bench.writer.run(
        lambda store: write.put_connector(
            store, SYSTEM, id="con_1", kind="gmo", url="http://127.0.0.1:9", mode=Mode.TEST
        )
    )
    session = await bench.session("down-1x")
    result = await bench.charge(session)
    assert isinstance(result, ChargeImpossible)
    assert await bench.statuses(session) == (SessionStatus.CLAIMED, PaymentStatus.NOT_CHARGED)


async def test_a_lost_entry_answer_is_adopted_and_the_charge_goes_on(bench: Bench) -> None:
    await bench.fault(call="EntryTran", kind="drop_after", times=1)
    session = await bench.session("entry-1x")
    result = await bench.charge(session)
    assert isinstance(result, ChargeApproved)
    assert len(await charges(bench, result.payment.id)) == 1


async def test_after_a_restart_what_was_never_executed_is_not_charged(bench: Bench) -> None:
    session = await bench.session("crash-1x")
    payment = await bench.writer.run(
        write.begin_payment, session=session.id, call="call_1", brand="visa", last4="1111"
    )
    assert bench.charging.recover() == 1
    await settled(bench)
    assert payment.id not in {p.id for p in bench.directory.open_intents()}
    assert (await bench.statuses(session))[1] is PaymentStatus.NOT_CHARGED


async def test_after_a_restart_what_may_have_been_executed_is_asked_about(bench: Bench) -> None:
    session = await bench.session("crash-2x")
    payment = await bench.writer.run(
        write.begin_payment, session=session.id, call="call_1", brand="visa", last4="1111"
    )
    await bench.writer.run(
        write.payment_entered, payment=payment.id, access_id="a" * 32, access_pass="b" * 32
    )
    await bench.writer.run(write.payment_executing, payment=payment.id)
    assert bench.charging.recover() == 1
    await settled(bench)
    # ExecTran never reached the gateway, which is believed only once it is final.
    assert (await bench.statuses(session))[1] is PaymentStatus.NOT_CHARGED


async def settled(bench: Bench) -> None:
    async with asyncio.timeout(20):
        while bench.charging.running:
            await asyncio.wait(bench.charging._tasks)
