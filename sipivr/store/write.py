"""Every change of `switch.db`. SQL stays in the modules named below; callers import from here.

Each function takes the writable store (the writer thread passes it: `await writer.run(write.call_ended,
call=…)`), runs in one `BEGIN IMMEDIATE` transaction, writes its events into the outbox and, where a person
or the switch decided something, its audit row in the same transaction, and returns a frozen record. A
refusal is a `sipivr.store.errors.Refused`; nothing is changed then. `now` is for tests; None reads the clock.

Signatures::

    create_payment_session(store, actor, *, merchant, shop, order_id, amount, currency="JPY", language=None,
                           number=None, metadata=None, mask=None, caller=None, now=None) -> PaymentSession
    issue_identification_number(store, actor, *, session, merchant=None, now=None) -> PaymentSession
    cancel_session(store, actor, *, session, merchant=None, now=None) -> PaymentSession
    claim_identification_number(store, *, merchant, digits, call, now=None) -> PaymentSession | ClaimRefused
    claim_session(store, *, merchant, session, call, now=None) -> PaymentSession | ClaimRefused
    claim_by_caller(store, *, merchant, call, now=None) -> PaymentSession | None
    release_claim(store, *, session, call, now=None) -> PaymentSession
    expire_sessions(store, *, now=None) -> tuple[str, ...]

    call_started(store, *, merchant, number, called, caller, caller_withheld=None, mode, node,
                 direction="inbound", by=None, id=None, now=None) -> Call
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

    begin_change(store, actor, *, payment, kind, amount=None, merchant=None, now=None) -> PaymentChange
    change_sent(store, *, change, job, now=None) -> PaymentChange       # before the first byte
    change_unknown(store, *, change, codes=(), now=None) -> PaymentChange
    change_closed(store, *, change, done, codes=(), reason=None, now=None) -> PaymentChange
    late_approval(store, *, payment, approval_number, transaction_id, forward, now=None) -> LateDecision
    late_approval_voided(store, *, payment, now=None) -> Payment

    put_merchant, put_number, put_connector, put_shop, put_trunk, put_principal (store, actor, *, …, id=None)
    set_number_rules(store, actor, *, number, rules, merchant=None, now=None) -> Number
    propose_connector(store, actor, *, kind, url, mode, pins=(), networks=(), active=True, connector=None,
                      now=None) -> ConnectorProposal
    decide_connector(store, actor, *, proposal, confirm, now=None) -> ConnectorProposal
    set_masks(store, actor, *, merchant, mask=None, bridge_mask=None, now=None) -> Merchant
    allow_clamp(store, actor, *, merchant, allowed, now=None) -> Merchant
    allow_caller(store, actor, *, merchant, e164, now=None) -> CallerNumber
    block_caller(store, actor, *, merchant, e164, now=None) -> None
    disallow_caller(store, actor, *, merchant, id, now=None) -> None
    register_principal(store, actor, *, merchant, name, role, permissions, extension=None) -> Principal
    deactivate_principal(store, actor, *, target, merchant=None, now=None) -> Principal
    apply_retention(store, policy=RetentionPolicy(), *, now=None) -> RetentionReport
"""

from __future__ import annotations

from sipivr.store.callers import allow_caller, block_caller, disallow_caller
from sipivr.store.calls import (
    add_ladder,
    add_timeline,
    call_answered,
    call_ended,
    call_refused,
    call_started,
    capture_ended,
    capture_started,
    interrupt_calls,
    leg_changed,
    leg_started,
)
from sipivr.store.claims import (
    claim_by_caller,
    claim_identification_number,
    claim_session,
    release_claim,
)
from sipivr.store.connectors import decide_connector, propose_connector
from sipivr.store.database import WritableStore, open_writable
from sipivr.store.identifiers import new_id
from sipivr.store.late_approvals import late_approval, late_approval_voided
from sipivr.store.payment_changes import begin_change, change_closed, change_sent, change_unknown
from sipivr.store.payments import (
    begin_payment,
    payment_closed,
    payment_entered,
    payment_executing,
    payment_unknown,
)
from sipivr.store.registry import (
    allow_clamp,
    deactivate_principal,
    put_connector,
    put_merchant,
    put_number,
    put_principal,
    put_shop,
    put_trunk,
    register_principal,
    set_masks,
    set_number_rules,
)
from sipivr.store.retention import RetentionPolicy, RetentionReport, apply_retention
from sipivr.store.sessions import (
    cancel_session,
    create_payment_session,
    expire_sessions,
    issue_identification_number,
)

__all__ = [
    "RetentionPolicy",
    "RetentionReport",
    "WritableStore",
    "add_ladder",
    "add_timeline",
    "allow_caller",
    "allow_clamp",
    "apply_retention",
    "begin_change",
    "begin_payment",
    "block_caller",
    "call_answered",
    "call_ended",
    "call_refused",
    "call_started",
    "cancel_session",
    "capture_ended",
    "capture_started",
    "change_closed",
    "change_sent",
    "change_unknown",
    "claim_by_caller",
    "claim_identification_number",
    "claim_session",
    "create_payment_session",
    "deactivate_principal",
    "decide_connector",
    "disallow_caller",
    "expire_sessions",
    "interrupt_calls",
    "issue_identification_number",
    "late_approval",
    "late_approval_voided",
    "leg_changed",
    "leg_started",
    "new_id",
    "open_writable",
    "payment_closed",
    "payment_entered",
    "payment_executing",
    "payment_unknown",
    "propose_connector",
    "put_connector",
    "put_merchant",
    "put_number",
    "put_principal",
    "put_shop",
    "put_trunk",
    "register_principal",
    "release_claim",
    "set_masks",
    "set_number_rules",
]
