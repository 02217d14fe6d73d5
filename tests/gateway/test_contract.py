"""One suite for every adapter: what `calls` relies on, whatever the wire is."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from sipivr.gateway.alterations import (
    Alteration,
    AlterationUnknown,
    Altered,
    Amount,
    judge_alteration,
)
from sipivr.gateway.connector import ConnectorGateway, ConnectorSettings
from sipivr.gateway.full import FullGateway
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.modes import NotRegistered, Registered, register, register_traded
from sipivr.gateway.port import (
    Approved,
    Category,
    Declined,
    Entry,
    EntryUnknown,
    Job,
    LookUpFailed,
    NoSuchTrade,
    NotATestCard,
    Order,
    OrderIdTaken,
    OutcomeUnknown,
    Secret,
    ShopAccount,
    Trade,
    TradeStatus,
)
from sipivr.gateway.registered_cards import (
    Member,
    MemberExists,
    NotFound,
    RegisteredCard,
    RequestLost,
    SiteAccount,
)
from sipivr.gateway.resolution import NotCharged, judge_entry, judge_outcome
from tests.gateway import conftest
from tests.gateway.conftest import SimulatorProcess, card_named, make_card
from tests.gateway.numbers import NUMBERS
from tests.gateway.receiver.server import Receiver

MakeOrder = Callable[..., Order]
_NUMBERS = itertools.count(1)
KEY = Secret("an-example-key-of-32-characters!")

#: The port's word → the protocol's.
GMO_CALLS = {
    "enter": "EntryTran",
    "execute": "ExecTran",
    "alter": "AlterTran",
    "look_up": "SearchTrade",
    "save_card": "SaveCard",
    "register_traded_card": "TradedCard",
}


@dataclass
class Rig:
    """A gateway under test and what only the tests may do with its other end."""

    gateway: FullGateway
    shop: ShopAccount
    site: SiteAccount
    fault: Callable[[str, str], None]
    charges: Callable[[str], list[str]]
    requests: Callable[[], int]


@pytest.fixture(params=["gmo", "connector"])
async def rig(
    request: pytest.FixtureRequest, simulator: SimulatorProcess, certificate: tuple[str, str]
) -> AsyncIterator[Rig]:
    if request.param == "gmo":
        gmo = GMOGateway(GMOSettings(simulator.url, test_mode=True))
        yield Rig(
            gmo,
            conftest.SHOP,
            conftest.SITE,
            lambda operation, kind: simulator.fault(call=GMO_CALLS[operation], kind=kind),
            lambda order_id: [str(charge["kind"]) for charge in simulator.charges(order_id)],
            lambda: len(simulator.client.get("/_simulator/ledger").json()["requests"]),
        )
        await gmo.aclose()
        return
    keys = {"shop-1": KEY.reveal().encode(), "site-1": KEY.reveal().encode()}
    with Receiver(certificate, keys, NUMBERS) as receiver:
        connector = ConnectorGateway(
            ConnectorSettings(
                receiver.url, test_mode=True, networks=(ip_network("127.0.0.0/8"),), ca_file=certificate[0]
            )
        )
        yield Rig(
            connector,
            ShopAccount("shop-1", KEY),
            SiteAccount("site-1", KEY),
            lambda operation, kind: receiver.faults.append((operation, kind)),
            lambda order_id: [kind for order, kind, _ in receiver.ledger.charges if order == order_id],
            lambda: len(receiver.requests),
        )
        await connector.aclose()


async def entered(rig: Rig, order: Order) -> Entry:
    entry = await rig.gateway.enter(rig.shop, order)
    assert isinstance(entry, Entry)
    return entry


async def paid(rig: Rig, order: Order) -> Entry:
    entry = await entered(rig, order)
    assert isinstance(
        await rig.gateway.execute(rig.shop, order, entry, card_named("visa-approved")), Approved
    )
    return entry


async def found(rig: Rig, order: Order) -> Trade:
    trade = await rig.gateway.look_up(rig.shop, order.order_id)
    assert isinstance(trade, Trade)
    return trade


@pytest.mark.parametrize("job", list(Job))
async def test_charge_and_look_up(rig: Rig, make_order: MakeOrder, job: Job) -> None:
    order = make_order(amount_yen=0 if job is Job.CHECK else 1_200, job=job)
    entry = await entered(rig, order)
    before = await found(rig, order)
    assert (before.status, before.job, before.intent_id) == (TradeStatus.UNPROCESSED, job.value, "")
    outcome = await rig.gateway.execute(rig.shop, order, entry, card_named("visa-approved"))
    assert isinstance(outcome, Approved)
    after = await found(rig, order)
    assert (after.status.value, after.amount_yen) == (job.value, order.amount_yen)
    assert after.intent_id == order.intent_id
    assert after.transaction_id == outcome.transaction_id
    assert after.entry == entry
    assert rig.charges(order.order_id) == [job.value]


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("decline-card", Category.ANOTHER_CARD),
        ("decline-number", Category.REENTER_PAN),
        ("decline-expiry", Category.REENTER_EXPIRY),
        ("decline-security-code", Category.REENTER_SECURITY_CODE),
        ("congested", Category.TRY_LATER),
        ("shop-settings", Category.STOP),
    ],
)
async def test_each_class_of_refusal(rig: Rig, make_order: MakeOrder, name: str, category: Category) -> None:
    order = make_order()
    outcome = await rig.gateway.execute(rig.shop, order, await entered(rig, order), card_named(name))
    assert isinstance(outcome, Declined)
    assert outcome.category is category
    assert outcome.codes
    assert rig.charges(order.order_id) == []


async def test_a_card_that_is_no_test_card_is_not_sent(rig: Rig, make_order: MakeOrder) -> None:
    order = make_order()
    entry = await entered(rig, order)
    before = rig.requests()
    real = make_card("4539578763621486")
    assert isinstance(rig.gateway.refuses(real), NotATestCard)
    assert isinstance(await rig.gateway.execute(rig.shop, order, entry, real), NotATestCard)
    assert isinstance(await rig.gateway.save_card(rig.site, "m", real), NotATestCard)
    assert rig.requests() == before


async def test_an_order_id_is_taken_once(rig: Rig, make_order: MakeOrder) -> None:
    order = make_order()
    await paid(rig, order)
    assert isinstance(await rig.gateway.enter(rig.shop, order), OrderIdTaken)
    assert isinstance(await rig.gateway.look_up(rig.shop, "no-such-order"), NoSuchTrade)
    with pytest.raises(ValueError, match="another order"):
        await rig.gateway.execute(
            rig.shop, order, Entry("other", "a", Secret("b")), card_named("visa-approved")
        )


async def test_a_second_execution_is_unknown_and_charges_nothing(rig: Rig, make_order: MakeOrder) -> None:
    order = make_order()
    entry = await paid(rig, order)
    again = await rig.gateway.execute(rig.shop, order, entry, card_named("visa-approved"))
    assert isinstance(again, OutcomeUnknown)
    assert isinstance(judge_outcome(await found(rig, order), order, since_sent_s=0), Approved)
    assert rig.charges(order.order_id) == ["CAPTURE"]


LOST = ["drop_before", "drop_after", "partial_after", "http_500_after", "garbage_after"]


@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_charge_is_found_by_asking(rig: Rig, make_order: MakeOrder, kind: str) -> None:
    order = make_order()
    entry = await entered(rig, order)
    rig.fault("execute", kind)
    outcome = await rig.gateway.execute(rig.shop, order, entry, card_named("visa-approved"))
    assert isinstance(outcome, OutcomeUnknown)
    judged = judge_outcome(await found(rig, order), order, since_sent_s=1_000)
    assert isinstance(judged, NotCharged if kind == "drop_before" else Approved)
    assert rig.charges(order.order_id) == ([] if kind == "drop_before" else ["CAPTURE"])


@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_entry_is_adopted(rig: Rig, make_order: MakeOrder, kind: str) -> None:
    order = make_order()
    rig.fault("enter", kind)
    assert isinstance(await rig.gateway.enter(rig.shop, order), EntryUnknown)
    looked = await rig.gateway.look_up(rig.shop, order.order_id)
    if kind == "drop_before":
        assert isinstance(looked, NoSuchTrade)
        entry = await entered(rig, order)
    else:
        adopted = judge_entry(looked, order, sent_unanswered=True)
        assert isinstance(adopted, Entry)
        entry = adopted
    assert isinstance(
        await rig.gateway.execute(rig.shop, order, entry, card_named("visa-approved")), Approved
    )


async def test_a_lost_look_up_is_no_answer(rig: Rig, make_order: MakeOrder) -> None:
    rig.fault("look_up", "drop_after")
    assert isinstance(await rig.gateway.look_up(rig.shop, "x"), LookUpFailed)


async def test_settle_void_and_another_amount(rig: Rig, make_order: MakeOrder) -> None:
    order = make_order(job=Job.AUTH)
    entry = await paid(rig, order)
    before = await found(rig, order)
    settled = await rig.gateway.alter(rig.shop, entry, Alteration.SETTLE, Amount(order.amount_yen))
    assert isinstance(settled, Altered)
    assert settled.transaction_id == before.transaction_id
    assert isinstance(await rig.gateway.alter(rig.shop, entry, Alteration.VOID), Altered)
    assert isinstance(await rig.gateway.alter(rig.shop, entry, Alteration.VOID), AlterationUnknown)
    assert isinstance(judge_alteration(await found(rig, order), Alteration.VOID), Altered)
    assert rig.charges(order.order_id) == ["AUTH", "SALES", "VOID"]
    second = make_order()
    entry = await paid(rig, second)
    changed = await rig.gateway.change_amount(rig.shop, entry, TradeStatus.CAPTURE, Amount(900, 90))
    assert isinstance(changed, Altered)
    after = await found(rig, second)
    assert (after.amount_yen, after.tax_yen) == (900, 90)
    wrong = Entry(second.order_id, "0" * 32, Secret("0" * 32))
    assert isinstance(await rig.gateway.alter(rig.shop, wrong, Alteration.VOID), Declined)


@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_alteration_is_looked_up(rig: Rig, make_order: MakeOrder, kind: str) -> None:
    order = make_order()
    entry = await paid(rig, order)
    rig.fault("alter", kind)
    assert isinstance(await rig.gateway.alter(rig.shop, entry, Alteration.VOID), AlterationUnknown)
    judged = judge_alteration(await found(rig, order), Alteration.VOID)
    assert isinstance(judged, Altered) is (kind != "drop_before")


async def test_members_and_cards(rig: Rig) -> None:
    gateway, site, member = rig.gateway, rig.site, f"contract-{next(_NUMBERS)}"
    assert isinstance(await gateway.search_member(site, member), NotFound)
    assert isinstance(await gateway.save_card(site, member, card_named("visa-approved")), NotFound)
    assert await gateway.save_member(site, Member(member, "デモ")) == Member(member, "デモ")
    assert isinstance(await gateway.save_member(site, Member(member)), MemberExists)
    assert isinstance(await gateway.update_member(site, Member(member, "名前")), Member)
    assert await gateway.search_member(site, member) == Member(member, "名前")
    first = await gateway.save_card(site, member, card_named("visa-approved"))
    second = await gateway.save_card(site, member, card_named("jcb-approved"), preferred=True)
    assert isinstance(first, RegisteredCard)
    assert isinstance(second, RegisteredCard)
    assert "1111".endswith(first.tail)
    assert await gateway.delete_card(site, member, first.sequence) is None
    assert isinstance(await gateway.delete_card(site, member, first.sequence), NotFound)
    cards = await gateway.search_cards(site, member)
    assert isinstance(cards, tuple)
    assert [(card.sequence, card.expires, card.preferred) for card in cards] == [
        (second.sequence, "3012", True)
    ]
    replaced = await gateway.save_card(site, member, card_named("visa-approved"), sequence=second.sequence)
    assert isinstance(replaced, RegisteredCard)
    assert replaced.sequence == second.sequence
    assert await gateway.delete_member(site, member) is None
    assert isinstance(await gateway.search_cards(site, member), NotFound)
    rig.fault("save_card", "drop_before")
    assert isinstance(await gateway.save_card(site, member, card_named("visa-approved")), RequestLost)


async def test_pay_with_a_registered_card(rig: Rig, make_order: MakeOrder) -> None:
    member = Member(f"contract-{next(_NUMBERS)}")
    done = await register(rig.gateway, rig.site, member, card_named("visa-approved"))
    assert isinstance(done, Registered)
    order = make_order()
    entry = await entered(rig, order)
    outcome = await rig.gateway.execute_registered(
        rig.shop, order, entry, rig.site, member.member_id, done.card.sequence
    )
    assert isinstance(outcome, Approved)
    assert rig.charges(order.order_id) == ["CAPTURE"]


async def test_register_the_card_of_a_payment(rig: Rig, make_order: MakeOrder) -> None:
    member, order = Member(f"contract-{next(_NUMBERS)}"), make_order()
    failed = await register_traded(rig.gateway, rig.shop, rig.site, member, order.order_id, "1111")
    assert isinstance(failed, NotRegistered)
    await paid(rig, order)
    rig.fault("register_traded_card", "drop_after")
    done = await register_traded(rig.gateway, rig.shop, rig.site, member, order.order_id, "1111")
    assert isinstance(done, Registered)
    cards = await rig.gateway.search_cards(rig.site, member.member_id)
    assert isinstance(cards, tuple)
    assert len(cards) == 1
    assert rig.charges(order.order_id) == ["CAPTURE"]
