"""Sessions that name the telephone their transfer will come from."""

from __future__ import annotations

import datetime as dt

import pytest

from sipivr.store import write
from sipivr.store.errors import Invalid
from sipivr.store.records import SYSTEM, PaymentSession, SessionStatus
from tests.store.world import T0, World

DESK = "+81312340077"


def claim(world: World, now: dt.datetime = T0, **call: object) -> PaymentSession | None:
    made = world.call(**({"caller": DESK} | call))
    return write.claim_by_caller(world.store, merchant=world.merchant, call=made.id, now=now)


def test_the_one_session_that_names_the_caller_is_taken_once(world: World) -> None:
    session = world.session(caller=DESK)
    assert session.caller is not None and DESK not in repr(session)
    assert claim(world, caller="+81312340078") is None
    taken = claim(world)
    assert taken is not None and (taken.id, taken.status) == (session.id, SessionStatus.CLAIMED)
    assert claim(world) is None


def test_two_sessions_that_name_the_caller_match_nothing(world: World) -> None:
    world.session(caller=DESK)
    second = world.session("A2", caller=DESK)
    assert claim(world) is None
    write.cancel_session(world.store, SYSTEM, session=second.id, now=T0)
    assert claim(world) is not None


def test_a_session_is_matched_no_longer_than_its_number_is_valid(world: World) -> None:
    world.session(caller=DESK)
    assert claim(world, T0 + dt.timedelta(hours=1)) is None


def test_a_withheld_caller_and_another_merchants_session_match_nothing(world: World) -> None:
    world.session(caller=DESK)
    assert claim(world, caller_withheld="private") is None
    foreign = world.call(merchant=world.other, caller=DESK)
    assert write.claim_by_caller(world.store, merchant=world.other, call=foreign.id, now=T0) is None


def test_after_a_call_without_a_charge_it_is_matched_again(world: World) -> None:
    session = world.session(caller=DESK)
    first = claim(world)
    assert first is not None and first.call is not None
    write.call_ended(world.store, call=first.call, outcome="customer_hung_up", ended_by="customer", now=T0)
    again = claim(world)
    assert again is not None and again.id == session.id


def test_what_is_no_number_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="caller"):
        world.session(caller="0312340077")
