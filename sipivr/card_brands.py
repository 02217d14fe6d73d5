"""Which numbers belong to which card brand, and how long they are: data, not code.

Source: the public issuer-identification ranges as compiled in Wikipedia, "Payment card number" (table
"Issuer identification number"), compared range by range with the table of the open-source project
braintree/credit-card-type (`card-types.ts`). ISO/IEC 7812-1 gives the structure (an IIN first, the Luhn
digit last); the register of the ranges themselves is not public. Where the two sources differ:

- Visa: 13 digits are no longer issued and are left out, so that a sixteen-digit field may end itself.
- Discover and UnionPay share 622126–622925. Those are UnionPay's cards and are named so; whoever takes
  one brand there by agreement with the other lists both as accepted.
- JCB: the old fifteen-digit 1800 and 2131 are gone; Maestro, Elo, Mir and local brands are not offered.
- UnionPay: all of 62 and of 810–817. The finer list of one source changes too often to refuse a card by.

A range is a pair of prefixes of the same width, both ends included. The gateway narrows the lengths again
(GMO-PG takes 10 to 16 digits), see `PANEntry`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Brand(enum.StrEnum):
    """A card brand that a shop may accept."""

    VISA = "visa"
    MASTERCARD = "mastercard"
    JCB = "jcb"
    AMERICAN_EXPRESS = "american_express"
    DINERS = "diners"
    DISCOVER = "discover"
    UNIONPAY = "unionpay"

    @property
    def security_code_length(self) -> int:
        """Digits of the security code: four on American Express's face, three on everyone else's back."""
        return 4 if self is Brand.AMERICAN_EXPRESS else 3


@dataclass(frozen=True, slots=True)
class BrandRange:
    """Numbers whose first `width` digits lie between `low` and `high`, both included.

    `lengths` are the whole number's possible lengths, ascending.
    """

    brand: Brand
    width: int
    low: int
    high: int
    lengths: tuple[int, ...]


_FIFTEEN: Final = (15,)
_SIXTEEN: Final = (16,)
_SIXTEEN_TO_NINETEEN: Final = (16, 17, 18, 19)
_FOURTEEN_TO_NINETEEN: Final = (14, 15, 16, 17, 18, 19)

BRAND_RANGES: Final = (
    BrandRange(Brand.VISA, 1, 4, 4, (16, 19)),
    BrandRange(Brand.MASTERCARD, 2, 51, 55, _SIXTEEN),
    BrandRange(Brand.MASTERCARD, 4, 2221, 2720, _SIXTEEN),
    BrandRange(Brand.JCB, 4, 3528, 3589, _SIXTEEN_TO_NINETEEN),
    BrandRange(Brand.AMERICAN_EXPRESS, 2, 34, 34, _FIFTEEN),
    BrandRange(Brand.AMERICAN_EXPRESS, 2, 37, 37, _FIFTEEN),
    BrandRange(Brand.DINERS, 3, 300, 305, _FOURTEEN_TO_NINETEEN),
    BrandRange(Brand.DINERS, 4, 3095, 3095, _FOURTEEN_TO_NINETEEN),
    BrandRange(Brand.DINERS, 2, 36, 36, _FOURTEEN_TO_NINETEEN),
    BrandRange(Brand.DINERS, 2, 38, 39, _FOURTEEN_TO_NINETEEN),
    BrandRange(Brand.DISCOVER, 4, 6011, 6011, _SIXTEEN_TO_NINETEEN),
    BrandRange(Brand.DISCOVER, 3, 644, 649, _SIXTEEN_TO_NINETEEN),
    BrandRange(Brand.DISCOVER, 2, 65, 65, _SIXTEEN_TO_NINETEEN),
    BrandRange(Brand.UNIONPAY, 2, 62, 62, _SIXTEEN_TO_NINETEEN),
    BrandRange(Brand.UNIONPAY, 3, 810, 817, _SIXTEEN_TO_NINETEEN),
)

#: ISO/IEC 7812-1: no card number is longer.
LONGEST_PAN: Final = 19

#: Nor has any brand of ours a shorter one.
SHORTEST_PAN: Final = min(min(each.lengths) for each in BRAND_RANGES)
