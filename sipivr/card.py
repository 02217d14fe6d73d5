"""Card data in memory: types that hold it, check it, wipe it, and let it out at exactly one place.

PCI DSS 3.3.1 forbids keeping the security code after authorization and 3.5.1 keeping a readable PAN at rest;
we go further and keep both from every way in which Python values wander off: nothing here prints, formats,
pickles, copies, compares, iterates or serialises. `repr` is a constant rather than an error, because a
`repr` that raises would turn somebody's traceback into a second fault.

Digits live in bytearrays of their full capacity from the start. A bytearray that grows is moved by the
allocator and leaves its old bytes behind where no one can overwrite them.

Owner: the dialogue makes and wipes these; the gateway adapter reads them once, through `Card.disclose()`:

    with card.disclose() as fields:
        body = encode(number=fields.number, expire=fields.expire, ...)

That is the only way out. What it yields is overwritten when the block ends.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
from typing import TYPE_CHECKING, Final, Self, final

from sipivr.card_brands import BRAND_RANGES, LONGEST_PAN, SHORTEST_PAN, Brand, BrandRange
from sipivr.card_digits import ZERO, CardWipedError, DigitEntry, Digits, Secret

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from datetime import date

__all__ = [
    "PAN",
    "Brand",
    "Card",
    "CardFields",
    "CardWipedError",
    "Expiry",
    "ExpiryEntry",
    "ExpiryFault",
    "PANEntry",
    "PANFault",
    "SecurityCode",
    "SecurityCodeEntry",
]

EXPIRY_LENGTH: Final = 4
LONGEST_SECURITY_CODE: Final = 4
MAX_YEARS_AHEAD: Final = 20


class PANFault(enum.StrEnum):
    """What is wrong with a card number, in the order in which it is asked."""

    UNKNOWN_BRAND = "unknown_brand"
    BRAND_NOT_ACCEPTED = "brand_not_accepted"
    LENGTH = "length"
    CHECK_DIGIT = "check_digit"


@final
class PAN(Digits):
    """A primary account number. Made by `PANEntry.take()`."""

    __slots__ = ()
    _shown = "<PAN hidden>"

    @property
    def brand(self) -> Brand | None:
        """The brand by the leading digits, None if no range of ours holds them."""
        found = _range_of(self)
        return found.brand if found else None

    @property
    def last4(self) -> str:
        """The last four digits, which PCI DSS 3.4.1 allows to be shown and spoken.

        Raises:
            CardWipedError: the number has been wiped.
        """
        self._check_readable()
        start = max(0, self._length - 4)
        return "".join(chr(self._digits[index]) for index in range(start, self._length))

    def passes_luhn(self) -> bool:
        """The check digit of ISO/IEC 7812-1 annex B."""
        self._check_readable()
        total = 0
        for place in range(self._length):
            digit = self._digits[self._length - 1 - place] - ZERO
            if place % 2:
                digit = digit * 2 - 9 if digit > 4 else digit * 2
            total += digit
        return self._length > 0 and total % 10 == 0

    def fault(self, accepted: Iterable[Brand]) -> PANFault | None:
        """The first thing wrong with the number, None if it may be charged at a shop that accepts these."""
        self._check_readable()
        found = _range_of(self)
        if found is None:
            return PANFault.LENGTH if self._length < SHORTEST_PAN else PANFault.UNKNOWN_BRAND
        if found.brand not in accepted:
            return PANFault.BRAND_NOT_ACCEPTED
        if self._length not in found.lengths:
            return PANFault.LENGTH
        return None if self.passes_luhn() else PANFault.CHECK_DIGIT

    def has_digest_in(self, digests: Container[str]) -> bool:
        """Whether the number's SHA-256 (hex, over its ASCII digits) is among `digests`.

        The test line's guard: no digit leaves for it, and the list need not hold card numbers either.
        """
        digits = self._copy_of_digits()
        try:
            return hashlib.sha256(digits).hexdigest() in digests
        finally:
            digits[:] = bytes(len(digits))


@final
class PANEntry(DigitEntry):
    """The card number while it is being keyed.

    Args:
        longest: the longest number that the gateway takes; GMO-PG's CardNo has 10 to 16 digits.
    """

    __slots__ = ("_longest",)
    _shown = "<PANEntry hidden>"

    def __init__(self, longest: int = 16) -> None:
        super().__init__(LONGEST_PAN)
        self._longest = min(longest, LONGEST_PAN)

    @property
    def brand(self) -> Brand | None:
        """The brand, as soon as the leading digits decide it."""
        found = _range_of(self)
        return found.brand if found else None

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that brand and gateway leave possible, ascending; empty while no brand is known."""
        found = _range_of(self)
        return tuple(length for length in found.lengths if length <= self._longest) if found else ()

    @property
    def full(self) -> bool:
        """Whether the longest possible number has been keyed."""
        return self._length >= max(self.lengths, default=self._longest)

    @property
    def complete(self) -> bool:
        """Whether the number has one of its brand's lengths, a longer one perhaps being possible."""
        return self._length in self.lengths

    def take(self) -> PAN:
        """The number as keyed; the entry is empty afterwards."""
        return PAN(*self._give())


class ExpiryFault(enum.StrEnum):
    """What is wrong with an expiry."""

    LENGTH = "length"
    MONTH = "month"
    PAST = "past"
    TOO_FAR = "too_far"


