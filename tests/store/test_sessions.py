from __future__ import annotations

import datetime as dt

import pytest

from sipivr.store import read, write
from sipivr.store.errors import (
    Conflict,
    IdentificationNumbersExhausted,
    Invalid,
    NotFound,
    OrderAlreadyPaid,
    OrderInProgress,
)
from sipivr.store.records import ClaimRefused, PaymentSession, PaymentStatus, RefusalReason, SessionStatus
from tests.store.world import ADMIN, T0, World

MINUTE = dt.timedelta(minutes=1)


def claim(world: World, digits: str | None, call: str, now: dt.datetime = T0, merchant: str | None = None):
    return write.claim_identification_number(
        world.store, merchant=merchant or world.merchant, digits=digits or "", call=call, now=now
    )


def test_a_session_has_a_number_for_five_minutes_and_a_number_to_dial(world: World) -> None:
    session = world.session()
    assert session.status is SessionStatus.OPEN
    assert session.identification_number and len(session.identification_number) == 6
    assert session.identification_number_expires_at == "2026-11-23T06:05:00.000Z"
    assert session.dial == "+81312345678"
    (event,) = [e for e in read.events_after(world.store.db, 0) if e.type == "payment_session.created"]
    assert event.object["id"] == session.id
    assert session.identification_number not in str(event.object)


@pytest.mark.parametrize("order_id", ["", "a" * 25, "A_1", "A 1", "注文", "A-1", "A-12", "A1\n", "A-1\n"])
def test_order_ids_that_the_gateway_or_a_suffix_could_not_take_are_refused(
    world: World, order_id: str
) -> None:
    with pytest.raises(Invalid):
        world.session(order_id)


@pytest.mark.parametrize("order_id", ["A-123", "A", "-", "a" * 24, "2026-11-23-x"])
def test_other_order_ids_are_taken(world: World, order_id: str) -> None:
    assert world.session(order_id).order_id == order_id


@pytest.mark.parametrize("amount", [0, -1, 100_000_000])
def test_amounts_out_of_range_are_refused(world: World, amount: int) -> None:
    with pytest.raises(Invalid):
        write.create_payment_session(
            world.store, ADMIN, merchant=world.merchant, shop=world.shop, order_id="A", amount=amount
        )


def test_a_card_number_in_the_metadata_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match=r"metadata\.note"):
        world.session(metadata={"note": "card 4111 1111-1111 1111"})
    assert world.session(metadata={"note": "order 20261123063733"}).metadata["note"].startswith("order")


def test_another_merchants_shop_and_number_do_not_exist(world: World) -> None:
    with pytest.raises(NotFound):
        write.create_payment_session(
            world.store, ADMIN, merchant=world.merchant, shop=world.other_shop, order_id="A", amount=1
        )
    with pytest.raises(NotFound):
        write.create_payment_session(
            world.store,
            ADMIN,
            merchant=world.other,
            shop=world.other_shop,
            order_id="A",
            amount=1,
            number=world.number,
        )


def test_an_order_has_one_live_session(world: World) -> None:
    first = world.session("A1")
    with pytest.raises(OrderInProgress) as refused:
        world.session("A1")
    assert refused.value.session == first.id
    write.cancel_session(world.store, ADMIN, session=first.id)
    assert world.session("A1").id != first.id


def test_a_paid_order_is_not_registered_again(world: World) -> None:
    session, call = world.claimed()
    payment = write.begin_payment(world.store, session=session.id, call=call.id, brand="visa", last4="1111")
    write.payment_entered(world.store, payment=payment.id, access_id="a", access_pass="p")
    write.payment_executing(world.store, payment=payment.id)
    write.payment_closed(
        world.store, payment=payment.id, status=PaymentStatus.APPROVED, approval_number="000123"
    )
    with pytest.raises(OrderAlreadyPaid) as refused:
        world.session("A1")
    assert refused.value.session == session.id


