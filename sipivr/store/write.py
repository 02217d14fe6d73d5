"""Every change of `switch.db`. SQL stays in the modules named below; callers import from here.

Each function takes the writable store (the writer thread passes it: `await writer.run(write.call_ended, call=…)`),
runs in one `BEGIN IMMEDIATE` transaction, writes its events into the outbox and, where a person or the switch
decided something, its audit row in the same transaction, and returns a frozen record. A refusal is a
`sipivr.store.errors.Refused`; nothing is changed then. `now` is for tests; None reads the clock.

Signatures::

    create_payment_session(store, actor, *, merchant, shop, order_id, amount, currency="JPY", language=None,
                           number=None, metadata=None, now=None) -> PaymentSession
    issue_identification_number(store, actor, *, session, merchant=None, now=None) -> PaymentSession
    cancel_session(store, actor, *, session, merchant=None, now=None) -> PaymentSession
    claim_identification_number(store, *, merchant, digits, call, now=None) -> PaymentSession | ClaimRefused
    release_claim(store, *, session, call, now=None) -> PaymentSession
    expire_sessions(store, *, now=None) -> tuple[str, ...]

    call_started(store, *, merchant, number, called, caller, caller_withheld=None, mode, node, id=None,
                 now=None) -> Call
    call_refused(store, *, refusal, sip_status, called, node, merchant=None, number=None, caller=None,
                 caller_withheld=None, mode=None, id=None, now=None) -> Call
    call_answered(store, *, call, now=None) -> Call
    capture_started(store, *, call, now=None) -> Call
    capture_ended(store, *, call, outcome, now=None) -> Call
    call_ended(store, *, call, outcome, ended_by, sip_status=None, now=None) -> Call
    interrupt_calls(store, *, node, now=None) -> tuple[str, ...]
    leg_started(store, *, call, party, sip_call_id, trunk=None, id=None, now=None) -> Leg
    leg_changed(store, *, leg, codec=None, dtmf=None, ringing_at=None, answered_at=None, ended_at=None,
                sip_status=None, ended_by=None, rtp=None) -> Leg
    add_ladder(store, entries) -> int
    add_timeline(store, *, call, type, detail=None, now=None) -> None

    begin_payment(store, *, session, call, brand, last4, id=None, now=None) -> Payment        # durable intent
    payment_entered(store, *, payment, access_id, access_pass, now=None) -> Payment
    payment_executing(store, *, payment, now=None) -> Payment           # before the first byte of ExecTran
    payment_unknown(store, *, payment, error_codes=(), now=None) -> Payment
    payment_closed(store, *, payment, status, approval_number=None, transaction_id=None, forward=None,
                   error_codes=(), error_category=None, final=False, now=None) -> Payment

    put_merchant, put_number, put_connector, put_shop, put_trunk, put_principal, allow_caller   (seeding)
    register_principal(store, actor, *, merchant, name, role, permissions, extension=None, now=None) -> Principal
    deactivate_principal(store, actor, *, target, merchant=None, now=None) -> Principal
    apply_retention(store, policy=RetentionPolicy(), *, now=None) -> RetentionReport
"""

from __future__ import annotations
