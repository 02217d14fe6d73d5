"""What happens to a dialogue: frozen values in the past tense, made by the shell.

Order that the shell guarantees: events of one leg arrive as they happened on it. Around a barge-in the key
comes before the `PlayFinished` it caused (the machine also stands the reverse). Numbers that correlate
(`playlist`, `request`, `attempt`, `generation`) are those of the effect that is answered; an answer that is
no longer waited for is ignored.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipivr.dialogue.effects import TimerName
    from sipivr.dialogue.session import SessionSnapshot


class RefusalReason(enum.StrEnum):
    """Why an identification number was refused. The customer hears the same for all but `UNAVAILABLE`."""

    WRONG = "wrong"
    EXPIRED = "expired"
    USED = "used"
    FOREIGN = "foreign"
    LIMITED = "limited"
    """Too many tries by this caller: refused, and no further try in this call."""
    UNAVAILABLE = "unavailable"
    """We could not look (database locked): the call ends with an apology."""


class DeclineClass(enum.StrEnum):
    """What a decline means for the customer."""

    REENTER_PAN = "reenter_pan"
    REENTER_EXPIRY = "reenter_expiry"
    REENTER_SECURITY_CODE = "reenter_security_code"
    ANOTHER_CARD = "another_card"
    TRY_LATER = "try_later"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class CustomerConnected:
    """The customer's leg is answered and its media flow. The first event of every dialogue."""


@dataclass(frozen=True, slots=True)
class CustomerHungUp:
    """The customer's leg is gone, whoever ended it. Also the answer to `HangUp`."""


@dataclass(frozen=True, slots=True)
class OperatorConnected:
    """An operator leg of ours is up (inline)."""


@dataclass(frozen=True, slots=True)
class OperatorHungUp:
    """The operator leg of ours is gone (inline): nobody is there to hand the customer back to."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyPressed:
    """One key of the customer.

    Attributes:
        key: telephone-event code (RFC 4733 §3.2): 0–9, 10 = `*`, 11 = `#`, 12–15 = A–D.
    """

    key: int

    def __repr__(self) -> str:
        """Shows that a key came, never which."""
        return "KeyPressed()"


@dataclass(frozen=True, slots=True)
class PlayFinished:
    """A playlist ended: played out, or (`interrupted`) cut by a key, replaced or stopped."""

    playlist: int
    interrupted: bool


@dataclass(frozen=True, slots=True)
class MaskApplied:
    """The media plane has acknowledged the mask: from here on nothing of the customer reaches anyone."""

    request: int


@dataclass(frozen=True, slots=True)
class MaskFailed:
    """The mask was refused, or an acknowledged mask can no longer be relied upon (a fault on the leg)."""

    request: int | None = None
    """The `ApplyMask` refused; None: the mask that is on has failed."""


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The media worker of this call died. Nothing is heard or sent, no mask exists, the playlist is gone."""


@dataclass(frozen=True, slots=True)
class MediaRestored:
    """The customer's leg lives in a new worker: silent, no mask, no playlist."""


@dataclass(frozen=True, slots=True)
class SessionClaimed:
    """The identification number was right and the session is ours."""

    request: int
    session: SessionSnapshot


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """The identification number was refused."""

    request: int
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class SessionCancelled:
    """The merchant cancelled the payment session (API or console). After SUBMITTED it changes nothing."""


@dataclass(frozen=True, slots=True)
class OperatorTookBack:
    """The operator wants to talk with the customer again."""


@dataclass(frozen=True, slots=True)
class OperatorResetField:
    """The operator asked for the current field to be keyed again from its start."""


@dataclass(frozen=True, slots=True)
class ChargeApproved:
    """The gateway has charged the card. May come late, after `ChargeUnknown` or after the call."""

    attempt: int


@dataclass(frozen=True, slots=True)
class ChargeDeclined:
    """The gateway has definitely not charged the card. May come late."""

    attempt: int
    decline: DeclineClass


@dataclass(frozen=True, slots=True)
class ChargeUnknown:
    """No answer came; the gateway is being asked. `ChargeApproved` or `ChargeDeclined` follows when known."""

    attempt: int


@dataclass(frozen=True, slots=True)
class GatewayUnavailable:
    """Nothing was sent, so nothing was charged."""

    attempt: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer ran out. An older generation than the last started is ignored."""

    name: TimerName
    generation: int


Event = (
    CustomerConnected
    | CustomerHungUp
    | OperatorConnected
    | OperatorHungUp
    | KeyPressed
    | PlayFinished
    | MaskApplied
    | MaskFailed
    | MediaLost
    | MediaRestored
    | SessionClaimed
    | SessionRefused
    | SessionCancelled
    | OperatorTookBack
    | OperatorResetField
    | ChargeApproved
    | ChargeDeclined
    | ChargeUnknown
    | GatewayUnavailable
    | TimerFired
)
