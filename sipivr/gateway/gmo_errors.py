"""GMO-PG's error codes as data: what each means for the dialogue, for the operator and for the order.

Sources: the error tables that open-source clients carry (among them one with the columns "state" and
"billing"). That table gives the state "unknown" (不明) for E90010001 and for *every* E91 code, E91029999 and
E91099999 among them: the charge may stand. So all of them are `Effect.UNKNOWN` here, and so is any code that
we do not know and that no prefix covers: it is resolved by asking, never by charging again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sipivr.gateway.port import Category


class Effect(enum.Enum):
    """What the code says about the charge, and so what may be done next with the order."""

    NOT_CHARGED = "not_charged"  # a new attempt under a new order id may follow, if the category allows one
    UNKNOWN = "unknown"  # ask with SearchTrade; locked until that is final


class RetryRule(enum.StrEnum):
    """What our side may do by itself, without the customer."""

    NEVER = "never"
    NEW_ATTEMPT = "new_attempt"  # new order id, after the customer's next entry or a pause
    LOOK_UP = "look_up"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Row of the table. `category` matters for `Effect.NOT_CHARGED` only."""

    category: Category
    message_key: str
    effect: Effect = Effect.NOT_CHARGED

    @property
    def retry(self) -> RetryRule:
        """Derive the retry rule: an unknown is looked up, a stop is final, all else is a new attempt."""
        if self.effect is Effect.UNKNOWN:
            return RetryRule.LOOK_UP
        return RetryRule.NEVER if self.category is Category.STOP else RetryRule.NEW_ATTEMPT


_SETUP = Meaning(Category.STOP, "gateway.shop_settings")
_REQUEST = Meaning(Category.STOP, "gateway.request")
_TRADE = Meaning(Category.STOP, "gateway.trade_state")
_DONE = Meaning(Category.STOP, "gateway.maybe_charged", Effect.UNKNOWN)
_BUSY = Meaning(Category.TRY_LATER, "gateway.still_processing", Effect.UNKNOWN)
_SYSTEM = Meaning(Category.TRY_LATER, "gateway.system_failure", Effect.UNKNOWN)
_LATER = Meaning(Category.TRY_LATER, "gateway.try_later")
_PAN = Meaning(Category.REENTER_PAN, "card.number_wrong")
_EXPIRY = Meaning(Category.REENTER_EXPIRY, "card.expiry_wrong")
_CODE = Meaning(Category.REENTER_SECURITY_CODE, "card.security_code_wrong")
_CODE_MISSING = Meaning(Category.REENTER_SECURITY_CODE, "card.security_code_missing")
_BALANCE = Meaning(Category.ANOTHER_CARD, "card.balance")
_LIMIT = Meaning(Category.ANOTHER_CARD, "card.limit")
_UNUSABLE = Meaning(Category.ANOTHER_CARD, "card.unusable")
_ISSUER = Meaning(Category.ANOTHER_CARD, "card.issuer")
_BRAND = Meaning(Category.ANOTHER_CARD, "card.brand_not_accepted")
_METHOD = Meaning(Category.STOP, "gateway.pay_method")
_MEMBER = Meaning(Category.STOP, "gateway.member")
_TOKEN = Meaning(Category.REENTER_PAN, "gateway.token")
_EXPIRED = Meaning(Category.STOP, "gateway.authorization_expired")


def _rows(meaning: Meaning, codes: str) -> dict[str, Meaning]:
    return dict.fromkeys(codes.split(), meaning)


