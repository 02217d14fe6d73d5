"""What each command does: authorised, carried out by the store's writer or by the calls, answered with ids.

`api` reads the object itself from `switch.db` afterwards: the commit is there before the reply.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias, assert_never

from sipivr.control import authorise
from sipivr.control.authorise import Denied
from sipivr.control.failed import Failed
from sipivr.control.live import LiveCommands, LiveControl, check_operator
from sipivr.control.messages import (
    AllowCaller,
    AllowClamp,
    AnyCommand,
    CancelPaymentSession,
    ChangePayment,
    ClaimCall,
    CreatePaymentSession,
    DeactivatePrincipal,
    DecideConnector,
    DialCustomer,
    DisallowCaller,
    ErrorCode,
    GiveBackPayment,
    HangUpCall,
    IssueIdentificationNumber,
    Ping,
    ProposeConnector,
    RegisterPrincipal,
    ResetField,
    SetMasks,
    SetNumberRules,
    StartCapture,
    TakeBack,
)
from sipivr.store import write
from sipivr.store.errors import Refused, StoreBusy, StoreUnavailable
from sipivr.store.records import Actor, Call, ChangeKind, PaymentChange, PaymentSession, Principal, Role
from sipivr.store.writer import StoreWriter

Result: TypeAlias = dict[str, str | int | bool | None]

log = logging.getLogger(__name__)

_CODES: Final = {
    "not_found": ErrorCode.NOT_FOUND,
    "invalid": ErrorCode.INVALID,
    "order_in_progress": ErrorCode.ORDER_IN_PROGRESS,
    "order_already_paid": ErrorCode.ORDER_ALREADY_PAID,
    "identification_numbers_exhausted": ErrorCode.IDENTIFICATION_NUMBERS_EXHAUSTED,
}


class Directory(Protocol):
    """What authorisation looks up."""

    def principal(self, id: str, /) -> Principal | None:
        """Who gives a command."""
        ...

    def call(self, id: str, /) -> Call | None:
        """A call."""
        ...

    def session(self, id: str, /) -> PaymentSession | None:
        """A payment session."""
        ...


class CallControl(LiveControl, Protocol):
    """The running calls; `sipivr.calls` implements it."""

    async def session_canceled(self, session: str, call: str, /) -> None:
        """The session of a running call was cancelled in the store: no charge can begin; end the capture."""
        ...

    def status(self) -> Mapping[str, str | int | bool]:
        """Node, calls, legs, workers, draining."""
        ...


class ChangeRunner(Protocol):
    """Carries out changes of payments; `sipivr.calls.payment_changes` implements it."""

    def start(self, change: PaymentChange, /) -> None:
        """Carries out a change that was begun; returns at once."""
        ...


class Commands:
    """Carries commands out. Call it with a command; `server.ControlServer` does.

    Args:
        writer: the store's writer.
        directory: principals and calls.
        calls: the running calls.
        changes: carries out changes of payments; None: they are refused.
    """

    def __init__(
        self,
        writer: StoreWriter,
        directory: Directory,
        calls: CallControl,
        changes: ChangeRunner | None = None,
    ) -> None:
        self._changes = changes
        self._writer = writer
        self._directory = directory
        self._calls = calls
        self._live = LiveCommands(directory, calls)

    async def __call__(self, command: AnyCommand) -> Result:
        """Does what the command says.

        Raises:
            Failed: with the code for the reply.
        """
        try:
            if isinstance(command, Ping):
                # `api` asks for itself: there is nobody to authorise.
                return dict(self._calls.status())
            principal = authorise.authorise(self._directory.principal(command.principal), command)
            return await self._carry_out(command, principal)
        except Denied as error:
            raise Failed(error.code, error.detail) from None
        except Refused as error:
            raise Failed(_CODES.get(error.code, ErrorCode.CONFLICT), error.detail, error.related) from None
        except (StoreBusy, StoreUnavailable) as error:
            log.warning("%s was not carried out: %s", type(command).__name__, error)
            raise Failed(ErrorCode.UNAVAILABLE, "the store cannot be written now") from None

    async def _carry_out(self, command: AnyCommand, principal: Principal) -> Result:  # noqa: PLR0912 - a line a command
        actor = Actor(principal.id, command.source[:200])
        match command:
            case CreatePaymentSession():
                result = await self._create(command, principal, actor)
            case CancelPaymentSession():
                result = await self._cancel(command, principal, actor)
            case IssueIdentificationNumber():
                result = await self._issue(command, principal, actor)
            case SetMasks():
                changed = await self._writer.run(
                    write.set_masks,
                    actor,
                    merchant=authorise.merchant_of(principal),
                    mask=command.mask,
                    bridge_mask=command.bridge_mask,
                )
                result = {"merchant": changed.id}
            case AllowClamp() | ProposeConnector() | DecideConnector():
                result = await self._platform(command, principal, actor)
            case ChangePayment() | GiveBackPayment():
                result = await self._change_payment(command, principal, actor)
            case AllowCaller() | DisallowCaller():
                result = await self._callers(command, principal, actor)
            case HangUpCall() | StartCapture() | TakeBack() | ResetField() | ClaimCall():
                result = await self._live(command, principal)
            case DialCustomer():
                result = await self._live.dial(command, principal, actor)
            case SetNumberRules():
                changed_number = await self._writer.run(
                    write.set_number_rules,
                    actor,
                    number=command.number,
                    rules=command.rules,
                    merchant=principal.merchant,
                )
                result = {"number": changed_number.id}
            case RegisterPrincipal():
                result = await self._register(command, principal, actor)
            case DeactivatePrincipal():
                result = await self._deactivate(command, principal, actor)
            case Ping():
                result = {}
            case _:
                assert_never(command)
        return result

    async def _create(self, command: CreatePaymentSession, principal: Principal, actor: Actor) -> Result:
        created = await self._writer.run(
            write.create_payment_session,
            actor,
            merchant=authorise.merchant_of(principal),
            shop=command.shop,
            order_id=command.order_id,
            amount=command.amount,
            currency=command.currency,
            language=command.language,
            number=command.number,
            metadata=command.metadata,
            mask=command.mask,
            caller=command.caller,
        )
        return {"session": created.id, "version": created.version}

    async def _platform(
        self, command: AllowClamp | ProposeConnector | DecideConnector, principal: Principal, actor: Actor
    ) -> Result:
        if principal.role is not Role.PLATFORM:
            raise Failed(ErrorCode.FORBIDDEN, "only the platform decides this")
        match command:
            case AllowClamp():
                changed = await self._writer.run(
                    write.allow_clamp, actor, merchant=command.merchant, allowed=command.allowed
                )
                return {"merchant": changed.id}
            case ProposeConnector():
                proposed = await self._writer.run(
                    write.propose_connector,
                    actor,
                    kind=command.kind,
                    url=command.url,
                    mode=command.mode,
                    pins=command.pins,
                    networks=command.networks,
                    active=command.active,
                    connector=command.connector,
                )
                return {"proposal": proposed.id, "connector": proposed.connector}
            case DecideConnector():
                decided = await self._writer.run(
                    write.decide_connector, actor, proposal=command.proposal, confirm=command.confirm
                )
                return {"proposal": decided.id, "connector": decided.connector, "decision": decided.decision}

    async def _change_payment(
        self, command: ChangePayment | GiveBackPayment, principal: Principal, actor: Actor
    ) -> Result:
        if principal.role is Role.OPERATOR:
            raise Failed(ErrorCode.FORBIDDEN, "an administrator or a key changes payments")
        if self._changes is None:
            raise Failed(ErrorCode.UNAVAILABLE, "payments cannot be changed now")
        begun = await self._writer.run(
            write.begin_change,
            actor,
            payment=command.payment,
            kind=ChangeKind(command.kind),
            amount=command.amount,
            merchant=authorise.merchant_of(principal),
        )
        self._changes.start(begun)
        return {"change": begun.id}

    async def _callers(
        self, command: AllowCaller | DisallowCaller, principal: Principal, actor: Actor
    ) -> Result:
        merchant = authorise.merchant_of(principal)
        if isinstance(command, AllowCaller):
            allowed = await self._writer.run(
                write.allow_caller, actor, merchant=merchant, e164=command.number
            )
            return {"caller": allowed.id}
        await self._writer.run(write.disallow_caller, actor, merchant=merchant, id=command.caller)
        return {"caller": command.caller}

    async def _issue(self, command: IssueIdentificationNumber, principal: Principal, actor: Actor) -> Result:
        check_operator(self._directory, principal, command.session)
        issued = await self._writer.run(
            write.issue_identification_number, actor, session=command.session, merchant=principal.merchant
        )
        return {"session": issued.id, "version": issued.version}

    async def _register(self, command: RegisterPrincipal, principal: Principal, actor: Actor) -> Result:
        role = authorise.check_grant(principal, command.role, command.permissions)
        registered = await self._writer.run(
            write.register_principal,
            actor,
            merchant=authorise.merchant_of(principal),
            name=command.name,
            role=role,
            permissions=command.permissions,
        )
        return {"principal": registered.id}

    async def _cancel(self, command: CancelPaymentSession, principal: Principal, actor: Actor) -> Result:
        check_operator(self._directory, principal, command.session)
        # The store first: from this commit on no intent can be begun, whatever the call is just doing.
        canceled = await self._writer.run(
            write.cancel_session, actor, session=command.session, merchant=principal.merchant
        )
        if canceled.call is not None:
            await self._calls.session_canceled(canceled.id, canceled.call)
        return {"session": canceled.id, "version": canceled.version}

    async def _deactivate(self, command: DeactivatePrincipal, principal: Principal, actor: Actor) -> Result:
        target = self._directory.principal(command.target)
        if target is None or (principal.merchant is not None and target.merchant != principal.merchant):
            raise Failed(ErrorCode.NOT_FOUND, "no such principal")
        if target.id != principal.id and target.role not in authorise.GRANTABLE_ROLES[principal.role]:
            raise Failed(ErrorCode.FORBIDDEN, "only who could make such a principal switches it off")
        gone = await self._writer.run(
            write.deactivate_principal, actor, target=command.target, merchant=principal.merchant
        )
        return {"principal": gone.id}
