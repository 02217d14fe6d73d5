"""What crosses the control socket.

A frame is a 4-byte big-endian length and one MessagePack document, at most `MAX_FRAME_BYTES`. `api` sends
`Request` frames; `sipivr` answers each with one `Reply` (same `id`) and, once `Subscribe` was asked for,
pushes `EventNotice` (a durable event has been committed up to this sequence: read it from `switch.db`) and
`ProgressNotice` (ephemeral, on the 500 ms clock, never digits). `sipivr` authorises every command again:
the principal exists and is active, owns the object, holds the permission (invariant 7).
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal

import msgspec

from sipivr.store.records import BridgeMask, Mask, Mode

PROTOCOL_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 262_144


class ErrorCode(enum.StrEnum):
    """Why a command was not carried out; `api` maps each to one problem type."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    ORDER_IN_PROGRESS = "order_in_progress"
    ORDER_ALREADY_PAID = "order_already_paid"
    IDENTIFICATION_NUMBERS_EXHAUSTED = "identification_numbers_exhausted"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands; `principal` is who asks, as `api` has authenticated it, `source` from where."""

    principal: str
    source: str = ""


class CreatePaymentSession(Command, frozen=True, kw_only=True):
    """Registers what is to be paid and issues an identification number."""

    shop: str
    order_id: str
    amount: int
    currency: str = "JPY"
    language: str | None = None
    number: str | None = None
    metadata: dict[str, str] = {}
    mask: Mask | None = None
    caller: str | None = None

    def __repr__(self) -> str:
        """Without the caller's number: it is personal data."""
        return f"CreatePaymentSession(principal={self.principal!r}, order_id={self.order_id!r})"


class CancelPaymentSession(Command, frozen=True, kw_only=True):
    """Cancels a session that is open or claimed; a running charge is never cancelled."""

    session: str


class IssueIdentificationNumber(Command, frozen=True, kw_only=True):
    """A new identification number for the same session; the old one is retired."""

    session: str


class SetMasks(Command, frozen=True, kw_only=True):
    """What the operator's side hears during the captures of the principal's merchant; None: as it is."""

    mask: Mask | None = None
    bridge_mask: BridgeMask | None = None


class AllowClamp(Command, frozen=True, kw_only=True):
    """A platform administrator lets a merchant choose the mask that passes spoken digits, or no longer."""

    merchant: str
    allowed: bool


class ProposeConnector(Command, frozen=True, kw_only=True):
    """A platform administrator proposes where cards may go; nothing changes until another one confirms it."""

    kind: str
    url: str
    mode: Mode
    pins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    active: bool = True
    connector: str | None = None


class DecideConnector(Command, frozen=True, kw_only=True):
    """Another platform administrator confirms a proposal, or any rejects it."""

    proposal: str
    confirm: bool


class ChangePayment(Command, frozen=True, kw_only=True):
    """Settles a payment, or gives it another amount. Carried out afterwards; the reply names the change."""

    payment: str
    kind: Literal["settle", "amount"]
    amount: int | None = None


class GiveBackPayment(Command, frozen=True, kw_only=True):
    """Voids or refunds a payment, or refunds a part of it. Carried out afterwards; the reply names the change."""

    payment: str
    kind: Literal["void", "refund"]
    amount: int | None = None


class AllowCaller(Command, frozen=True, kw_only=True):
    """Puts a caller, E.164, on the list of those whose transfers the merchant's numbers take."""

    number: str

    def __repr__(self) -> str:
        """Without the number: it is personal data."""
        return f"AllowCaller(principal={self.principal!r})"


class DisallowCaller(Command, frozen=True, kw_only=True):
    """Takes a caller from that list."""

    caller: str


class HangUpCall(Command, frozen=True, kw_only=True):
    """Ends a running call."""

    call: str


class StartCapture(Command, frozen=True, kw_only=True):
    """Begins the capture of a payment session on a running inline call."""

    call: str
    session: str


class TakeBack(Command, frozen=True, kw_only=True):
    """Ends a running capture: the operator wants to talk with the customer again."""

    call: str


class ResetField(Command, frozen=True, kw_only=True):
    """The field that is being keyed is asked for again."""

    call: str


class ClaimCall(Command, frozen=True, kw_only=True):
    """Ties a running inline call to the principal's desk."""

    call: str


class DialCustomer(Command, frozen=True, kw_only=True):
    """Calls a customer from one of the merchant's numbers."""

    number: str
    to: str
    session: str | None = None
    ring_s: int = 45

    def __repr__(self) -> str:
        """Without the customer's number: it is personal data."""
        return f"DialCustomer(principal={self.principal!r}, number={self.number!r})"


class SetNumberRules(Command, frozen=True, kw_only=True):
    """Where the inline calls of one of the merchant's numbers go."""

    number: str
    rules: dict[str, Any]
    """The fields of `store.number_rules.NumberRules`; the store says what is wrong with them."""


class RegisterPrincipal(Command, frozen=True, kw_only=True):
    """Makes the principal of a new API key of the same merchant; needs the permission `api_keys:write`."""

    name: str
    role: str
    permissions: tuple[str, ...]


class DeactivatePrincipal(Command, frozen=True, kw_only=True):
    """Takes every permission from a principal of the same merchant."""

    target: str


class Ping(Command, frozen=True, kw_only=True):
    """Is the switch there, and how is it? Answers node, calls, legs, workers, draining."""


AnyCommand = (
    CreatePaymentSession
    | CancelPaymentSession
    | IssueIdentificationNumber
    | SetMasks
    | AllowClamp
    | ProposeConnector
    | DecideConnector
    | ChangePayment
    | GiveBackPayment
    | AllowCaller
    | DisallowCaller
    | HangUpCall
    | StartCapture
    | TakeBack
    | ResetField
    | ClaimCall
    | DialCustomer
    | SetNumberRules
    | RegisterPrincipal
    | DeactivatePrincipal
    | Ping
)


class Request(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """One command with the number that its reply will carry."""

    id: int
    command: AnyCommand


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """From now on push notices on this connection."""

    version: int = PROTOCOL_VERSION


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The answer to one request: either `result` (ids and plain values) or an error."""

    id: int
    result: dict[str, str | int | bool | None] | None = None
    error: ErrorCode | None = None
    detail: str | None = None
    related: str | None = None


class EventNotice(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Events up to `sequence` are committed in `switch.db`."""

    sequence: int


class ProgressNotice(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """How far a capture is, without digits and without exact times (design: progress for the desk)."""

    merchant: str
    session: str
    call: str
    values: dict[str, str | int | bool | None]


FromAPI = Request | Subscribe
FromSwitch = Reply | EventNotice | ProgressNotice
