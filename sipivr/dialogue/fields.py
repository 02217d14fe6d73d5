"""The fields: how each is asked for, and which message answers which mistake. Data and pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sipivr.card import Brand, ExpiryFault, PANFault
from sipivr.dialogue.asking import Script
from sipivr.dialogue.effects import FieldName
from sipivr.dialogue.phrases import DigitCount, Phrase, PhraseKey

if TYPE_CHECKING:
    from sipivr.dialogue.params import DialogueParams

_ZERO: Final = ord("0")


class IdentificationEntry:
    """The identification number while it is keyed.

    No card data; but people key the card here by mistake, so it is overwritten and not shown either.

    Args:
        lengths: the lengths that a number may have, ascending.
    """

    __slots__ = ("_digits", "_length", "_lengths")

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self._lengths = lengths
        self._digits = bytearray(max(lengths))
        self._length = 0

    @property
    def length(self) -> int:
        """Digits so far."""
        return self._length

    @property
    def full(self) -> bool:
        """Whether the longest possible number has been keyed."""
        return self._length >= len(self._digits)

    @property
    def complete(self) -> bool:
        """Whether this may be the whole number."""
        return self._length in self._lengths

    @property
    def number(self) -> str:
        """The number as keyed."""
        return self._digits[: self._length].decode("ascii")

    def append(self, key: int) -> None:
        """Appends a digit."""
        self._digits[self._length] = _ZERO + key
        self._length += 1

    def clear(self) -> None:
        """Overwrites the digits."""
        self._digits[:] = bytes(len(self._digits))
        self._length = 0


PAN_FAULT_PHRASES: Final[dict[PANFault, PhraseKey]] = {
    PANFault.UNKNOWN_BRAND: PhraseKey.PAN_WRONG,
    PANFault.BRAND_NOT_ACCEPTED: PhraseKey.BRAND_NOT_ACCEPTED,
    PANFault.LENGTH: PhraseKey.PAN_WRONG_LENGTH,
    PANFault.CHECK_DIGIT: PhraseKey.PAN_WRONG,
}

EXPIRY_FAULT_PHRASES: Final[dict[ExpiryFault, PhraseKey]] = {
    ExpiryFault.LENGTH: PhraseKey.EXPIRY_INCOMPLETE,
    ExpiryFault.MONTH: PhraseKey.EXPIRY_NO_SUCH_MONTH,
    ExpiryFault.PAST: PhraseKey.EXPIRY_PAST,
    ExpiryFault.TOO_FAR: PhraseKey.EXPIRY_TOO_FAR,
}

#: Messages that say how many digits arrived.
_COUNTING: Final = frozenset({PhraseKey.PAN_WRONG_LENGTH, PhraseKey.EXPIRY_INCOMPLETE})


def fault_phrase(fault: PANFault | ExpiryFault, length: int) -> Phrase:
    """What the customer hears about a mistake."""
    key = PAN_FAULT_PHRASES[fault] if isinstance(fault, PANFault) else EXPIRY_FAULT_PHRASES[fault]
    return Phrase(key, (DigitCount(length),) if key in _COUNTING else ())


def identification_script(params: DialogueParams, lengths: tuple[int, ...]) -> Script:
    """How the identification number is asked for."""
    if len(lengths) == 1:
        prompt = Phrase(PhraseKey.IDENTIFICATION_PROMPT, (DigitCount(lengths[0]),))
    else:
        prompt = Phrase(PhraseKey.IDENTIFICATION_PROMPT_OPEN)
    return Script(
        FieldName.IDENTIFICATION,
        params.identification,
        (prompt,),
        PhraseKey.IDENTIFICATION_DIGITS_SO_FAR,
    )


def pan_script(params: DialogueParams) -> Script:
    """How the card number is asked for."""
    return Script(FieldName.PAN, params.pan, (Phrase(PhraseKey.PAN_PROMPT),), PhraseKey.PAN_DIGITS_SO_FAR)


def expiry_script(params: DialogueParams) -> Script:
    """How the expiry is asked for."""
    return Script(
        FieldName.EXPIRY, params.expiry, (Phrase(PhraseKey.EXPIRY_PROMPT),), PhraseKey.EXPIRY_DIGITS_SO_FAR
    )


def security_code_script(params: DialogueParams, brand: Brand | None) -> Script:
    """How the security code is asked for: on American Express it is elsewhere and longer."""
    amex = brand is Brand.AMERICAN_EXPRESS
    prompt = PhraseKey.SECURITY_CODE_PROMPT_AMEX if amex else PhraseKey.SECURITY_CODE_PROMPT
    where = PhraseKey.SECURITY_CODE_WHERE_AMEX if amex else PhraseKey.SECURITY_CODE_WHERE
    return Script(
        FieldName.SECURITY_CODE,
        params.security_code,
        (Phrase(prompt),),
        PhraseKey.SECURITY_CODE_DIGITS_SO_FAR,
        hint=Phrase(where),
        hint_s=params.security_code_hint_s,
    )