MEANINGS: Final[dict[str, Meaning]] = {
    # Who we are: shop, site, contract.
    **_rows(_SETUP, "E01010001 E01010008 E01010010 E01020001 E01020008 E01030002"),
    **_rows(_SETUP, "E01190001 E01190008 E01200001 E01200007 E01200008 E01210002"),
    **_rows(_SETUP, "E61010003 E61020001 E61030001 E61040001 E31500014"),
    # What we asked: order, job, amount, trade.
    **_rows(_REQUEST, "E01040001 E01040003 E01040010 E01040013 E01050001 E01050002 E01050004"),
    **_rows(_REQUEST, "E01060001 E01060005 E01060006 E01060010 E01060011 E01060021 E01070005 E01070006"),
    **_rows(_REQUEST, "E01080007 E01080010 E01090001 E01090008 E01100001 E01100008 E01110002 E01110010"),
    **_rows(_REQUEST, "E01130012 E01310007 E01320012 E01330012 E01340012 E01400007 E01450008 E01490005"),
    **_rows(_REQUEST, "E01840010"),
    # The card's fields.
    **_rows(_PAN, "E01170001 E01170003 E01170006 E01170011 E41170099 42G650000"),
    **_rows(_EXPIRY, "E01180001 E01180003 E01180006 E01180008 E01180011 42G830000"),
    **_rows(_CODE, "E01460008 42G440000"),
    **_rows(_CODE_MISSING, "42G450000"),
    # Members and registered cards.
    **_rows(_MEMBER, "E01220001 E01220005 E01220008 E01230001 E01230006 E01230009 E01240002"),
    **_rows(_MEMBER, "E01390002 E01390010 E01630010 E01640010 E01650012 E11310005"),
    # How it is paid.
    **_rows(_METHOD, "E01260001 E01260002 E01260010 E01270001 E01270005 E01270006 E01270010"),
    **_rows(_METHOD, "42G700000 42G710000 42G720000 42G730000 42G740000 42G750000 42G760000 42G780000"),
    # The trade stands where this cannot be done. On ExecTran the first ones mean: somebody was there before.
    **_rows(_DONE, "E11010001 E11010003 E11010999 E82010001"),
    **_rows(_BUSY, "E01410010 E90010001"),
    **_rows(_TRADE, "E11010002 E11010010 E11010011 E11010012 E11010013 E11010014 E11010015 E11010016"),
    **_rows(_TRADE, "E11010017"),
    **_rows(_EXPIRED, "E01420010"),
    # The card as such.
    **_rows(_UNUSABLE, "E11010099 E61010002 42G120000 42G220000 42G300000 42G420000 42G540000 42G560000"),
    **_rows(_UNUSABLE, "42G600000 42G610000 42G950000 42G960000 42G970000 42G980000 42G990000"),
    **_rows(_BRAND, "E41170002"),
    **_rows(_BALANCE, "42G020000 42G040000"),
    **_rows(_LIMIT, "42G030000 42G050000 42G070000 42G550000"),
    **_rows(_ISSUER, "42G920000"),
    # Data of the trade that the acquirer refuses.
    **_rows(_REQUEST, "42G670000 42G680000 42G690000 42G770000 42G790000 42G800000 42G810000"),
    # Tokens for contracts that refuse a raw PAN.
    **_rows(_TOKEN, "EX1000301 EX1000302 EX1000303 EX1000304"),
    **_rows(_PAN, "token_100 token_101 token_102"),
    **_rows(_EXPIRY, "token_110 token_111 token_112 token_113"),
    **_rows(_CODE, "token_121 token_122"),
    **_rows(_REQUEST, "token_131 token_132 token_141 token_142 token_150"),
    **_rows(_SETUP, "token_160 token_161 token_162 token_170 token_180 token_190 token_191"),
    # Later.
    **_rows(_LATER, "E61010001 E92000001 E92000002"),
    # The gateway's own faults: state unknown.
    **_rows(_SYSTEM, "E91019999 E91020001 E91029998 E91029999 E91050001 E91060001 E91099996 E91099997"),
    **_rows(_SYSTEM, "E91099999"),
}

#: For codes that are not in the table. Order matters: the first match counts.
_PREFIXES: Final[tuple[tuple[str, Meaning], ...]] = (
    ("E9", _SYSTEM),
    ("E01", _REQUEST),
    ("42C", _LATER),  # failure between gateway and acquirer
    ("42G", _ISSUER),
    ("token_", _LATER),  # without a token nothing is charged
)

_NOT_KNOWN: Final = Meaning(Category.TRY_LATER, "gateway.unknown_code", Effect.UNKNOWN)

#: Of several codes the one that allows least decides.
_WEIGHT: Final[dict[Category, int]] = {
    category: weight
    for weight, category in enumerate(
        (
            Category.STOP,
            Category.TRY_LATER,
            Category.ANOTHER_CARD,
            Category.REENTER_PAN,
            Category.REENTER_EXPIRY,
            Category.REENTER_SECURITY_CODE,
        )
    )
}


def meaning_of(code: str) -> Meaning:
    """Return what a detail code (ErrInfo) means."""
    known = MEANINGS.get(code)
    if known is not None:
        return known
    return next((meaning for prefix, meaning in _PREFIXES if code.startswith(prefix)), _NOT_KNOWN)


def most_decisive(codes: Iterable[str]) -> tuple[tuple[str, ...], Meaning]:
    """Order codes so that the most restrictive comes first, and return its meaning with them.

    Raises:
        ValueError: No codes.
    """

    def weight(code: str) -> tuple[int, int]:
        meaning = meaning_of(code)
        return (meaning.effect is not Effect.UNKNOWN, _WEIGHT[meaning.category])

    ordered = tuple(sorted(codes, key=weight))
    if not ordered:
        raise ValueError("no codes")
    return ordered, meaning_of(ordered[0])
