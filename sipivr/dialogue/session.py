"""What the dialogue knows of the payment session that a call has claimed: a frozen picture of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipivr.card import Brand

if TYPE_CHECKING:
    from datetime import date


class Ending(enum.StrEnum):
    """How the call ends for the customer."""

    TRANSFER_RETURN = "transfer_return"
    """We hang up; operator and customer are still together on the merchant's PBX."""
    BRIDGE = "bridge"
    """An operator's leg of ours waits (inline): the customer is handed back to it, masked no longer."""
    GOODBYE = "goodbye"
    """Nobody is there: the customer is thanked and the call ends (self-service)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSnapshot:
    """The payment session as it was when it was claimed.

    Attributes:
        session_id: comes back in `SubmitCharge` and `ReleaseSession`.
        shop_name: spoken.
        amount: in the currency's minor units.
        currency: ISO 4217.
        language: language of the prompts from here on, a key of the prompt files ("ja", "en").
        accepted_brands: what the shop accepts.
        today: today's date where the shop is (Asia/Tokyo), for the expiry.
        security_code_required: whether the field is asked for at all.
        longest_pan: the gateway's limit of digits.
        gateway_attempts_left: how often this session may still go to the gateway (at most 5 in its life).
        speak_amount: whether the confirmation repeats the amount.
        speak_last4: whether the confirmation reads the card's last four digits.
        voice_masked: whether the operator cannot hear the customer during capture; else the introduction does
            not say so.
        test_pan_digests: in test mode SHA-256 (hex) of the simulator's card numbers in ASCII: any other number
            is refused and wiped. None: not in test mode.
    """

    session_id: str
    shop_name: str
    amount: int
    currency: str
    language: str
    accepted_brands: frozenset[Brand]
    today: date
    security_code_required: bool = True
    longest_pan: int = 16
    gateway_attempts_left: int = 5
    speak_amount: bool = True
    speak_last4: bool = False
    voice_masked: bool = True
    test_pan_digests: frozenset[str] | None = field(default=None, repr=False)
