"""What requests may hold, checked to the last field.

Unknown fields are refused and nothing is coerced; free text that looks like a card number is refused too.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sipivr.store import records

# Runs of 14 to 19 digits, as people write card numbers, that begin like one of the brands a shop can take.
_DIGITS: Final = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){13,18}(?![0-9])")
_CARD_START: Final = re.compile(r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|35|3(?:0[0-5]|[689])|6")


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _no_card(text: str) -> str:
    """Free text is where an integrator's mistake would put a card number: it stops here (PCI DSS 3.3.1)."""
    for match in _DIGITS.finditer(text):
        digits = re.sub("[ -]", "", match.group())
        if _CARD_START.match(digits) and _luhn(digits):
            raise PydanticCustomError("card_data", "This looks like a card number; it was not stored.")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("control_characters", "Control characters are not allowed.")
    return text


Text = Annotated[str, Field(strict=True), AfterValidator(_printable), AfterValidator(_no_card)]
Identifier = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class Input(BaseModel):
    """Base of request bodies and queries."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _order_id(text: str) -> str:
    if re.search(r"-[0-9]{1,2}$", text):
        raise PydanticCustomError(
            "order_id_suffix", "Must not end in `-` and one or two digits: the switch numbers attempts so."
        )
    return text


OrderID = Annotated[
    str,
    Field(strict=True, pattern=r"^[A-Za-z0-9-]{1,24}$", description="The merchant's order, 24 at most."),
    AfterValidator(_order_id),
]


class PaymentSessionCreate(Input):
    """What is to be paid."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"shop": "shop_9f2c", "order_id": "A1001", "amount": 12300, "metadata": {"desk": "3"}}
            ]
        }
    )

    shop: Identifier
    order_id: OrderID
    amount: Annotated[int, Field(strict=True, ge=1, le=99_999_999, description="In minor units.")]
    currency: Annotated[str, Field(strict=True, pattern="^[A-Z]{3}$")] = "JPY"
    language: Annotated[
        str | None,
        Field(pattern="^[a-z]{2}$", description="What the customer hears; the number's if absent."),
    ] = None
    number: Annotated[
        Identifier | None, Field(description="The number to dial; one of the merchant's if absent.")
    ] = None
    mask: Annotated[
        records.Mask | None,
        Field(
            description="What operators hear of the customer while an inline call captures; the merchant's if absent."
        ),
    ] = None
    caller: Annotated[
        str | None,
        Field(
            strict=True,
            pattern=r"^\+[1-9][0-9]{2,14}$",
            description="The telephone that the transfer will come from, E.164 as your PBX presents it: it takes the"
            " session without a keyed identification number, unless another open session names it too. Name only"
            " numbers that belong to one operator or one customer.",
        ),
    ] = None
    metadata: Annotated[
        dict[Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,40}$")], Annotated[Text, Field(max_length=500)]],
        Field(max_length=20, description="Up to 20 values of your own. Never card data."),
    ] = {}


class CallerNumberCreate(Input):
    """A caller whose transfers are taken."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"number": "+81312340001"}]})

    number: Annotated[
        str,
        Field(strict=True, pattern=r"^\+[1-9][0-9]{2,14}$", description="E.164, as your PBX presents it."),
    ]


class MerchantChange(Input):
    """Settings of the merchant; what is absent stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"mask": "tone"}]})

    mask: Annotated[
        records.Mask | None,
        Field(
            description="What operators hear of customers during a capture. `clamp` must have been allowed."
        ),
    ] = None
    bridge_mask: Annotated[
        records.BridgeMask | None,
        Field(description="What plays into the bridge of a transferred call during a capture."),
    ] = None


class Empty(Input):
    """A body with nothing in it."""


