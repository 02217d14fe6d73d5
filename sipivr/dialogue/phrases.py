"""Everything the switch can say to a customer: keys, their variables and what they mean.

The dialogue speaks in phrases; words and voices are `sipivr.prompts`' business. A test there holds every
language's file to this catalogue. A phrase variable is one of the four types below and never holds more of a
card than its last four digits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sipivr.card import Brand


@dataclass(frozen=True, slots=True)
class ShopName:
    """The shop's name, as it shall be spoken."""

    name: str


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in the currency's minor units (yen have none: 12300 is 12,300 yen)."""

    minor_units: int
    currency: str


@dataclass(frozen=True, slots=True)
class DigitCount:
    """A number of digits: how many have arrived, or how many there ought to be."""

    count: int


@dataclass(frozen=True, slots=True)
class Last4:
    """The last four digits of a card, to be read one by one."""

    digits: str

    def __post_init__(self) -> None:
        if len(self.digits) != 4 or not self.digits.isdecimal():
            raise ValueError("exactly four digits")


@dataclass(frozen=True, slots=True)
class BrandName:
    """A card brand, to be spoken by its usual name."""

    brand: Brand


Variable = ShopName | Amount | DigitCount | Last4 | BrandName

#: The placeholder of each variable in a prompt text, e.g. `{amount}`.
VARIABLE_NAMES: Final[dict[type[Variable], str]] = {
    ShopName: "shop",
    Amount: "amount",
    DigitCount: "count",
    Last4: "last4",
    BrandName: "brand",
}


class PhraseKey(enum.StrEnum):
    """The name of a phrase in the prompt files."""

    GREETING = "greeting"
    IDENTIFICATION_PROMPT = "identification_prompt"
    IDENTIFICATION_PROMPT_OPEN = "identification_prompt_open"
    IDENTIFICATION_DIGITS_SO_FAR = "identification_digits_so_far"
    IDENTIFICATION_INCOMPLETE = "identification_incomplete"
    IDENTIFICATION_REFUSED = "identification_refused"
    IDENTIFICATION_REFUSED_FINALLY = "identification_refused_finally"
    SHOP_AND_AMOUNT = "shop_and_amount"
    CAPTURE_INTRODUCTION = "capture_introduction"
    CAPTURE_INTRODUCTION_VOICE_PASSES = "capture_introduction_voice_passes"
    PAN_PROMPT = "pan_prompt"
    PAN_DIGITS_SO_FAR = "pan_digits_so_far"
    FINISH_WITH_POUND = "finish_with_pound"
    PAN_WRONG_LENGTH = "pan_wrong_length"
    PAN_WRONG = "pan_wrong"
    BRAND_NOT_ACCEPTED = "brand_not_accepted"
    TEST_LINE = "test_line"
    EXPIRY_PROMPT = "expiry_prompt"
    EXPIRY_DIGITS_SO_FAR = "expiry_digits_so_far"
    EXPIRY_INCOMPLETE = "expiry_incomplete"
    EXPIRY_NO_SUCH_MONTH = "expiry_no_such_month"
    EXPIRY_PAST = "expiry_past"
    EXPIRY_TOO_FAR = "expiry_too_far"
    SECURITY_CODE_PROMPT = "security_code_prompt"
    SECURITY_CODE_PROMPT_AMEX = "security_code_prompt_amex"
    SECURITY_CODE_WHERE = "security_code_where"
    SECURITY_CODE_WHERE_AMEX = "security_code_where_amex"
    SECURITY_CODE_DIGITS_SO_FAR = "security_code_digits_so_far"
    SECURITY_CODE_INCOMPLETE = "security_code_incomplete"
    FIELD_CLEARED = "field_cleared"
    FIELD_RESET = "field_reset"
    NO_KEYS_HEARD = "no_keys_heard"
    LINE_RESTORED = "line_restored"
    CONFIRM_AMOUNT = "confirm_amount"
    CONFIRM_WITHOUT_AMOUNT = "confirm_without_amount"
    CONFIRM_LAST4 = "confirm_last4"
    CONFIRM_CHOICE = "confirm_choice"
    CONFIRM_WRONG_KEY = "confirm_wrong_key"
    CARD_AGAIN = "card_again"
    PLEASE_WAIT = "please_wait"
    WAIT_TONE = "wait_tone"
    STILL_WAITING = "still_waiting"
    CONFIRMING = "confirming"
    PAYMENT_APPROVED = "payment_approved"
    DECLINED_PAN = "declined_pan"
    DECLINED_EXPIRY = "declined_expiry"
    DECLINED_SECURITY_CODE = "declined_security_code"
    DECLINED_ANOTHER_CARD = "declined_another_card"
    DECLINED_FINALLY = "declined_finally"
    DECLINED_TRY_LATER = "declined_try_later"
    NOT_CONFIRMED = "not_confirmed"
    PAYMENT_CONTINUES = "payment_continues"
    NOT_CHARGED_UNAVAILABLE = "not_charged_unavailable"
    MASK_UNAVAILABLE = "mask_unavailable"
    SERVICE_UNAVAILABLE = "service_unavailable"
    SESSION_CANCELLED = "session_cancelled"
    TOO_MANY_MISTAKES = "too_many_mistakes"
    NO_INPUT_END = "no_input_end"
    CALL_TOO_LONG = "call_too_long"
    OPERATOR_REQUESTED = "operator_requested"
    TAKEN_BACK = "taken_back"
    KEY_ENTRY_OVER = "key_entry_over"
    GOODBYE_OPERATOR = "goodbye_operator"
    GOODBYE = "goodbye"
    NO_OPERATOR = "no_operator"


