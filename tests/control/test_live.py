"""Commands to running calls: whose call it is."""

from __future__ import annotations

import pytest

from sipivr.control.messages import (
    AnyCommand,
    ClaimCall,
    DialCustomer,
    ErrorCode,
    ResetField,
    SetNumberRules,
    StartCapture,
    TakeBack,
)
from sipivr.store import read, write
from sipivr.store.records import SYSTEM, Mode
from tests.control.conftest import Switch
from tests.control.test_commands import created


async def running(switch: Switch) -> str:
    """A call that no session is attached to."""
    call = await switch.writer.run(
        write.call_started,
        merchant=switch.world.merchant,
        number=switch.world.number,
        called="x",
        caller=None,
        mode=Mode.TEST,
        node="n1",
    )
    return call.id


async def extension(switch: Switch, principal: str, extension: str) -> None:
    found = read.principal(switch.world.store.db, principal)
    assert found is not None
    await switch.writer.run(
        write.put_principal,
        SYSTEM,
        id=principal,
        role=found.role,
        merchant=found.merchant,
        name=found.name,
        permissions=found.permissions,
        extension=extension,
    )


async def test_an_operator_commands_the_call_at_the_own_extension(switch: Switch) -> None:
    call = await running(switch)
    session = await created(switch, switch.operator)
    await extension(switch, switch.operator, "200")
    switch.calls.target = "sip:200@192.0.2.9:5060"
    start = StartCapture(principal=switch.operator, call=call, session=session.id)
    assert (await switch.ask(start)).error is None
    assert switch.calls.commanded == [("capture", call, session.id)]
    for command in (TakeBack, ResetField):
        assert (await switch.ask(command(principal=switch.operator, call=call))).error is None
        denied = await switch.ask(command(principal=switch.operator_2, call=call))
        assert denied.error is ErrorCode.FORBIDDEN
    other = StartCapture(principal=switch.operator_2, call=call, session=session.id)
    assert (await switch.ask(other)).error is ErrorCode.FORBIDDEN
    assert len(switch.calls.commanded) == 3


async def test_a_claimed_call_is_the_claimers_whatever_the_extension(switch: Switch) -> None:
    call = await running(switch)
    await extension(switch, switch.operator, "200")
    switch.calls.target = "sip:200@192.0.2.9"
    assert (await switch.ask(ClaimCall(principal=switch.operator_2, call=call))).error is None
    assert (await switch.ask(ClaimCall(principal=switch.operator, call=call))).error is ErrorCode.CONFLICT
    assert (await switch.ask(TakeBack(principal=switch.operator, call=call))).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(TakeBack(principal=switch.operator_2, call=call))).error is None


async def test_an_operator_captures_only_sessions_of_the_own(switch: Switch) -> None:
    call = await running(switch)
    session = await created(switch, switch.key)
    switch.calls.claimed_by = switch.operator
    start = StartCapture(principal=switch.operator, call=call, session=session.id)
    assert (await switch.ask(start)).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(by(start, principal=switch.key))).error is None


async def test_why_nothing_was_begun_is_said(switch: Switch) -> None:
    call = await running(switch)
    session = await created(switch, switch.key)
    switch.calls.refusal = "a capture is running on this call"
    switch.calls.running = False
    reply = await switch.ask(StartCapture(principal=switch.key, call=call, session=session.id))
    assert (reply.error, reply.detail) == (ErrorCode.CONFLICT, switch.calls.refusal)
    for command in (TakeBack, ResetField):
        assert (await switch.ask(command(principal=switch.key, call=call))).error is ErrorCode.CONFLICT
    absent = await switch.ask(TakeBack(principal=switch.key, call="call_0"))
    assert absent.error is ErrorCode.NOT_FOUND


async def test_a_customer_is_called_for_the_merchant_of_who_asks(switch: Switch) -> None:
    own = await created(switch, switch.operator)
    dial = DialCustomer(principal=switch.operator, number="num_1", to="+819012345678", session=own.id)
    assert "+8190" not in repr(dial)
    reply = await switch.ask(dial)
    assert reply.result == {"call": "call_dialled"}
    assert switch.calls.commanded == [("dial", "num_1", "+819012345678", own.id, switch.world.merchant)]
    # The call is on the operator's desk; another's commands are not for it.
    assert switch.calls.claimed_by == switch.operator