@final
class Expiry(Digits):
    """An expiry as keyed, MMYY. Made by `ExpiryEntry.take()`."""

    __slots__ = ()
    _shown = "<Expiry hidden>"

    def fault(self, today: date) -> ExpiryFault | None:
        """The first thing wrong with the expiry, None if the card is valid on `today`.

        Args:
            today: the date where the shop is (Asia/Tokyo). A card is good through the last day of its month.
        """
        self._check_readable()
        if self._length != EXPIRY_LENGTH:
            return ExpiryFault.LENGTH
        month, year = self._number(0, 2), self._number(2, 4)
        if not 1 <= month <= 12:
            return ExpiryFault.MONTH
        year += today.year - today.year % 100
        if year < today.year - 50:
            year += 100
        if (year, month) < (today.year, today.month):
            return ExpiryFault.PAST
        if (year, month) > (today.year + MAX_YEARS_AHEAD, today.month):
            return ExpiryFault.TOO_FAR
        return None


@final
class ExpiryEntry(DigitEntry):
    """The expiry while it is being keyed: MMYY, as it is printed on the card."""

    __slots__ = ()
    _shown = "<ExpiryEntry hidden>"

    def __init__(self) -> None:
        super().__init__(EXPIRY_LENGTH)

    def take(self) -> Expiry:
        """The expiry as keyed; the entry is empty afterwards."""
        return Expiry(*self._give())


@final
class SecurityCode(Digits):
    """A security code (CVV2, CVC2, CID …). Made by `SecurityCodeEntry.take()`."""

    __slots__ = ()
    _shown = "<SecurityCode hidden>"


@final
class SecurityCodeEntry(DigitEntry):
    """The security code while it is being keyed.

    Args:
        length: 3, or 4 for American Express (`Brand.security_code_length`).
    """

    __slots__ = ()
    _shown = "<SecurityCodeEntry hidden>"

    def __init__(self, length: int) -> None:
        if not 3 <= length <= LONGEST_SECURITY_CODE:
            raise ValueError("a security code has 3 or 4 digits")
        super().__init__(length)

    def take(self) -> SecurityCode:
        """The code as keyed; the entry is empty afterwards."""
        return SecurityCode(*self._give())


@final
class CardFields(Secret):
    """The digits on their way to the gateway: ASCII, overwritten when `Card.disclose` ends.

    Attributes:
        number: the PAN.
        expire: YYMM, the gateway's order (the customer keyed MMYY).
        security_code: the security code, None where the shop asks for none.
    """

    __slots__ = ("expire", "number", "security_code")
    _shown = "<CardFields hidden>"

    def __init__(self, number: bytearray, expire: bytearray, security_code: bytearray | None) -> None:
        self.number = number
        self.expire = expire
        self.security_code = security_code

    def wipe(self) -> None:
        """Overwrites the digits in place."""
        for digits in (self.number, self.expire, self.security_code):
            if digits is not None:
                digits[:] = bytes(len(digits))


@final
class Card(Secret):
    """One card as far as it has been keyed. Each part is put in once it has been found right."""

    __slots__ = ("_expiry", "_pan", "_security_code")
    _shown = "<Card hidden>"

    def __init__(self) -> None:
        self._pan: PAN | None = None
        self._expiry: Expiry | None = None
        self._security_code: SecurityCode | None = None

    @property
    def brand(self) -> Brand | None:
        """The brand, None before a number was put in or after it was wiped."""
        return self._pan.brand if self._pan and not self._pan.wiped else None

    @property
    def last4(self) -> str:
        """The last four digits of the number.

        Raises:
            CardWipedError: there is no number, or none any more.
        """
        if self._pan is None:
            raise CardWipedError("Card")
        return self._pan.last4

    @property
    def wiped(self) -> bool:
        """Whether no part holds a digit: nothing was put in, or everything was wiped."""
        return all(part is None or part.wiped for part in (self._pan, self._expiry, self._security_code))

    def put_pan(self, pan: PAN) -> None:
        """Puts the number in, wiping the one before."""
        if self._pan is not None:
            self._pan.wipe()
        self._pan = pan

    def put_expiry(self, expiry: Expiry) -> None:
        """Puts the expiry in, wiping the one before."""
        if self._expiry is not None:
            self._expiry.wipe()
        self._expiry = expiry

    def put_security_code(self, security_code: SecurityCode) -> None:
        """Puts the security code in, wiping the one before."""
        self.wipe_security_code()
        self._security_code = security_code

    def wipe_security_code(self) -> None:
        """Wipes the security code alone: it may not outlive an authorization (PCI DSS 3.3.1)."""
        if self._security_code is not None:
            self._security_code.wipe()
            self._security_code = None

    def wipe(self) -> None:
        """Overwrites every digit. Cannot fail and may be called again."""
        for part in (self._pan, self._expiry, self._security_code):
            if part is not None:
                part.wipe()

    @contextlib.contextmanager
    def disclose(self) -> Iterator[CardFields]:
        """The one exit for digits, for the gateway adapter alone.

        Yields:
            Copies of the digits that are overwritten when the block ends, however it ends. A wipe of the card
            meanwhile does not tear them.

        Raises:
            CardWipedError: number or expiry is missing or wiped: nothing may be sent.
        """
        if self._pan is None or self._expiry is None:
            raise CardWipedError("Card")
        number = self._pan._copy_of_digits()
        expire = self._expiry._copy_of_digits()
        expire[0], expire[1], expire[2], expire[3] = expire[2], expire[3], expire[0], expire[1]
        code = self._security_code._copy_of_digits() if self._security_code else None
        fields = CardFields(number, expire, code)
        try:
            yield fields
        finally:
            fields.wipe()

    def __enter__(self) -> Self:
        """A card as a block: wiped when it ends. For the simulator's and the adapters' tests."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wipes the card."""
        self.wipe()


def _range_of(digits: Digits) -> BrandRange | None:
    for candidate in BRAND_RANGES:
        if digits.length >= candidate.width:
            prefix = digits._number(0, candidate.width)
            if candidate.low <= prefix <= candidate.high:
                return candidate
    return None