class CallCreation(Input):
    """A customer whom we call."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"number": "num_01hzy", "to": "+819012345678", "payment_session": "ps_01hzy"}]
        }
    )

    number: Annotated[
        Text, Field(min_length=1, max_length=64, description="Of yours, that the call is made from.")
    ]
    to: Annotated[Text, Field(pattern=r"^\+[1-9][0-9]{2,14}$", description="The customer's number in E.164.")]
    payment_session: Annotated[
        Text | None,
        Field(
            min_length=1,
            max_length=64,
            description="What the customer is called for; without it an identification number is asked for."
            " Not on inline numbers, where the operator begins the capture.",
        ),
    ] = None
    ring_s: Annotated[int, Field(ge=10, le=120, description="Seconds before it counts as no answer.")] = 45


class CaptureStart(Input):
    """Which payment session is to be captured."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payment_session": "ps_01hzy"}]})

    payment_session: Annotated[Text, Field(min_length=1, max_length=64)]


class Destination(Input):
    """Where an operator is rung."""

    target: Annotated[
        Text,
        Field(
            min_length=3,
            max_length=200,
            description="`sip:user@host:port`, or a number in E.164 that the trunk reaches.",
        ),
    ]
    trunk: Annotated[Text, Field(min_length=1, max_length=64)]
    ring_s: Annotated[int, Field(ge=3, le=120, description="Seconds before the next destination.")] = 20


class NumberRules(Input):
    """What happens on a number's inline calls."""

    destinations: Annotated[
        list[Destination], Field(max_length=10, description="Rung one after another until one answers.")
    ] = []
    operator_heard: Annotated[
        bool, Field(description="During a capture the customer goes on hearing the operator.")
    ] = True
    relay_keys: Annotated[
        bool,
        Field(
            description="Before a payment session is attached the operator's side hears keys (for PBX menus)."
        ),
    ] = False
    outbound_trunk: Annotated[
        Text | None,
        Field(
            min_length=1, max_length=64, description="Trunk that customers are called by from this number."
        ),
    ] = None


class NumberChange(Input):
    """The number's rules, as a whole."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rules": {"destinations": [{"target": "sip:200@192.0.2.20:5060", "trunk": "trk_pbx"}]}}
            ]
        }
    )

    rules: NumberRules


Scope = Literal[
    "payment_sessions:read",
    "payment_sessions:write",
    "calls:read",
    "calls:write",
    "calls:dial",
    "payments:read",
    "payments:write",
    "refunds:write",
    "events:read",
    "shops:read",
    "numbers:read",
    "numbers:write",
    "caller_numbers:read",
    "caller_numbers:write",
    "merchant:read",
    "merchant:write",
    "metrics:read",
]


class APIKeyCreate(Input):
    """A new key for one of the merchant's systems."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "order desk", "scopes": ["payment_sessions:write", "payment_sessions:read"]}
            ]
        }
    )

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]
    mode: Annotated[Literal["test", "live"] | None, Field(description="The merchant's mode if absent.")] = (
        None
    )


class PageQuery(Input):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=100, description="Objects a page.")] = 20
    starting_after: Annotated[
        Identifier | None, Field(description="The id of the last object of the page before.")
    ] = None


class PaymentSessionQuery(PageQuery):
    """Filters of payment sessions."""

    status: records.SessionStatus | None = None
    order_id: Annotated[str | None, Field(max_length=27)] = None
    shop: Identifier | None = None


_QueryTime = Annotated[
    str | None,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$",
        description="ISO 8601 UTC.",
        examples=["2026-11-23T00:00:00Z"],
    ),
]


class CallQuery(PageQuery):
    """Filters of calls."""

    status: records.CallStatus | None = None
    outcome: Annotated[str | None, Field(max_length=40)] = None
    refusal: Annotated[str | None, Field(max_length=40)] = None
    number: Identifier | None = None
    session: Identifier | None = None
    started_from: _QueryTime = None
    started_before: _QueryTime = None


class PaymentQuery(PageQuery):
    """Filters of payments."""

    status: records.PaymentStatus | None = None
    session: Identifier | None = None
    order_id: Annotated[str | None, Field(max_length=27)] = None
    shop: Identifier | None = None
    created_from: _QueryTime = None
    created_before: _QueryTime = None