def test_the_schema_itself_refuses_a_second_live_session(world: World) -> None:
    import sqlite3

    session = world.session()
    with pytest.raises(sqlite3.IntegrityError):
        world.store.db.execute(
            "INSERT INTO payment_session SELECT 'ps_2', merchant, shop, order_id, amount, currency, language,"
            " status, mode, number, metadata, created_by, created_at, call, payment, closed_at, version, mask, caller,"
            " caller_hash FROM payment_session WHERE id = ?",
            [session.id],
        )


def test_claims_are_refused_with_their_reason(world: World) -> None:
    call = world.call().id
    session = world.session("A1")
    digits = session.identification_number
    assert digits
    wrong = digits[:-1] + str((int(digits[-1]) + 1) % 10)
    assert claim(world, wrong, call) == ClaimRefused(RefusalReason.WRONG)
    assert claim(world, "", call) == ClaimRefused(RefusalReason.WRONG)
    assert claim(world, "4111111111111111", call) == ClaimRefused(RefusalReason.WRONG)
    assert claim(world, "１２３４５６", call) == ClaimRefused(RefusalReason.WRONG)
    assert claim(world, digits, call, T0 + 5 * MINUTE) == ClaimRefused(RefusalReason.EXPIRED)
    taken = claim(world, digits, call, T0 + 4 * MINUTE)
    assert isinstance(taken, PaymentSession)
    assert taken.status is SessionStatus.CLAIMED and taken.call == call
    assert claim(world, digits, world.call().id) == ClaimRefused(RefusalReason.USED)
    canceled = world.session("A2")
    write.cancel_session(world.store, ADMIN, session=canceled.id)
    assert claim(world, canceled.identification_number, world.call().id) == ClaimRefused(
        RefusalReason.CANCELED
    )
    reissued = world.session("A3")
    write.issue_identification_number(world.store, ADMIN, session=reissued.id, now=T0)
    assert claim(world, reissued.identification_number, world.call().id) == ClaimRefused(
        RefusalReason.EXPIRED
    )


def test_another_merchants_number_is_foreign(world: World) -> None:
    session = world.session()
    elsewhere = world.call(world.other, number=None, caller=None)
    assert claim(world, session.identification_number, elsewhere.id, merchant=world.other) == ClaimRefused(
        RefusalReason.FOREIGN
    )
    with pytest.raises(NotFound):
        claim(world, session.identification_number, elsewhere.id)


def test_failures_are_counted_by_merchant_and_caller_and_keep_no_digits(world: World) -> None:
    from sipivr.store.crypto import caller_hash

    call = world.call()
    claim(world, "4111111111111111", call.id)
    claim(world, "123456", world.call(caller="+819000000000").id)
    since = "2026-11-23T05:00:00.000Z"
    hashed = caller_hash(world.keys, "+819012341234")
    assert read.claim_failures(world.store.db, merchant=world.merchant, since=since) == 2
    assert read.claim_failures(world.store.db, merchant=world.merchant, since=since, caller_hash=hashed) == 1
    assert "4111111111111111" not in "\n".join(world.store.db.iterdump())


def test_ending_the_call_gives_the_session_back_while_its_number_is_valid(world: World) -> None:
    session, call = world.claimed()
    write.call_ended(world.store, call=call.id, outcome="abandoned", ended_by="customer", now=T0 + MINUTE)
    released = world.session_now(session.id)
    assert released.status is SessionStatus.OPEN and released.call is None
    assert released.identification_number == session.identification_number
    again = claim(world, session.identification_number, world.call().id, T0 + 2 * MINUTE)
    assert isinstance(again, PaymentSession)
    write.call_ended(
        world.store, call=again.call or "", outcome="abandoned", ended_by="customer", now=T0 + 9 * MINUTE
    )
    assert world.session_now(session.id).status is SessionStatus.EXPIRED