@pytest.mark.parametrize(
    ("who", "to", "ring_s", "error"),
    [
        ("operator_2", "+819012345678", 45, ErrorCode.FORBIDDEN),  # another operator's session
        ("other", "+819012345678", 45, ErrorCode.NOT_FOUND),  # another merchant's session
        ("carrier", "+819012345678", 45, ErrorCode.FORBIDDEN),  # of no merchant
        ("operator", "09012345678", 45, ErrorCode.INVALID),
        ("operator", "sip:+819012345678@proxy", 45, ErrorCode.INVALID),
        ("operator", "+819012345678", 3600, ErrorCode.INVALID),
    ],
)
async def test_who_may_not_call_a_customer_like_that(
    switch: Switch, who: str, to: str, ring_s: int, error: ErrorCode
) -> None:
    session = await created(switch, switch.operator)
    dial = DialCustomer(principal=f"prn_{who}", number="num_1", to=to, session=session.id, ring_s=ring_s)
    assert (await switch.ask(dial)).error is error
    assert switch.calls.commanded == []


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ({"destinations": [{"target": "200", "trunk": "trk_out"}]}, "destinations[0]"),
        ({"destinations": [{"target": "sip:200@192.0.2.9", "trunk": "trk_none"}]}, "destinations[0].trunk"),
        ({"destinations": [{"target": "sip:200@192.0.2.9", "trunk": "trk_in"}]}, "destinations[0].trunk"),
        ({"destinations": [{"target": "+8190111", "trunk": "trk_out"}]}, "destinations[0].target"),
        ({"destinations": [{"target": "+8190111", "trunk": "trk_some"}]}, "destinations[0].target"),
        (
            {"destinations": [{"target": "sip:+8190111@192.0.2.9:5060", "trunk": "trk_some"}]},
            "no outbound_prefixes",
        ),
        ({"destinations": [{"target": "sip:+8190111@192.0.2.9:5060", "trunk": "trk_all"}]}, "merchant's own"),
        ({"destinations": [{"target": "sip:200@192.0.2.9:5060", "trunk": "trk_else"}]}, "no such trunk"),
        ({"destinations": [{"target": "sip:200@198.51.100.1", "trunk": "trk_out"}]}, "trunk's networks"),
        ({"destination": []}, "did you mean destinations?"),
    ],
)
async def test_a_destination_needs_a_trunk_that_was_opened_for_it(
    switch: Switch, rules: dict[str, object], place: str
) -> None:
    proxy, own = {"proxy": "192.0.2.9:5060"}, switch.world.merchant
    for name, merchant, options in (
        ("trk_in", own, {}),
        ("trk_out", own, proxy),
        ("trk_some", own, proxy | {"outbound_prefixes": ["+813"]}),
        ("trk_all", None, proxy),
        ("trk_else", switch.world.other, proxy),
    ):
        await switch.writer.run(
            write.put_trunk,
            SYSTEM,
            id=name,
            name=name,
            networks=("192.0.2.9",),
            merchant=merchant,
            options=options,
        )
    number = switch.world.number
    dialled = {"destinations": [{"target": "+81312345000", "trunk": "trk_some"}]}
    assert (
        await switch.ask(SetNumberRules(principal="prn_boss", number=number, rules=dialled))
    ).error is None
    reply = await switch.ask(SetNumberRules(principal="prn_boss", number=number, rules=rules))
    assert reply.error is ErrorCode.INVALID
    assert reply.detail is not None and place in reply.detail
    good = {"destinations": [{"target": "sip:200@192.0.2.9", "trunk": "trk_out"}], "operator_heard": False}
    assert (await switch.ask(SetNumberRules(principal="prn_boss", number=number, rules=good))).error is None
    found = next(n for n in read.numbers(switch.world.store.db, switch.world.merchant) if n.id == number)
    assert found.rules.destinations[0].target == "sip:200@192.0.2.9"
    assert found.rules.operator_heard is False
    foreign = SetNumberRules(principal=switch.other, number=number, rules=good)
    assert (await switch.ask(foreign)).error is ErrorCode.NOT_FOUND


def by(command: StartCapture, *, principal: str) -> AnyCommand:
    """The same command of somebody else."""
    return StartCapture(principal=principal, call=command.call, session=command.session)