@dataclass(frozen=True, slots=True)
class PhraseSpec:
    """What a prompt writer must know about a phrase: its sense in English and the variables it may name."""

    meaning: str
    variables: tuple[type[Variable], ...] = ()


CATALOGUE: Final[dict[PhraseKey, PhraseSpec]] = {
    PhraseKey.GREETING: PhraseSpec("This is the automatic card payment line."),
    PhraseKey.IDENTIFICATION_PROMPT: PhraseSpec(
        "Please key in the identification number ({count} digits).", (DigitCount,)
    ),
    PhraseKey.IDENTIFICATION_PROMPT_OPEN: PhraseSpec(
        "Please key in the identification number, then pound (numbers of several lengths are in use)."
    ),
    PhraseKey.IDENTIFICATION_DIGITS_SO_FAR: PhraseSpec(
        "{count} digits of the identification number have arrived so far. Please go on.", (DigitCount,)
    ),
    PhraseKey.IDENTIFICATION_INCOMPLETE: PhraseSpec(
        "The identification number is not complete; {count} digits arrived. Key it again from the start.",
        (DigitCount,),
    ),
    PhraseKey.IDENTIFICATION_REFUSED: PhraseSpec(
        "This identification number cannot be used (one message for wrong, expired, used, foreign)."
    ),
    PhraseKey.IDENTIFICATION_REFUSED_FINALLY: PhraseSpec(
        "This identification number cannot be used; please ask the operator. No further try; goodbye follows."
    ),
    PhraseKey.SHOP_AND_AMOUNT: PhraseSpec("Your payment to {shop} is {amount}.", (ShopName, Amount)),
    PhraseKey.CAPTURE_INTRODUCTION: PhraseSpec(
        "Do not say the card number aloud, press the keys. Meanwhile the operator cannot hear your voice. "
        "If you need help, press star, then pound."
    ),
    PhraseKey.CAPTURE_INTRODUCTION_VOICE_PASSES: PhraseSpec(
        "As capture_introduction, without the middle sentence: here the voice does reach the operator."
    ),
    PhraseKey.PAN_PROMPT: PhraseSpec("Key in the card number."),
    PhraseKey.PAN_DIGITS_SO_FAR: PhraseSpec(
        "{count} digits have been received. Please go on (8桁まで受け付けました。続きを押してください).",
        (DigitCount,),
    ),
    PhraseKey.FINISH_WITH_POUND: PhraseSpec("If that is the whole number, press pound; if not, go on."),
    PhraseKey.PAN_WRONG_LENGTH: PhraseSpec(
        "The card number has the wrong length: {count} digits arrived.", (DigitCount,)
    ),
    PhraseKey.PAN_WRONG: PhraseSpec("This card number is not right; perhaps a digit was mistyped."),
    PhraseKey.BRAND_NOT_ACCEPTED: PhraseSpec(
        "This kind of card cannot be used here. Please use another card."
    ),
    PhraseKey.TEST_LINE: PhraseSpec("This is a test line: only test cards work, do not key a real card."),
    PhraseKey.EXPIRY_PROMPT: PhraseSpec(
        "Key in the expiry: four digits, month then year, as printed (e.g. September 2028: 0 9 2 8)."
    ),
    PhraseKey.EXPIRY_DIGITS_SO_FAR: PhraseSpec(
        "{count} digits of the expiry have arrived. Please go on.", (DigitCount,)
    ),
    PhraseKey.EXPIRY_INCOMPLETE: PhraseSpec(
        "The expiry must have four digits; {count} arrived.", (DigitCount,)
    ),
    PhraseKey.EXPIRY_NO_SUCH_MONTH: PhraseSpec("The month must be 01 to 12; month first, then year."),
    PhraseKey.EXPIRY_PAST: PhraseSpec(
        "By this expiry the card is no longer valid; check it and key it again."
    ),
    PhraseKey.EXPIRY_TOO_FAR: PhraseSpec("This expiry is not possible; month first, then year."),
    PhraseKey.SECURITY_CODE_PROMPT: PhraseSpec(
        "Key in the security code, three digits on the back of the card."
    ),
    PhraseKey.SECURITY_CODE_PROMPT_AMEX: PhraseSpec(
        "Key in the security code, four digits on the front of the card, above the number at the right."
    ),
    PhraseKey.SECURITY_CODE_WHERE: PhraseSpec(
        "Hint while waiting: the last three digits at the signature strip on the back of the card."
    ),
    PhraseKey.SECURITY_CODE_WHERE_AMEX: PhraseSpec(
        "Hint while waiting: the four small digits on the front, above the right end of the card number."
    ),
    PhraseKey.SECURITY_CODE_DIGITS_SO_FAR: PhraseSpec(
        "{count} digits of the security code have arrived. Please go on.", (DigitCount,)
    ),
    PhraseKey.SECURITY_CODE_INCOMPLETE: PhraseSpec(
        "The security code must have {count} digits.", (DigitCount,)
    ),
    PhraseKey.FIELD_CLEARED: PhraseSpec("Cleared. Please key it again from the first digit."),
    PhraseKey.FIELD_RESET: PhraseSpec(
        "The operator has cleared this entry; please key it again. (Prompt follows.)"
    ),
    PhraseKey.NO_KEYS_HEARD: PhraseSpec(
        "No key has been heard yet. On a smartphone open the keypad on the screen; on an older telephone "
        "press the tone button first."
    ),
    PhraseKey.LINE_RESTORED: PhraseSpec(
        "There was a short disturbance; please key this entry again. (Prompt follows.)"
    ),
    PhraseKey.CONFIRM_AMOUNT: PhraseSpec("{amount} will be charged to your card.", (Amount,)),
    PhraseKey.CONFIRM_WITHOUT_AMOUNT: PhraseSpec("Your card will now be charged."),
    PhraseKey.CONFIRM_LAST4: PhraseSpec("The card number ends in {last4}.", (Last4,)),
    PhraseKey.CONFIRM_CHOICE: PhraseSpec("To pay press 1. To key the card again press 2."),
    PhraseKey.CONFIRM_WRONG_KEY: PhraseSpec("Please press 1 or 2. (confirm_choice follows.)"),
    PhraseKey.CARD_AGAIN: PhraseSpec("Then from the start. (pan_prompt follows.)"),
    PhraseKey.PLEASE_WAIT: PhraseSpec("Please wait, the payment is being made."),
    PhraseKey.WAIT_TONE: PhraseSpec(
        "No words: the waiting tone, about 4 s, repeated until something is known."
    ),
    PhraseKey.STILL_WAITING: PhraseSpec("It is taking a little longer; please stay on the line."),
    PhraseKey.CONFIRMING: PhraseSpec("We are confirming the result; please stay on the line."),
    PhraseKey.PAYMENT_APPROVED: PhraseSpec("The payment of {amount} has been made. Thank you.", (Amount,)),
    PhraseKey.DECLINED_PAN: PhraseSpec("The card company does not know this number; please key it again."),
    PhraseKey.DECLINED_EXPIRY: PhraseSpec("The card company says the expiry is wrong; please key it again."),
    PhraseKey.DECLINED_SECURITY_CODE: PhraseSpec(
        "The card company says the security code is wrong; please key it again."
    ),
    PhraseKey.DECLINED_ANOTHER_CARD: PhraseSpec(
        "This card cannot be used. Nothing was charged. Use another card."
    ),
    PhraseKey.DECLINED_FINALLY: PhraseSpec("The payment could not be made. Nothing was charged."),
    PhraseKey.DECLINED_TRY_LATER: PhraseSpec(
        "The payment cannot be made now; nothing was charged; try later."
    ),
    PhraseKey.NOT_CONFIRMED: PhraseSpec(
        "The result could not be confirmed. Please do not pay again; the shop will call you."
    ),
    PhraseKey.PAYMENT_CONTINUES: PhraseSpec(
        "The payment is still being processed; do not pay again, the operator will tell you the result."
    ),
    PhraseKey.NOT_CHARGED_UNAVAILABLE: PhraseSpec("The card company cannot be reached; nothing was charged."),
    PhraseKey.MASK_UNAVAILABLE: PhraseSpec(
        "Card data cannot be taken safely at the moment. Please do not key your card."
    ),
    PhraseKey.SERVICE_UNAVAILABLE: PhraseSpec("Payments cannot be taken at the moment; please try later."),
    PhraseKey.SESSION_CANCELLED: PhraseSpec("The shop has cancelled this payment. Nothing was charged."),
    PhraseKey.TOO_MANY_MISTAKES: PhraseSpec("The entry could not be completed. Nothing was charged."),
    PhraseKey.NO_INPUT_END: PhraseSpec("No entry arrived, so this ends here. Nothing was charged."),
    PhraseKey.CALL_TOO_LONG: PhraseSpec("The time for this call is used up."),
    PhraseKey.OPERATOR_REQUESTED: PhraseSpec("The entry has been stopped. Nothing was charged."),
    PhraseKey.TAKEN_BACK: PhraseSpec("The operator has stopped the entry. Nothing was charged."),
    PhraseKey.KEY_ENTRY_OVER: PhraseSpec("Key entry is over; please press no more keys."),
    PhraseKey.GOODBYE_OPERATOR: PhraseSpec("You are going back to the operator."),
    PhraseKey.GOODBYE: PhraseSpec("Thank you for calling. Goodbye."),
    PhraseKey.NO_OPERATOR: PhraseSpec("Nobody can take your call right now. Please call again later."),
}


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing to say: a key of the catalogue and exactly the variables that it names.

    Raises:
        ValueError: the variables are not those of the catalogue, in its order.
    """

    key: PhraseKey
    variables: tuple[Variable, ...] = ()

    def __post_init__(self) -> None:
        if tuple(type(variable) for variable in self.variables) != CATALOGUE[self.key].variables:
            raise ValueError(f"{self.key} does not take these variables")

    def named(self) -> dict[str, Variable]:
        """The variables by their placeholder's name."""
        return {VARIABLE_NAMES[type(variable)]: variable for variable in self.variables}
