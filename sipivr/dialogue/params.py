"""Every number of the dialogue in one place, with what it is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldTimes:
    """How long a field waits for keys.

    Attributes:
        first_digit_s: from the end of the prompt to the first key: the customer is looking for the card.
        next_digit_s: from one key to the next.
    """

    first_digit_s: float
    next_digit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueParams:
    """Times and limits of one call.

    Attributes:
        identification: times of the identification number.
        pan: times of the card number.
        expiry: times of the expiry.
        security_code: times of the security code.
        security_code_hint_s: silence after which the customer hears where the code is printed.
        pound_hint_s: silence after which a number that may be complete or may go on is asked for `#`.
        quiet_s: after the end of a field, keys are dropped until none has come for so long: a habitual `#` or
            a doubled last digit harms nothing.
        confirm_s: wait for 1 or 2 after the question.
        max_reminders: silences in a row that are answered by a reminder; the next one ends the entry.
        max_attempts: wrong entries of one field before the entry ends.
        max_identifications: refused identification numbers in one call.
        max_cards: cards that may be tried in one call.
        max_security_code_failures: times the card company may refuse the security code of one card.
        max_restarts: times the customer may answer 2 ("key the card again") in one call.
        claim_s: wait for the answer to `ClaimSession`.
        mask_s: wait for `MaskApplied`; after that it counts as failed.
        media_s: wait for `MediaRestored` after `MediaLost`.
        slow_gateway_s: wait for the gateway after which the customer hears that it takes longer.
        outcome_s: wait for the gateway after which the customer hears that the result could not be confirmed.
            The card is wiped then at the latest.
        after_keys_s: silence of keys, after the customer was told that key entry is over, before the mask may
            lift (invariant 1).
        prompt_s: a playlist that has not reported its end by then counts as finished.
        closing_s: the longest that a farewell may take, keys pressed on and on included.
        call_s: the longest call.
    """

    identification: FieldTimes = FieldTimes(first_digit_s=30, next_digit_s=12)
    pan: FieldTimes = FieldTimes(first_digit_s=30, next_digit_s=12)
    expiry: FieldTimes = FieldTimes(first_digit_s=20, next_digit_s=8)
    security_code: FieldTimes = FieldTimes(first_digit_s=30, next_digit_s=8)
    security_code_hint_s: float = 12
    pound_hint_s: float = 4
    quiet_s: float = 0.6
    confirm_s: float = 15
    max_reminders: int = 2
    max_attempts: int = 3
    max_identifications: int = 3
    max_cards: int = 3
    max_security_code_failures: int = 2
    max_restarts: int = 2
    claim_s: float = 5
    mask_s: float = 2
    media_s: float = 10
    slow_gateway_s: float = 10
    outcome_s: float = 25
    after_keys_s: float = 3
    prompt_s: float = 45
    closing_s: float = 90
    call_s: float = 900
