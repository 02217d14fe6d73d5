"""The machines of a dialogue and how they hold each other.

A call is not one machine with a hundred states but six small ones, each with its own diagram, coupled by a
few rules. An event is handled by moving some of them; every move is looked up in the tables below and a move
that is not there is a bug of ours (`TransitionError`), never the customer's.

- **customer**: the leg. `RETURNED`: handed back to an operator's leg of ours, this capture is over. `GONE` is final.
- **operator**: the leg of an operator on our side (inline). Transfer-in has none. Once gone it stays away: the
  customer cannot be handed back any more.
- **talk**: where the conversation is: identifying the session, announcing it, capturing, charging, closing.
- **capture**: secure entry of the card. *Open* are `PAN` to `CONFIRM` (keys are card data or decide on it)
  and `SUBMITTED` (the customer may still be pressing).
- **mask**: what customer → everyone else carries.
- **payment**: what the gateway knows. It lives on when the customer has left.

Rules (each is held by a test over random sequences of events):

1. Capture open ⇒ mask `ON`, acknowledged by the media plane. Losing the mask aborts an entry; losing the
   media worker (nothing is heard at all then) suspends it, and the field starts anew when the mask is on.
2. The mask goes from `ON` to `OFF` only in `CLOSING`, told and three seconds without a key.
3. `AUTHORIZING` is entered from `NONE` or `DECLINED` only: not from `UNKNOWN`, not from `APPROVED`.
4. A card exists only while the capture is open or suspended, or the payment `AUTHORIZING`.
5. In every state some timer runs that leads out of it; `UNKNOWN` payments are the gateway resolver's.
"""

from __future__ import annotations

import enum
from typing import Final, TypeVar


class TransitionError(Exception):
    """A machine was asked for a move that its table does not have: a bug in the dialogue."""


class CustomerLegState(enum.StrEnum):
    """The customer's leg."""

    RINGING = "ringing"
    CONNECTED = "connected"
    RETURNED = "returned"
    ENDING = "ending"
    GONE = "gone"


class OperatorLegState(enum.StrEnum):
    """An operator leg of ours (none in transfer-in)."""

    NONE = "none"
    CONNECTED = "connected"
    GONE = "gone"


class TalkState(enum.StrEnum):
    """Where the conversation is."""

    WAITING = "waiting"
    IDENTIFYING = "identifying"
    CLAIMING = "claiming"
    ANNOUNCING = "announcing"
    MASKING = "masking"
    CAPTURING = "capturing"
    CHARGING = "charging"
    CLOSING = "closing"
    OVER = "over"


class CaptureState(enum.StrEnum):
    """Secure entry of the card."""

    IDLE = "idle"
    PAN = "pan"
    EXPIRY = "expiry"
    SECURITY_CODE = "security_code"
    CONFIRM = "confirm"
    SUSPENDED = "suspended"
    SUBMITTED = "submitted"
    DONE = "done"
    ABORTED = "aborted"


class MaskState(enum.StrEnum):
    """What the customer's audio is replaced by on its way to everyone else."""

    OFF = "off"
    APPLYING = "applying"
    ON = "on"


class PaymentState(enum.StrEnum):
    """What the gateway knows."""

    NONE = "none"
    AUTHORIZING = "authorizing"
    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


_Customer, _Operator, _Talk = CustomerLegState, OperatorLegState, TalkState
_Capture, _Mask, _Payment = CaptureState, MaskState, PaymentState

CUSTOMER_TRANSITIONS: Final = {
    _Customer.RINGING: {_Customer.CONNECTED, _Customer.GONE},
    _Customer.CONNECTED: {_Customer.RETURNED, _Customer.ENDING, _Customer.GONE},
    _Customer.RETURNED: {_Customer.GONE},
    _Customer.ENDING: {_Customer.GONE},
    _Customer.GONE: set(),
}

