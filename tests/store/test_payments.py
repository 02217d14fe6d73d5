from __future__ import annotations

import sqlite3

import pytest

from sipivr.store import read, write
from sipivr.store.errors import (
    Conflict,
    IntentOpen,
    Invalid,
    OrderAlreadyPaid,
    SessionNotPayable,
    TooManyAttempts,
)
from sipivr.store.records import Payment, PaymentStatus, SessionStatus
from tests.store.world import ADMIN, T0, World


def begin(world: World, session: str, call: str) -> Payment:
    return write.begin_payment(world.store, session=session, call=call, brand="visa", last4="1111", now=T0)


def execute(world: World, payment: str) -> None:
    write.payment_entered(world.store, payment=payment, access_id="acc", access_pass="geheim-7")
    write.payment_executing(world.store, payment=payment)


def close(world: World, payment: str, status: PaymentStatus, **more: object) -> Payment:
    return write.payment_closed(world.store, payment=payment, status=status, now=T0, **more)  # type: ignore[arg-type]


def test_the_way_to_an_approval(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    assert (payment.gateway_order_id, payment.attempt, payment.status) == ("A1", 1, PaymentStatus.INTENT)
    assert world.session_now(session.id).status is SessionStatus.AUTHORIZING
    execute(world, payment.id)
    closed = close(
        world,
        payment.id,
        PaymentStatus.APPROVED,
        approval_number="000123",
        transaction_id="t",
        forward="2a99",
    )
    assert closed.executed_at and closed.closed_at and closed.approval_number == "000123"
    paid = world.session_now(session.id)
    assert paid.status is SessionStatus.PAID and paid.payment == payment.id and paid.closed_at
    assert paid.identification_number is None
    types = [e.type for e in read.events_after(world.store.db, 0) if e.type.startswith("payment")]
    assert types == [
        "payment_session.created",
        "payment_session.claimed",
        "payment_session.authorizing",
        "payment.created",
        "payment.entered",
        "payment.executing",
        "payment.approved",
        "payment_session.paid",
    ]
    assert close(world, payment.id, PaymentStatus.APPROVED) == closed
    with pytest.raises(Conflict):
        close(world, payment.id, PaymentStatus.DECLINED)


def test_the_access_password_is_sealed(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    execute(world, payment.id)
    assert read.access_pass(world.store.db, world.keys, payment.id) == "geheim-7"
    assert "geheim-7" not in "\n".join(world.store.db.iterdump())


def test_declines_let_another_card_be_tried_five_times_with_new_gateway_ids(world: World) -> None:
    session, call = world.claimed()
    ids = []
    for attempt in range(5):
        payment = begin(world, session.id, call.id)
        ids.append(payment.gateway_order_id)
        execute(world, payment.id)
        close(
            world,
            payment.id,
            PaymentStatus.DECLINED,
            error_codes=["42G120000"],
            error_category="another_card",
        )
        expected = SessionStatus.CLAIMED if attempt < 4 else SessionStatus.DECLINED
        assert world.session_now(session.id).status is expected
    assert ids == ["A1", "A1-2", "A1-3", "A1-4", "A1-5"]
    with pytest.raises(SessionNotPayable):
        begin(world, session.id, call.id)
    world.store.db.execute("UPDATE payment_session SET status = 'claimed' WHERE id = ?", [session.id])
    with pytest.raises(TooManyAttempts):
        begin(world, session.id, call.id)


def test_the_suffix_counts_over_sessions_of_the_order(world: World) -> None:
    session, call = world.claimed()
    first = begin(world, session.id, call.id)
    close(world, first.id, PaymentStatus.DECLINED, final=True)
    assert world.session_now(session.id).status is SessionStatus.DECLINED
    write.call_ended(world.store, call=call.id, outcome="declined", ended_by="switch")
    again, call = world.claimed()
    assert begin(world, again.id, call.id).gateway_order_id == "A1-2"


def test_an_open_intent_locks_the_order(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    with pytest.raises(IntentOpen) as refused:
        begin(world, session.id, call.id)
    assert refused.value.related == payment.id
    write.payment_unknown(world.store, payment=payment.id, error_codes=["timeout"])
    assert world.session_now(session.id).status is SessionStatus.UNKNOWN
    with pytest.raises(IntentOpen):
        begin(world, session.id, call.id)
    with pytest.raises(Conflict):
        write.cancel_session(world.store, ADMIN, session=session.id)


def test_the_schema_itself_refuses_a_second_live_attempt(world: World) -> None:
    session, call = world.claimed()
    begin(world, session.id, call.id)
    with pytest.raises(sqlite3.IntegrityError):
        world.store.db.execute(
            "INSERT INTO payment (id, merchant, session, shop, order_id, gateway_order_id, attempt, amount,"
            " currency, mode, status, created_at)"
            " SELECT 'pay_2', merchant, session, shop, order_id, 'A1-2', 2, amount, currency, mode,"
            " 'intent', created_at FROM payment"
        )


def test_nothing_is_executed_that_is_not_entered_nor_twice(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    with pytest.raises(Conflict):
        write.payment_executing(world.store, payment=payment.id)
    execute(world, payment.id)
    with pytest.raises(Conflict):
        write.payment_executing(world.store, payment=payment.id)
    write.payment_unknown(world.store, payment=payment.id)
    with pytest.raises(Conflict, match="sent"):
        write.payment_entered(world.store, payment=payment.id, access_id="a", access_pass="b")


def test_a_lost_answer_to_entry_may_be_adopted(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    write.payment_unknown(world.store, payment=payment.id)
    entered = write.payment_entered(world.store, payment=payment.id, access_id="a", access_pass="b")
    assert entered.status is PaymentStatus.ENTERED
    assert world.session_now(session.id).status is SessionStatus.AUTHORIZING


def test_the_customer_hangs_up_while_authorizing(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    execute(world, payment.id)
    write.call_ended(world.store, call=call.id, outcome="hung_up", ended_by="customer", now=T0)
    assert world.session_now(session.id).status is SessionStatus.AUTHORIZING
    assert [p.id for p in read.open_intents(world.store.db)] == [payment.id]
    close(world, payment.id, PaymentStatus.APPROVED)
    assert world.session_now(session.id).status is SessionStatus.PAID
    assert read.open_intents(world.store.db) == ()


def test_not_charged_after_the_call_leaves_the_session_to_be_claimed_again(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    write.call_ended(world.store, call=call.id, outcome="hung_up", ended_by="customer", now=T0)
    close(world, payment.id, PaymentStatus.NOT_CHARGED)
    assert world.session_now(session.id).status is SessionStatus.OPEN


def test_a_decline_after_the_call_ends_the_session(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    execute(world, payment.id)
    write.call_ended(world.store, call=call.id, outcome="hung_up", ended_by="customer", now=T0)
    close(world, payment.id, PaymentStatus.DECLINED)
    assert world.session_now(session.id).status is SessionStatus.DECLINED


def test_a_session_is_charged_by_the_call_that_claimed_it_through_a_live_connector(world: World) -> None:
    session, call = world.claimed()
    with pytest.raises(SessionNotPayable):
        begin(world, session.id, world.call().id)
    world.store.db.execute("UPDATE connector SET active = 0")
    with pytest.raises(SessionNotPayable):
        begin(world, session.id, call.id)


def test_an_approved_order_is_never_charged_again_whatever_the_session_says(world: World) -> None:
    session, call = world.claimed()
    payment = begin(world, session.id, call.id)
    execute(world, payment.id)
    close(world, payment.id, PaymentStatus.APPROVED)
    world.store.db.execute("UPDATE payment_session SET status = 'claimed' WHERE id = ?", [session.id])
    with pytest.raises(OrderAlreadyPaid):
        begin(world, session.id, call.id)


@pytest.mark.parametrize("last4", ["41111111", "123", "１２３４", "12a4"])
def test_last4_is_four_digits_and_no_more(world: World, last4: str) -> None:
    session, call = world.claimed()
    with pytest.raises(Invalid):
        write.begin_payment(world.store, session=session.id, call=call.id, brand="visa", last4=last4)


def test_the_shop_password_is_sealed_to_its_row(world: World) -> None:
    from sipivr.store.errors import StoreCorrupt

    db = world.store.db
    assert read.shop_password(db, world.keys, world.shop) == "shoppass-x9"
    assert "shoppass-x9" not in "\n".join(db.iterdump())
    db.execute(
        "UPDATE shop SET password_sealed = (SELECT password_sealed FROM shop WHERE id = ?) WHERE id = ?",
        [world.shop, world.other_shop],
    )
    with pytest.raises(StoreCorrupt):
        read.shop_password(db, world.keys, world.other_shop)
