"""Who may give which command: checked here, in `sipivr`, whatever `api` has checked before (invariant 7).

A principal holds exactly the permissions that stand in its row; no role implies one. Three questions, in this
order: is the principal there and active (else `forbidden`), does it hold the permission (else `forbidden`),
is the object its merchant's (else `not_found`, as if there were none). The last is answered by the store
within the transaction of the change, so that nothing moves in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

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
from sipivr.store.records import Principal, Role

#: The vocabulary. Those that end in `:read` are asked by `api` for its queries; the others by `sipivr` too.
PERMISSIONS: Final[Mapping[str, str]] = {
    "payment_sessions:read": "see payment sessions and their identification numbers",
    "payment_sessions:write": "create and cancel payment sessions, issue new identification numbers",
    "calls:read": "see calls, their legs and timelines",
    "calls:write": "give commands to running calls: capture, take back, reset a field, claim, hang up",
    "calls:dial": "call customers from the merchant's numbers",
    "payments:read": "see payments",
    "payments:write": "settle payments and change their amounts",
    "refunds:write": "void and refund payments",
    "events:read": "see events, list and live stream",
    "shops:read": "see shops",
    "numbers:read": "see telephone numbers and where their calls go",
    "numbers:write": "change where the inline calls of telephone numbers go",
    "caller_numbers:read": "see which callers' transfers are taken, masked",
    "caller_numbers:write": "change which callers' transfers are taken",
    "merchant:read": "see the merchant's own settings",
    "merchant:write": "change the merchant's own settings: masks",
    "platform:write": "change what only the platform decides: where cards go, whether a clamp is allowed",
    "metrics:read": "read the figures of the switch",
    "api_keys:write": "make principals for API keys and operators, and switch them off",
}

#: What a command asks for; None: any active principal, or `api` itself.
NEEDED: Final[Mapping[type[AnyCommand], str | None]] = {
    CreatePaymentSession: "payment_sessions:write",
    CancelPaymentSession: "payment_sessions:write",
    IssueIdentificationNumber: "payment_sessions:write",
    SetMasks: "merchant:write",
    AllowClamp: "platform:write",
    ProposeConnector: "platform:write",
    DecideConnector: "platform:write",
    ChangePayment: "payments:write",
    GiveBackPayment: "refunds:write",
    AllowCaller: "caller_numbers:write",
    DisallowCaller: "caller_numbers:write",
    HangUpCall: "calls:write",
    StartCapture: "calls:write",
    TakeBack: "calls:write",
    ResetField: "calls:write",
    ClaimCall: "calls:write",
    DialCustomer: "calls:dial",
    SetNumberRules: "numbers:write",
    RegisterPrincipal: "api_keys:write",
    DeactivatePrincipal: "api_keys:write",
    Ping: None,
}

#: Which roles a role may make with `RegisterPrincipal`.
GRANTABLE_ROLES: Final[Mapping[Role, frozenset[Role]]] = {
    Role.PLATFORM: frozenset({Role.ADMINISTRATOR, Role.OPERATOR, Role.API_KEY}),
    Role.ADMINISTRATOR: frozenset({Role.OPERATOR, Role.API_KEY}),
    Role.OPERATOR: frozenset(),
    # A key that could make keys would outlive its own revocation.
    Role.API_KEY: frozenset(),
}


class Denied(Exception):
    """The command is not carried out; `code` says which kind of no it is."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def authorise(principal: Principal | None, command: AnyCommand) -> Principal:
    """The principal, if it may give this command at all.

    Raises:
        Denied: unknown, switched off, or without the permission.
    """
    if principal is None or not principal.active:
        raise Denied(ErrorCode.FORBIDDEN, "no such active principal")
    needed = NEEDED[type(command)]
    if needed is not None and needed not in principal.permissions:
        raise Denied(ErrorCode.FORBIDDEN, f"needs the permission {needed}")
    return principal


def merchant_of(principal: Principal) -> str:
    """The merchant that the principal acts for.

    Raises:
        Denied: a platform principal acts for none by these commands.
    """
    if principal.merchant is None:
        raise Denied(ErrorCode.FORBIDDEN, "this principal belongs to no merchant")
    return principal.merchant


def check_grant(granter: Principal, role: str, permissions: Iterable[str]) -> Role:
    """What may be given away: known permissions that the granter holds, to a role below its own.

    Raises:
        Denied: `invalid` for unknown words, `forbidden` for what the granter may not give.
    """
    try:
        wanted = Role(role)
    except ValueError:
        raise Denied(ErrorCode.INVALID, "role: not known") from None
    asked = set(permissions)
    if not asked <= PERMISSIONS.keys():
        raise Denied(ErrorCode.INVALID, "permissions: not known")
    if wanted not in GRANTABLE_ROLES[granter.role] or not asked <= set(granter.permissions):
        raise Denied(ErrorCode.FORBIDDEN, "nobody gives away more than they have")
    return wanted
