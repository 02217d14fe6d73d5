from __future__ import annotations

import sqlite3

import pytest

from sipivr.control.authorise import GRANTABLE_ROLES, NEEDED, PERMISSIONS
from sipivr.control.messages import (
    AllowCaller,
    AllowClamp,
    AnyCommand,
    CancelPaymentSession,
    ChangePayment,
    CreatePaymentSession,
    DeactivatePrincipal,
    DecideConnector,
    DisallowCaller,
    ErrorCode,
    GiveBackPayment,
    HangUpCall,
    IssueIdentificationNumber,
    Ping,
    ProposeConnector,
    RegisterPrincipal,
    Reply,
    SetMasks,
)
from sipivr.store import read, write
from sipivr.store.records import (
    SYSTEM,
    Mask,
    Merchant,
    Mode,
    PaymentSession,
    PaymentStatus,
    Role,
    SessionStatus,
)
from tests.control.conftest import Switch


def create(switch: Switch, principal: str, order_id: str = "A1", **more: object) -> CreatePaymentSession:
    return CreatePaymentSession(
        principal=principal, shop=switch.world.shop, order_id=order_id, amount=500, source="192.0.2.7", **more
    )  # type: ignore[arg-type]


async def created(switch: Switch, principal: str, order_id: str = "A1") -> PaymentSession:
    reply = await switch.ask(create(switch, principal, order_id))
    assert reply.result, reply
    return switch.world.session_now(str(reply.result["session"]))


async def claimed(switch: Switch, session: PaymentSession) -> str:
    call = await switch.writer.run(
        write.call_started,
        merchant=switch.world.merchant,
        number=switch.world.number,
        called="x",
        caller=None,
        mode=Mode.TEST,
        node="n1",
    )
    await switch.writer.run(
        write.claim_identification_number,
        merchant=switch.world.merchant,
        digits=session.identification_number or "",
        call=call.id,
    )
    return call.id


def test_every_command_has_its_permission_and_the_words_are_known() -> None:
    import typing

    assert set(NEEDED) == set(typing.get_args(AnyCommand))
    assert {needed for needed in NEEDED.values() if needed} <= PERMISSIONS.keys()
    assert set(GRANTABLE_ROLES) == set(Role)
    assert all(role not in grantable for role, grantable in GRANTABLE_ROLES.items())


async def test_create_reissue_cancel(switch: Switch) -> None:
    session = await created(switch, switch.key)
    assert session.status is SessionStatus.OPEN and session.created_by == switch.key
    reply = await switch.ask(IssueIdentificationNumber(principal=switch.key, session=session.id))
    assert reply.error is None
    assert switch.world.session_now(session.id).identification_number != session.identification_number
    assert (await switch.ask(CancelPaymentSession(principal=switch.key, session=session.id))).error is None
    assert switch.world.session_now(session.id).status is SessionStatus.CANCELED
    assert switch.calls.canceled == []
    source = switch.world.store.db.execute(
        "SELECT DISTINCT source FROM audit WHERE action = 'payment_session.create' AND actor = ?",
        [switch.key],
    ).fetchall()
    assert source == [("192.0.2.7",)]


async def test_refusals_of_the_store_become_error_codes(switch: Switch) -> None:
    session = await created(switch, switch.key)
    again = await switch.ask(create(switch, switch.key))
    assert (again.error, again.related) == (ErrorCode.ORDER_IN_PROGRESS, session.id)
    assert (await switch.ask(create(switch, switch.key, "A-1"))).error is ErrorCode.INVALID
    wrong_shop = CreatePaymentSession(principal=switch.key, shop="shop_none", order_id="B", amount=1)
    assert (await switch.ask(wrong_shop)).error is ErrorCode.NOT_FOUND
    switch.world.store.db.execute("UPDATE merchant SET identification_digits = 4")
    switch.world.store.db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)"
        " INSERT INTO identification_number SELECT ?, printf('%04d', i), ?, 'retired', '2099', '2099' FROM n",
        [switch.world.merchant, session.id],
    )
    switch.world.store.db.execute("DROP INDEX identification_number_session")
    switch.world.store.db.execute("UPDATE identification_number SET status = 'open' WHERE length(digits) = 4")
    full = await switch.ask(create(switch, switch.key, "C"))
    assert full.error is ErrorCode.IDENTIFICATION_NUMBERS_EXHAUSTED


