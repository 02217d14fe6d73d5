"""What a dialogue wants done: frozen values in the imperative, carried out by the shell in order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipivr.card import Brand, Card
    from sipivr.dialogue.phrases import Phrase
    from sipivr.dialogue.states import CaptureState, PaymentState


class TimerName(enum.StrEnum):
    """The timers of a dialogue; at most one of each runs."""

    CALL = "call"
    CLOSING = "closing"
    PROMPT = "prompt"
    KEYS = "keys"
    QUIET = "quiet"
    AFTER_KEYS = "after_keys"
    CLAIM = "claim"
    MASK = "mask"
    MEDIA = "media"
    SLOW_GATEWAY = "slow_gateway"
    OUTCOME = "outcome"


class Result(enum.StrEnum):
    """How a dialogue ended: one word for the call record, decided once.

    `PAYMENT_PENDING`: the customer left, or was taken back, while the gateway was working; `RecordOutcome`
    follows. `UNCONFIRMED`: the same, after the customer was told not to pay again.
    """

    PAID = "paid"
    DECLINED = "declined"
    UNCONFIRMED = "unconfirmed"
    PAYMENT_PENDING = "payment_pending"
    GATEWAY_UNAVAILABLE = "gateway_unavailable"
    CUSTOMER_HUNG_UP = "customer_hung_up"
    OPERATOR_REQUESTED = "operator_requested"
    TAKEN_BACK = "taken_back"
    SESSION_CANCELLED = "session_cancelled"
    IDENTIFICATION_REFUSED = "identification_refused"
    TOO_MANY_MISTAKES = "too_many_mistakes"
    NO_INPUT = "no_input"
    CALL_TOO_LONG = "call_too_long"
    MASK_UNAVAILABLE = "mask_unavailable"
    MEDIA_LOST = "media_lost"
    SERVICE_UNAVAILABLE = "service_unavailable"


class Outcome(enum.StrEnum):
    """What became of one charge."""

    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


class FieldName(enum.StrEnum):
    """The fields that a customer keys."""

    IDENTIFICATION = "identification"
    PAN = "pan"
    EXPIRY = "expiry"
    SECURITY_CODE = "security_code"


class FieldProgress(enum.StrEnum):
    """All that anyone may know of expiry and security code while they are keyed."""

    EMPTY = "empty"
    STARTED = "started"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Starts a timer, replacing the one of this name; answered by `TimerFired(name, generation)`."""

    name: TimerName
    generation: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    """Stops a timer, if this generation of it still runs."""

    name: TimerName
    generation: int


@dataclass(frozen=True, slots=True)
class Play:
    """Plays phrases one after another, replacing what plays; ends in exactly one `PlayFinished(playlist, …)`.

    Attributes:
        playlist: never used twice in a dialogue.
        language: of the prompt files.
        barge_in: whether the media worker cuts the playlist at the first key.
        repeat: whether it starts over until stopped or replaced.
    """

    playlist: int
    language: str
    phrases: tuple[Phrase, ...]
    barge_in: bool
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class StopPlaying:
    """Stops what plays, if anything."""


@dataclass(frozen=True, slots=True)
class ApplyMask:
    """Masks customer → everyone; answered by `MaskApplied(request)` or `MaskFailed(request)`."""

    request: int


@dataclass(frozen=True, slots=True)
class LiftMask:
    """Lifts the mask. Emitted only when the customer was told and three seconds passed without a key."""


@dataclass(frozen=True, slots=True)
class ClaimSession:
    """Claims the payment session behind an identification number.

    Attributes:
        request: answered by `SessionClaimed` or `SessionRefused` with the same number.
        number: the digits keyed. No card data, but hidden in the repr: people key the wrong thing.
    """

    request: int
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReleaseSession:
    """Gives the claim back: nothing was submitted in this call, another call may claim the session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SubmitCharge:
    """Charges the card through `sipivr.gateway`.

    The dialogue wipes `card` when an answer arrives or `outcome_s` has passed; an adapter that comes later
    finds a `CardWipedError` and must report `GatewayUnavailable`: nothing was sent.

    Attributes:
        attempt: 1, 2, …; the answer carries it.
        session_id: of the claimed session.
        card: `card.disclose()` is the adapter's only way to the digits.
    """

    attempt: int
    session_id: str
    card: Card


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """What became of a charge, also when known only after the call. `UNKNOWN` is followed by another."""

    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CardWiped:
    """Every digit that the dialogue held has been overwritten; for the record."""


@dataclass(frozen=True, slots=True)
class PublishCapture:
    """The capture machine changed: for `capture.closed`, the record's timestamps and the desk.

    `capture.opening` belongs to `ApplyMask`, which comes before the first of these. What leaves the house
    goes out on the same fixed clock as `PublishProgress`: the moment when a field ended is that of a key.

    Attributes:
        capture: its new state.
        mask_held: whether customer → operator is masked at this moment.
    """

    capture: CaptureState
    mask_held: bool


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """What the desk may see of the entry; the shell shows the last one on its fixed 500 ms clock.

    Attributes:
        field: the field being keyed, None between fields.
        pan_groups: complete groups of four digits of the card number.
        pan_complete: whether the number was found right.
        brand: known at the first complete group at the earliest.
        expiry: empty, started or complete.
        security_code: empty, started or complete.
        payment: state of the payment machine.
        no_keys_heard: the customer was asked twice and no key was ever heard.
        still_pressing: key entry is over and the customer keeps pressing keys.
    """

    field: FieldName | None
    pan_groups: int
    pan_complete: bool
    brand: Brand | None
    expiry: FieldProgress
    security_code: FieldProgress
    payment: PaymentState
    no_keys_heard: bool
    still_pressing: bool


@dataclass(frozen=True, slots=True)
class RecordResult:
    """How the dialogue ended; emitted once in its life, before the farewell is spoken."""

    result: Result


@dataclass(frozen=True, slots=True)
class HangUp:
    """Ends the customer's leg. For transfer-in this is the transfer return."""


@dataclass(frozen=True, slots=True)
class HandBack:
    """Customer and operator talk again (inline): this dialogue is over, the call is not."""


Effect = (
    StartTimer
    | StopTimer
    | Play
    | StopPlaying
    | ApplyMask
    | LiftMask
    | ClaimSession
    | ReleaseSession
    | SubmitCharge
    | RecordOutcome
    | CardWiped
    | PublishCapture
    | PublishProgress
    | RecordResult
    | HangUp
    | HandBack
)
