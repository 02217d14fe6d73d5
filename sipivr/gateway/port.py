"""The port to payment gateways: what the call logic may ask, and everything that can come back.

A charge is taken in steps so that the caller, who owns the store, can commit between them::

    intent committed (synchronous=FULL)
        │  enter(account, order)
        ├── Entry ──────────── commit entry.access_id ──► execute(account, order, entry, card)
        ├── Declined            nothing charged               ├── Approved
        ├── OrderIdTaken        nothing charged by this call  ├── Declined         not charged
        ├── EntryUnknown        look_up, then maybe adopt     ├── NotATestCard     nothing sent
        └── GatewayUnavailable  nothing sent                  ├── OutcomeUnknown   look_up only
                                                              └── GatewayUnavailable  nothing sent

Whatever the gateway says is a value. The one exception, `GatewayUnavailable`, means that not a byte of this
request left the machine, so the same step may be tried again. From the first byte of `execute` onwards any
fault is `OutcomeUnknown`: it is resolved by `look_up` (see `resolution`), never by charging again.

If the task that awaits `execute` is cancelled, the caller must take the outcome as unknown as well: shield
it.

Nothing here prints, logs or pickles a secret or a digit of a card (PCI DSS 3.3.1).
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, TypeAlias

from sipivr.card import Card

#: Characters and length that the gateways we know take as an order id.
ORDER_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9-]{1,27}", re.ASCII)

#: Merchants' ids are shorter, so that an attempt's suffix fits, and may not look as if they had one.
MERCHANT_ORDER_ID_PATTERN: Final = re.compile(r"(?!.*-[0-9]{1,2}\Z)[A-Za-z0-9-]{1,24}", re.ASCII)

MAX_AMOUNT_YEN: Final = 99_999_999
MAX_TAX_YEN: Final = 9_999_999
MAX_ATTEMPTS: Final = 99


class GatewayUnavailable(Exception):
    """Not one byte of the request was sent; nothing can have happened at the gateway.

    Attributes:
        reason: A short word for the log and the record (``connect``, ``connect_timeout``, ``pool_timeout``,
            ``tls``, ``closed``); never text from the wire.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"payment gateway unavailable: {reason}")
        self.reason = reason


class Secret:
    """A password of a shop or of a trade: comparable, but it does not print, pickle or format.

    The text leaves by `reveal` only, so that a search for that word finds every use.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for the body of a request and nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised")


class Job(enum.StrEnum):
    """What a new trade is to become."""

    CHECK = "CHECK"  # validity only, no amount
    AUTH = "AUTH"  # reserve; a later settle turns it into a sale
    CAPTURE = "CAPTURE"  # reserve and settle at once


class PayMethod(enum.IntEnum):
    """How the customer pays the issuer back."""

    LUMP_SUM = 1
    INSTALMENTS = 2
    BONUS_LUMP_SUM = 3
    BONUS_INSTALMENTS = 4
    REVOLVING = 5


class Category(enum.StrEnum):
    """What a decline means for the dialogue with the customer."""

    REENTER_PAN = "reenter_pan"
    REENTER_EXPIRY = "reenter_expiry"
    REENTER_SECURITY_CODE = "reenter_security_code"
    ANOTHER_CARD = "another_card"
    TRY_LATER = "try_later"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class ShopAccount:
    """Who we are at the gateway. Opened from the store's seal for one charge."""

    shop_id: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt at one order, as the gateway will know it.

    Attributes:
        order_id: The gateway's order id, with the attempt's suffix; see `gateway_order_id`.
        amount_yen: 1 to 99,999,999; 0 with `Job.CHECK`.
        job: What the trade is to become.
        intent_id: Our intent's id; it travels as ClientField1 and proves later that a trade is ours.
        tax_yen: Part of the charge on top of `amount_yen`.
        method: How the customer pays the issuer back.
        pay_times: Number of instalments, with the two instalment methods only.
    """

    order_id: str
    amount_yen: int
    job: Job
    intent_id: str
    tax_yen: int = 0
    method: PayMethod = PayMethod.LUMP_SUM
    pay_times: int | None = None

    def __post_init__(self) -> None:
        if not ORDER_ID_PATTERN.fullmatch(self.order_id):
            raise ValueError("order_id: 1 to 27 of A-Z a-z 0-9 -")
        if self.job is Job.CHECK:
            if self.amount_yen or self.tax_yen:
                raise ValueError("amount_yen and tax_yen: a check has none")
        elif not 1 <= self.amount_yen <= MAX_AMOUNT_YEN:
            raise ValueError(f"amount_yen: 1 to {MAX_AMOUNT_YEN}")
        if not 0 <= self.tax_yen <= MAX_TAX_YEN:
            raise ValueError(f"tax_yen: 0 to {MAX_TAX_YEN}")
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", self.intent_id, re.ASCII):
            raise ValueError("intent_id: 1 to 100 of A-Z a-z 0-9 _ . : -")
        instalments = self.method in (PayMethod.INSTALMENTS, PayMethod.BONUS_INSTALMENTS)
        if instalments != (self.pay_times is not None):
            raise ValueError("pay_times: with instalments, and only then")


@dataclass(frozen=True, slots=True)
class Entry:
    """The gateway has an (unprocessed) trade for the order.

    `access_id` may be stored, the password need not be: `look_up` gives it again.
    """

    order_id: str
    access_id: str
    access_pass: Secret


@dataclass(frozen=True, slots=True)
class EntryUnknown:
    """The request to enter the order was sent and no usable answer came. Look the order up before going on.

    `detail` is a word of ours (``timeout``, ``broken``, ``http_500``, ``malformed`` …), never text from the
    wire.
    """

    detail: str


@dataclass(frozen=True, slots=True)
class OrderIdTaken:
    """The gateway has another trade under this order id; it may be ours, see `resolution.judge_entry`."""

    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Approved:
    """Charged (or, with `Job.CHECK`, found valid). `processed_at` is None if the gateway did not say."""

    order_id: str
    approval_number: str
    transaction_id: str
    forward: str
    processed_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Declined:
    """Refused, and surely not charged.

    Attributes:
        codes: The gateway's codes, most decisive first.
        category: What the dialogue does about it.
        message_key: Key of the explanation for the operator's screen (`messages`).
    """

    codes: tuple[str, ...]
    category: Category
    message_key: str


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """Something of the charge was sent and we do not know what became of it.

    `codes` are the gateway's, where it was the gateway that said so.
    """

    detail: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotATestCard:
    """Test mode, and the card is not one of the simulator's. No byte was sent; wipe it and say so."""