OPERATOR_TRANSITIONS: Final = {
    _Operator.NONE: {_Operator.CONNECTED},
    _Operator.CONNECTED: {_Operator.GONE},
    _Operator.GONE: set(),
}

TALK_TRANSITIONS: Final = {
    _Talk.WAITING: {_Talk.IDENTIFYING, _Talk.ANNOUNCING, _Talk.OVER},
    _Talk.IDENTIFYING: {_Talk.CLAIMING, _Talk.CLOSING, _Talk.OVER},
    _Talk.CLAIMING: {_Talk.IDENTIFYING, _Talk.ANNOUNCING, _Talk.CLOSING, _Talk.OVER},
    _Talk.ANNOUNCING: {_Talk.MASKING, _Talk.CLOSING, _Talk.OVER},
    _Talk.MASKING: {_Talk.CAPTURING, _Talk.CLOSING, _Talk.OVER},
    _Talk.CAPTURING: {_Talk.CHARGING, _Talk.CLOSING, _Talk.OVER},
    _Talk.CHARGING: {_Talk.CAPTURING, _Talk.CLOSING, _Talk.OVER},
    _Talk.CLOSING: {_Talk.OVER},
    _Talk.OVER: set(),
}

CAPTURE_TRANSITIONS: Final = {
    _Capture.IDLE: {_Capture.PAN, _Capture.ABORTED},
    _Capture.PAN: {_Capture.EXPIRY, _Capture.SUSPENDED, _Capture.ABORTED},
    _Capture.EXPIRY: {_Capture.SECURITY_CODE, _Capture.CONFIRM, _Capture.SUSPENDED, _Capture.ABORTED},
    _Capture.SECURITY_CODE: {_Capture.CONFIRM, _Capture.SUSPENDED, _Capture.ABORTED},
    _Capture.CONFIRM: {_Capture.PAN, _Capture.SUBMITTED, _Capture.SUSPENDED, _Capture.ABORTED},
    _Capture.SUSPENDED: {
        _Capture.PAN,
        _Capture.EXPIRY,
        _Capture.SECURITY_CODE,
        _Capture.CONFIRM,
        _Capture.SUBMITTED,
        _Capture.DONE,
        _Capture.ABORTED,
    },
    _Capture.SUBMITTED: {
        _Capture.PAN,
        _Capture.EXPIRY,
        _Capture.SECURITY_CODE,
        _Capture.SUSPENDED,
        _Capture.DONE,
    },
    _Capture.DONE: set(),
    _Capture.ABORTED: set(),
}

MASK_TRANSITIONS: Final = {
    _Mask.OFF: {_Mask.APPLYING},
    _Mask.APPLYING: {_Mask.ON, _Mask.OFF},
    _Mask.ON: {_Mask.OFF},
}

PAYMENT_TRANSITIONS: Final = {
    _Payment.NONE: {_Payment.AUTHORIZING},
    _Payment.AUTHORIZING: {_Payment.APPROVED, _Payment.DECLINED, _Payment.UNKNOWN, _Payment.NOT_SENT},
    _Payment.APPROVED: set(),
    _Payment.DECLINED: {_Payment.AUTHORIZING},
    _Payment.UNKNOWN: {_Payment.APPROVED, _Payment.DECLINED},
    _Payment.NOT_SENT: set(),
}

#: States in which keys may be card data or decide on it: the mask must be on.
CAPTURE_OPEN: Final = frozenset(
    {_Capture.PAN, _Capture.EXPIRY, _Capture.SECURITY_CODE, _Capture.CONFIRM, _Capture.SUBMITTED}
)

_S = TypeVar("_S", bound=enum.StrEnum)


def moved(table: dict[_S, set[_S]], old: _S, new: _S) -> _S:
    """The new state, if the table allows the move.

    Raises:
        TransitionError: it does not.
    """
    if new not in table[old]:
        raise TransitionError(f"{type(old).__name__}: {old} → {new}")
    return new