def test_an_ended_call_claims_nothing_and_a_call_holds_one_session(world: World) -> None:
    _, call = world.claimed("A1")
    second = world.session("A2")
    with pytest.raises(Conflict, match="another"):
        claim(world, second.identification_number, call.id)
    write.call_ended(world.store, call=call.id, outcome="x", ended_by="customer", now=T0)
    with pytest.raises(Conflict, match="ended"):
        claim(world, second.identification_number, call.id)
    assert write.call_ended(world.store, call=call.id, outcome="y", ended_by="switch").outcome == "x"


def test_release_is_for_the_call_that_holds_it(world: World) -> None:
    session, call = world.claimed()
    with pytest.raises(Conflict):
        write.release_claim(world.store, session=session.id, call=world.call().id, now=T0)
    assert (
        write.release_claim(world.store, session=session.id, call=call.id, now=T0).status
        is SessionStatus.OPEN
    )


def test_open_sessions_expire_and_a_new_number_opens_them_again(world: World) -> None:
    session = world.session("A1")
    claimed, _ = world.claimed("A2")
    assert write.expire_sessions(world.store, now=T0 + 4 * MINUTE) == ()
    assert write.expire_sessions(world.store, now=T0 + 5 * MINUTE) == (session.id,)
    assert world.session_now(session.id).identification_number is None
    assert world.session_now(claimed.id).status is SessionStatus.CLAIMED
    opened = write.issue_identification_number(world.store, ADMIN, session=session.id, now=T0 + 6 * MINUTE)
    assert (
        opened.status is SessionStatus.OPEN and opened.identification_number != session.identification_number
    )
    write.expire_sessions(world.store, now=T0 + 20 * MINUTE)
    other = world.session("A1")
    with pytest.raises(OrderInProgress) as refused:
        write.issue_identification_number(world.store, ADMIN, session=session.id)
    assert refused.value.session == other.id


def test_self_service_numbers_take_ten_digits_alone(world: World) -> None:
    long = world.session("A1", number=world.self_service)
    short = world.session("A2")
    assert long.identification_number and len(long.identification_number) == 10
    assert long.dial == "+81312345679"
    call = world.call(number=world.self_service)
    assert claim(world, short.identification_number, call.id) == ClaimRefused(RefusalReason.WRONG)
    assert isinstance(claim(world, long.identification_number, call.id), PaymentSession)


def test_a_fifth_of_the_pool_may_be_open_and_no_number_comes_twice_a_day(world: World) -> None:
    world.store.db.execute("UPDATE merchant SET identification_digits = 4")
    seen: set[str] = set()
    now = T0
    count = 0
    for _ in range(5):  # five times 200 open numbers are all 1,000
        for _ in range(200):
            count += 1
            digits = world.session(f"order{count}x", now).identification_number
            assert digits and digits not in seen
            seen.add(digits)
        if count < 1000:
            with pytest.raises(IdentificationNumbersExhausted, match="fifth"):
                world.session("more", now)
        now += 5 * MINUTE
        write.expire_sessions(world.store, now=now)
    with pytest.raises(IdentificationNumbersExhausted, match="24 hours"):
        world.session("more", now)
    assert len(seen) == 1000
    assert world.session("more", T0 + 1440 * MINUTE).identification_number in seen


def test_cancel(world: World) -> None:
    session, call = world.claimed()
    with pytest.raises(NotFound):
        write.cancel_session(world.store, ADMIN, session=session.id, merchant=world.other)
    assert write.cancel_session(world.store, ADMIN, session=session.id).status is SessionStatus.CANCELED
    assert write.cancel_session(world.store, ADMIN, session=session.id).status is SessionStatus.CANCELED
    with pytest.raises(Conflict):
        write.begin_payment(world.store, session=session.id, call=call.id, brand=None, last4=None)
    with pytest.raises(Conflict):
        write.issue_identification_number(world.store, ADMIN, session=session.id)