async def test_cancelling_a_claimed_session_tells_the_call_after_the_store(switch: Switch) -> None:
    session = await created(switch, switch.key)
    call = await claimed(switch, session)
    assert (await switch.ask(CancelPaymentSession(principal=switch.key, session=session.id))).error is None
    assert switch.calls.canceled == [(session.id, call)]
    second = await created(switch, switch.key, "A2")
    call = await claimed(switch, second)
    await switch.writer.run(write.begin_payment, session=second.id, call=call, brand=None, last4=None)
    refused = await switch.ask(CancelPaymentSession(principal=switch.key, session=second.id))
    assert refused.error is ErrorCode.CONFLICT
    assert len(switch.calls.canceled) == 1


async def test_another_merchants_objects_are_not_there(switch: Switch) -> None:
    session = await created(switch, switch.key)
    call = await claimed(switch, session)
    before = switch.world.session_now(session.id)
    for command in (
        CancelPaymentSession(principal=switch.other, session=session.id),
        IssueIdentificationNumber(principal=switch.other, session=session.id),
        HangUpCall(principal=switch.other, call=call),
        DeactivatePrincipal(principal=switch.other, target=switch.key),
        create(switch, switch.other, "Z"),
    ):
        theirs = await switch.ask(command)
        absent = {"session": "ps_none", "call": "call_none", "target": "prn_none"}
        import msgspec

        fields = {f: v for f, v in absent.items() if hasattr(command, f)}
        none = await switch.ask(msgspec.structs.replace(command, **fields)) if fields else theirs
        assert theirs.error is ErrorCode.NOT_FOUND
        assert (theirs.detail, theirs.related) == (none.detail, none.related)  # else it would tell
    assert switch.world.session_now(session.id) == before and switch.calls.hung_up == []


@pytest.mark.parametrize("state", ["unknown", "inactive", "without"])
async def test_who_may_not_gets_forbidden_whatever_the_object(switch: Switch, state: str) -> None:
    principal = {"unknown": "prn_none", "inactive": switch.key, "without": switch.key}[state]
    if state == "inactive":
        await switch.writer.run(write.deactivate_principal, SYSTEM, target=switch.key)
    if state == "without":
        switch.world.store.db.execute("""UPDATE principal SET permissions = '["payments:read"]' WHERE id =
        'prn_key'""")
    for command in (
        create(switch, principal),
        CancelPaymentSession(principal=principal, session="ps_none"),
        IssueIdentificationNumber(principal=principal, session="ps_none"),
        HangUpCall(principal=principal, call="call_none"),
        RegisterPrincipal(principal=principal, name="x", role="api_key", permissions=()),
        DeactivatePrincipal(principal=principal, target="prn_boss"),
        SetMasks(principal=principal, mask=Mask.TONE),
        AllowCaller(principal=principal, number="+81312340009"),
        DisallowCaller(principal=principal, caller="cn_none"),
        AllowClamp(principal=principal, merchant=switch.world.merchant, allowed=True),
        ChangePayment(principal=principal, payment="pay_none", kind="settle"),
        GiveBackPayment(principal=principal, payment="pay_none", kind="refund"),
    ):
        assert (await switch.ask(command)).error is ErrorCode.FORBIDDEN