class TradeStatus(enum.StrEnum):
    """The gateway's word for where a trade stands. `OTHER` is a word that we do not know."""

    UNPROCESSED = "UNPROCESSED"
    AUTHENTICATED = "AUTHENTICATED"
    CHECK = "CHECK"
    CAPTURE = "CAPTURE"
    AUTH = "AUTH"
    SAUTH = "SAUTH"
    SALES = "SALES"
    VOID = "VOID"
    RETURN = "RETURN"
    RETURNX = "RETURNX"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade as the gateway knows it. The (masked) card of the answer is left out on purpose."""

    order_id: str
    status: TradeStatus
    job: str
    amount_yen: int
    tax_yen: int
    access_id: str
    access_pass: Secret
    approval_number: str
    transaction_id: str
    forward: str
    processed_at: dt.datetime | None
    intent_id: str

    @property
    def entry(self) -> Entry:
        """What `execute` and later changes of this trade need."""
        return Entry(self.order_id, self.access_id, self.access_pass)


@dataclass(frozen=True, slots=True)
class NoSuchTrade:
    """The gateway knows no trade of this order id (not final before `final_after_s`, see `resolution`)."""

    codes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class LookUpFailed:
    """The question itself failed; ask again later. `still_processing` if the gateway said that it works."""

    detail: str
    codes: tuple[str, ...] = ()
    still_processing: bool = False


EntryResult: TypeAlias = Entry | Declined | OrderIdTaken | EntryUnknown
Outcome: TypeAlias = Approved | Declined | OutcomeUnknown | NotATestCard
LookUp: TypeAlias = Trade | NoSuchTrade | LookUpFailed


class Gateway(Protocol):
    """One gateway host with its connections; shops share it. Belongs to one event loop."""

    @property
    def test_mode(self) -> bool:
        """Whether only the simulator's test cards are let through."""
        ...

    def refuses(self, card: Card) -> NotATestCard | None:
        """Say before the first request whether `execute` would refuse this card unsent."""
        ...

    async def enter(self, account: ShopAccount, order: Order) -> EntryResult:
        """Make the trade known to the gateway. Charges nothing.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        ...

    async def execute(self, account: ShopAccount, order: Order, entry: Entry, card: Card) -> Outcome:
        """Charge the card. Call it once for an entry; the card is not wiped here, its owner does that.

        Raises:
            GatewayUnavailable: Nothing was sent.
        """
        ...

    async def look_up(self, account: ShopAccount, order_id: str) -> LookUp:
        """Ask what became of an order. Changes nothing, never raises for the network."""
        ...

    async def aclose(self) -> None:
        """Close the connections; later calls raise `GatewayUnavailable`."""
        ...


def gateway_order_id(order_id: str, attempt: int) -> str:
    """Name the attempt at the gateway: ``order_id``, then ``order_id-2``, ``order_id-3`` …

    Args:
        order_id: The merchant's order id.
        attempt: Counted across all sessions of that order, from 1.

    Raises:
        ValueError: `order_id` is not a merchant's order id, or `attempt` is out of range.
    """
    if not MERCHANT_ORDER_ID_PATTERN.fullmatch(order_id):
        raise ValueError("order_id: 1 to 24 of A-Z a-z 0-9 -, not ending in - and one or two digits")
    if not 1 <= attempt <= MAX_ATTEMPTS:
        raise ValueError(f"attempt: 1 to {MAX_ATTEMPTS}")
    return order_id if attempt == 1 else f"{order_id}-{attempt}"
