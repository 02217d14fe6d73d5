from __future__ import annotations

import datetime as dt
import json

import pytest

from sipivr.store import read, write
from sipivr.store.crypto import caller_hash
from sipivr.store.errors import Conflict, Invalid, NotFound
from sipivr.store.records import CallStatus, LadderEntry, LegQuality, SessionStatus
from tests.store.world import ADMIN, T0, World


def test_a_call_from_its_invite_to_its_end(world: World) -> None:
    session, call = world.claimed()
    store = world.store
    leg = write.leg_started(store, call=call.id, party="customer", sip_call_id="abc@x", now=T0)
    write.call_answered(store, call=call.id)
    assert write.capture_started(store, call=call.id).status is CallStatus.CAPTURING
    assert write.capture_ended(store, call=call.id, outcome="completed").status is CallStatus.ACTIVE
    write.leg_changed(
        store, leg=leg.id, codec="PCMU", answered_at="2026-11-23T06:00:01.000Z", rtp={"loss": 0.5}
    )
    write.leg_changed(store, leg=leg.id, sip_status=200, ended_by="customer", rtp={"jitter_ms": 2.0})
    write.leg_changed(store, leg=leg.id, quality=LegQuality(mos=4.4, remote_lost=-1, remote_jitter_ms=2.5))
    write.leg_changed(
        store, leg=leg.id, quality=LegQuality(remote_mos=4.2, round_trip_ms=31.5, remote_lost=3)
    )
    write.add_timeline(store, call=call.id, type="prompt.played", detail={"prompt": "greeting"})
    write.call_ended(store, call=call.id, outcome="abandoned", ended_by="customer", sip_status=200)
    found = read.call(store.db, call.id, world.merchant)
    assert found and found.status is CallStatus.ENDED and found.session == session.id
    assert found.legs[0].rtp == {"loss": 0.5, "jitter_ms": 2.0} and found.legs[0].codec == "PCMU"
    quality = found.legs[0]
    assert (quality.mos, quality.remote_mos, quality.round_trip_ms) == (4.4, 4.2, 31.5)
    assert (quality.remote_lost, quality.remote_jitter_ms) == (3, 2.5)
    assert [t.type for t in found.timeline] == [
        "call.started",
        "call.answered",
        "capture.opening",
        "capture.closed",
        "prompt.played",
        "call.ended",
    ]
    assert read.call(store.db, call.id, world.other) is None
    with pytest.raises(Conflict):
        write.capture_started(store, call=call.id)


def test_a_call_that_ends_in_a_capture_closes_it(world: World) -> None:
    call = world.call()
    write.capture_started(world.store, call=call.id)
    ended = write.call_ended(world.store, call=call.id, outcome="hung_up", ended_by="customer")
    assert ended.capture_ended_at
    types = [e.type for e in read.events_after(world.store.db, 0)]
    assert types[-2:] == ["capture.closed", "call.ended"]


def test_of_a_caller_only_the_masked_form_is_readable(world: World) -> None:
    call = world.call()
    assert call.caller == "+81••••••1234"
    assert read.caller_number(world.store.db, world.keys, call.id) == "+819012341234"
    dump = "\n".join(world.store.db.iterdump())
    assert "+819012341234" not in dump and "9012341234" not in dump


def test_a_withheld_number_is_not_stored_in_any_form(world: World) -> None:
    call = world.call(caller="+819012341234", caller_withheld="id")
    assert call.caller is None and call.caller_withheld == "id"
    assert read.caller_number(world.store.db, world.keys, call.id) is None
    assert caller_hash(world.keys, "+819012341234") not in "\n".join(world.store.db.iterdump())


def test_a_refused_call_leaves_a_record_with_its_reason(world: World) -> None:
    call = write.call_refused(
        world.store, refusal="unknown_number", sip_status=404, called="x" * 5000, node="n1"
    )
    assert (call.status, call.refusal, call.sip_status) == (CallStatus.REFUSED, "unknown_number", 404)
    assert call.ended_at and len(call.called) == 200
    page = read.calls(world.store.db, None, refusal="unknown_number")
    assert [c.id for c in page.items] == [call.id]


def test_what_a_killed_switch_left_running_is_ended(world: World) -> None:
    session, call = world.claimed("A1")
    write.leg_started(world.store, call=call.id, party="customer", sip_call_id="x")
    charging, call2 = world.claimed("A2")
    payment = write.begin_payment(world.store, session=charging.id, call=call2.id, brand=None, last4=None)
    elsewhere = world.call(node="n2")
    assert set(write.interrupt_calls(world.store, node="n1", now=T0)) == {call.id, call2.id}
    assert world.session_now(session.id).status is SessionStatus.OPEN
    assert world.session_now(charging.id).status is SessionStatus.AUTHORIZING
    assert [p.id for p in read.open_intents(world.store.db)] == [payment.id]
    ended = read.call(world.store.db, call.id)
    assert ended and ended.outcome == "interrupted" and ended.legs[0].ended_at
    running = read.call(world.store.db, elsewhere.id)
    assert running and running.ended_at is None