async def test_where_a_card_goes_is_the_platform_s_alone_and_takes_two(switch: Switch) -> None:
    for principal in ("prn_boss", switch.key, switch.operator, switch.other):
        for command in (
            ProposeConnector(principal=principal, kind="gmo", url="https://evil.example", mode=Mode.TEST),
            DecideConnector(principal=principal, proposal="cpr_x", confirm=True),
        ):
            assert (await switch.ask(command)).error is ErrorCode.FORBIDDEN
    second = write.put_principal(
        switch.world.store,
        SYSTEM,
        role=Role.PLATFORM,
        merchant=None,
        name="second",
        permissions=("platform:write",),
    )
    asked = ProposeConnector(
        principal="prn_carrier", kind="gmo", url="https://p01.example.jp", mode=Mode.TEST, pins=("a" * 64,)
    )
    proposed = (await switch.ask(asked)).result
    assert proposed is not None
    proposal = str(proposed["proposal"])
    alone = await switch.ask(DecideConnector(principal="prn_carrier", proposal=proposal, confirm=True))
    assert alone.error is ErrorCode.CONFLICT
    assert read.connector(switch.world.store.db, str(proposed["connector"])) is None
    both = await switch.ask(DecideConnector(principal=second.id, proposal=proposal, confirm=True))
    assert both.result is not None
    connector = read.connector(switch.world.store.db, str(proposed["connector"]))
    assert connector is not None
    assert (connector.url, connector.pins) == ("https://p01.example.jp", ("a" * 64,))


async def test_payments_are_changed_by_administrators_and_keys_of_their_merchant(switch: Switch) -> None:
    def ask(principal: str, kind: str = "void") -> GiveBackPayment:
        return GiveBackPayment(principal=principal, payment=payment, kind=kind)  # type: ignore[arg-type]

    session = await created(switch, switch.key)
    call = await claimed(switch, session)
    payment = (
        await switch.writer.run(
            write.begin_payment, session=session.id, call=call, brand="visa", last4="1111"
        )
    ).id
    assert (await switch.ask(ask(switch.key))).error is ErrorCode.CONFLICT  # not charged yet
    await switch.writer.run(write.payment_entered, payment=payment, access_id="a" * 32, access_pass="b" * 32)
    await switch.writer.run(write.payment_executing, payment=payment)
    await switch.writer.run(write.payment_closed, payment=payment, status=PaymentStatus.APPROVED)
    assert (await switch.ask(ask(switch.operator))).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(ask(switch.other))).error is ErrorCode.NOT_FOUND
    assert (await switch.ask(ask("prn_carrier"))).error is ErrorCode.FORBIDDEN
    done = await switch.ask(ask(switch.key))
    assert done.result is not None
    assert switch.calls.changed == [done.result["change"]]
    again = await switch.ask(ask("prn_boss", "refund"))
    assert (again.error, again.related) == (ErrorCode.CONFLICT, done.result["change"])


async def test_operators_command_their_own_sessions_and_calls(switch: Switch) -> None:
    session = await created(switch, switch.operator)
    call = await claimed(switch, session)
    foreign = (
        CancelPaymentSession(principal=switch.operator_2, session=session.id),
        IssueIdentificationNumber(principal=switch.operator_2, session=session.id),
        HangUpCall(principal=switch.operator_2, call=call),
    )
    for command in foreign:
        assert (await switch.ask(command)).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(HangUpCall(principal=switch.operator, call=call))).error is None
    assert (await switch.ask(HangUpCall(principal="prn_boss", call=call))).error is None
    switch.calls.running = False
    assert (await switch.ask(HangUpCall(principal=switch.key, call=call))).error is ErrorCode.CONFLICT


async def test_principals_are_made_and_switched_off(switch: Switch) -> None:
    def register(by: str, role: str = "api_key", *permissions: str) -> RegisterPrincipal:
        return RegisterPrincipal(principal=by, name="desk", role=role, permissions=permissions)

    reply: Reply = await switch.ask(register("prn_boss", "api_key", "calls:read", "payment_sessions:write"))
    assert reply.result
    made = read.principal(switch.world.store.db, str(reply.result["principal"]))
    assert made and made.merchant == switch.world.merchant and made.role is Role.API_KEY
    assert made.permissions == ("calls:read", "payment_sessions:write")
    await created(switch, made.id)
    assert (await switch.ask(register("prn_boss", "platform"))).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(register("prn_boss", "administrator"))).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(register("prn_boss", "king"))).error is ErrorCode.INVALID
    assert (await switch.ask(register("prn_boss", "api_key", "everything"))).error is ErrorCode.INVALID
    assert (await switch.ask(register("prn_boss", "api_key", "payments:read"))).error is ErrorCode.FORBIDDEN
    assert (await switch.ask(register(switch.key))).error is ErrorCode.FORBIDDEN
    key_on_boss = await switch.ask(DeactivatePrincipal(principal=switch.key, target="prn_boss"))
    assert key_on_boss.error is ErrorCode.FORBIDDEN
    assert (await switch.ask(DeactivatePrincipal(principal="prn_boss", target=made.id))).error is None
    assert (await switch.ask(create(switch, made.id, "A2"))).error is ErrorCode.FORBIDDEN


async def test_a_locked_store_is_unavailable(switch: Switch) -> None:
    switch.writer._busy_timeout_ms = 10
    await switch.writer.run(lambda store: store.db.execute("PRAGMA busy_timeout = 10"))
    locker = sqlite3.connect(switch.world.path)
    locker.execute("BEGIN IMMEDIATE")
    assert (await switch.ask(create(switch, switch.key))).error is ErrorCode.UNAVAILABLE
    locker.rollback()
    locker.close()
    await created(switch, switch.key)


async def test_ping_needs_no_principal(switch: Switch) -> None:
    reply = await switch.ask(Ping(principal=""))
    assert reply.result == {"node": "n1", "calls": 3, "draining": False}


async def test_masks_are_the_merchant_s_and_a_clamp_the_platform_s(switch: Switch) -> None:
    def merchant(id: str) -> Merchant:
        found = read.merchant(read.open_readonly(switch.world.path), id)
        assert found is not None
        return found

    own, other = switch.world.merchant, switch.world.other
    assert (await switch.ask(SetMasks(principal="prn_boss", mask=Mask.TONE))).error is None
    assert (merchant(own).mask, merchant(other).mask) == (Mask.TONE, Mask.COMFORT_NOISE)
    for principal in ("prn_boss", "prn_key", "prn_other"):
        reply = await switch.ask(AllowClamp(principal=principal, merchant=own, allowed=True))
        assert reply.error is ErrorCode.FORBIDDEN
    reply = await switch.ask(SetMasks(principal="prn_boss", mask=Mask.CLAMP))
    assert reply.error is ErrorCode.INVALID
    assert (await switch.ask(AllowClamp(principal="prn_carrier", merchant=own, allowed=True))).error is None
    assert (await switch.ask(SetMasks(principal="prn_boss", mask=Mask.CLAMP))).error is None
    assert merchant(own).mask is Mask.CLAMP
    assert (await switch.ask(SetMasks(principal="prn_carrier", mask=Mask.TONE))).error is ErrorCode.FORBIDDEN
    missing = await switch.ask(AllowClamp(principal="prn_carrier", merchant="mer_none", allowed=True))
    assert missing.error is ErrorCode.NOT_FOUND


async def test_callers_are_the_merchant_s(switch: Switch) -> None:
    reply = await switch.ask(AllowCaller(principal="prn_boss", number="+81312340009"))
    assert reply.result
    caller = str(reply.result["caller"])
    assert "81312340009" not in repr(AllowCaller(principal="prn_boss", number="+81312340009"))
    theirs = await switch.ask(DisallowCaller(principal=switch.other, caller=caller))
    assert theirs.error is ErrorCode.NOT_FOUND
    assert (await switch.ask(AllowCaller(principal="prn_boss", number="0312"))).error is ErrorCode.INVALID
    assert (await switch.ask(DisallowCaller(principal="prn_boss", caller=caller))).error is None
    assert (
        await switch.ask(DisallowCaller(principal="prn_boss", caller=caller))
    ).error is ErrorCode.NOT_FOUND