def test_filters_of_the_list(world: World) -> None:
    calls = [world.call(now=T0 + dt.timedelta(minutes=i)) for i in range(4)]
    write.call_ended(world.store, call=calls[0].id, outcome="paid", ended_by="switch")
    db = world.store.db

    def ids(**filters: object) -> list[str]:
        return [c.id for c in read.calls(db, world.merchant, **filters).items]  # type: ignore[arg-type]

    assert ids(status=CallStatus.ENDED) == [calls[0].id] == ids(outcome="paid")
    assert ids(started_from="2026-11-23T06:01:00.000Z", started_before="2026-11-23T06:03:00.000Z") == [
        calls[2].id,
        calls[1].id,
    ]
    assert ids(number=world.number, starting_after=calls[1].id) == [calls[0].id]
    assert ids(number="num_none") == []
    for limit in (0, 101, -1):
        with pytest.raises(Invalid):
            ids(limit=limit)


def test_the_ladder_keeps_its_order_and_its_bounds(world: World) -> None:
    call = world.call()
    entries = [
        LadderEntry(call.id, f"2026-11-23T06:00:0{i}.000Z", "in", "192.0.2.1:5060", "INVITE", "x" * 20000)
        for i in range(3)
    ]
    assert write.add_ladder(world.store, entries) == 3
    found = read.ladder(world.store.db, call.id)
    assert [e.at for e in found] == [e.at for e in entries] and len(found[0].text) == 8000


def test_legs_and_calls_that_are_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        write.leg_changed(world.store, leg="leg_none")
    for act in (write.call_answered, write.capture_started):
        with pytest.raises(NotFound):
            act(world.store, call="call_none")
    with pytest.raises(NotFound):
        write.call_ended(world.store, call="call_none", outcome="x", ended_by="y")


def test_event_snapshots_are_whole_and_versions_rise(world: World) -> None:
    session, _ = world.claimed()
    mine = [e for e in read.events_after(world.store.db, 0) if e.object.get("id") == session.id]
    assert [e.object["version"] for e in mine] == [2, 3]
    assert all("metadata" in e.object and "identification_number" not in e.object for e in mine)
    assert json.dumps([e.object for e in mine])
    only = read.events_after(world.store.db, mine[0].sequence, merchant=world.other)
    assert only == ()


def test_allowed_and_blocked_callers(world: World) -> None:
    hashed = caller_hash(world.keys, "+819012341234")
    db = world.store.db
    assert not read.caller_allowed(db, world.merchant, hashed)
    allowed = write.allow_caller(world.store, ADMIN, merchant=world.merchant, e164="+819012341234")
    assert allowed == write.allow_caller(world.store, ADMIN, merchant=world.merchant, e164="+819012341234")
    assert read.caller_allowed(db, world.merchant, hashed) and not read.caller_allowed(
        db, world.other, hashed
    )
    write.block_caller(world.store, ADMIN, merchant=world.merchant, e164="+819012341234")
    assert read.caller_blocked(db, world.merchant, hashed)
    write.disallow_caller(world.store, ADMIN, merchant=world.merchant, id=allowed.id)
    assert not read.caller_allowed(db, world.merchant, hashed)
    with pytest.raises(NotFound):
        write.disallow_caller(world.store, ADMIN, merchant=world.merchant, id=allowed.id)
    with pytest.raises(Invalid):
        write.allow_caller(world.store, ADMIN, merchant=world.merchant, e164="09012341234")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "trunk.example"])
def test_networks_of_a_trunk(world: World, network: str) -> None:
    with pytest.raises(Invalid):
        write.put_trunk(world.store, ADMIN, name="x", networks=[network])
    assert read.trunks(world.store.db) == ()


def test_retention_removes_what_is_over_its_time_and_reports_it(world: World) -> None:
    session, call = world.claimed()
    payment = write.begin_payment(
        world.store, session=session.id, call=call.id, brand="visa", last4="1111", now=T0
    )
    write.payment_entered(world.store, payment=payment.id, access_id="a", access_pass="b", now=T0)
    write.payment_executing(world.store, payment=payment.id, now=T0)
    from sipivr.store.records import PaymentStatus

    write.payment_closed(
        world.store,
        payment=payment.id,
        status=PaymentStatus.APPROVED,
        approval_number="1",
        transaction_id="t",
        now=T0,
    )
    entry = LadderEntry(call.id, "2026-11-23T06:00:00.000Z", "in", "p", "INVITE", "x")
    write.add_ladder(world.store, [entry])
    events = len(read.events_after(world.store.db, 0))
    newest = read.newest_sequence(world.store.db)
    assert write.apply_retention(world.store, now=T0).identification_numbers == 0
    day = write.apply_retention(world.store, now=T0 + dt.timedelta(hours=24))
    assert (day.identification_numbers, day.ladder_entries, day.events) == (1, 0, 0)
    week = write.apply_retention(world.store, now=T0 + dt.timedelta(days=7))
    assert (week.ladder_entries, week.authorizations) == (1, 0)
    month = write.apply_retention(world.store, now=T0 + dt.timedelta(days=30, hours=24 * 400))
    assert month.authorizations == 1 and month.events == events and not month.more
    kept = read.payment(world.store.db, payment.id)
    assert kept and kept.approval_number is None and kept.transaction_id == "t" and kept.amount == 12300
    assert read.newest_sequence(world.store.db) == newest
    world.session("A9")
    assert read.events_after(world.store.db, 0)[0].sequence == newest + 1
    from sipivr.store import audit

    audit.verify(world.store.db, world.keys.audit_key)
