"""What crosses HTTP: requests that are checked to the last field, and answers made from records.

The only pydantic of the project. Requests refuse unknown fields and coerce nothing; answers leave out what
a merchant has no use for (the gateway's access id) and have no field that could hold card data.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sipivr.store import records

T = TypeVar("T")

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-23T06:00:00.000Z"])]
MinorUnits = Annotated[int, Field(description="In the currency's minor unit (JPY has none: yen).")]

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


# Requests


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
    metadata: Annotated[
        dict[Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,40}$")], Annotated[Text, Field(max_length=500)]],
        Field(max_length=20, description="Up to 20 values of your own. Never card data."),
    ] = {}


class Empty(Input):
    """A body with nothing in it."""


Scope = Literal[
    "payment_sessions:read",
    "payment_sessions:write",
    "calls:read",
    "payments:read",
    "events:read",
    "shops:read",
    "numbers:read",
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


# Answers


class Output(BaseModel):
    """Base of answers: attributes of a record by name."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, record: object) -> Self:
        """The answer that shows this record."""
        return cls.model_validate(record)


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool


class PaymentSession(Output):
    """What is to be paid, and how far that is."""

    object: Literal["payment_session"] = "payment_session"
    id: Annotated[str, Field(examples=["ps_3b1f7c"])]
    version: int
    mode: records.Mode
    status: records.SessionStatus
    shop: str
    order_id: str
    amount: MinorUnits
    currency: str
    language: str
    metadata: dict[str, str]
    identification_number: Annotated[
        str | None, Field(description="What the operator keys; null once retired.", examples=["482913"])
    ]
    identification_number_expires_at: Time | None
    dial: Annotated[str | None, Field(description="The number to dial, E.164.", examples=["+815012345678"])]
    call: str | None
    payment: str | None
    created_by: str
    created_at: Time
    closed_at: Time | None


class Leg(Output):
    """One SIP dialog of a call."""

    id: str
    party: str
    sip_call_id: str
    trunk: str | None
    codec: str | None
    dtmf: str | None
    invited_at: Time | None
    ringing_at: Time | None
    answered_at: Time | None
    ended_at: Time | None
    sip_status: int | None
    ended_by: str | None
    rtp: dict[str, float]


class TimelineEntry(Output):
    """Something that happened in a call."""

    at: Time
    type: str
    detail: dict[str, Any]


class CallSummary(Output):
    """One customer's presence on the switch."""

    object: Literal["call"] = "call"
    id: Annotated[str, Field(examples=["call_51c0de"])]
    version: int
    mode: records.Mode | None
    status: records.CallStatus
    outcome: str | None
    refusal: str | None
    sip_status: int | None
    number: str | None
    called: str
    caller: Annotated[str | None, Field(description="Masked.", examples=["+81•••••1234"])]
    caller_withheld: str | None
    session: str | None
    started_at: Time
    answered_at: Time | None
    capture_started_at: Time | None
    capture_ended_at: Time | None
    ended_at: Time | None
    ended_by: str | None
    node: str


class Call(CallSummary):
    """A call with its legs and its timeline."""

    legs: list[Leg]
    timeline: list[TimelineEntry]


class Payment(Output):
    """One attempt to charge."""

    object: Literal["payment"] = "payment"
    id: Annotated[str, Field(examples=["pay_77aa01"])]
    version: int
    mode: records.Mode
    status: records.PaymentStatus
    session: str
    call: str | None
    shop: str
    order_id: str
    gateway_order_id: str
    attempt: int
    amount: MinorUnits
    currency: str
    brand: str | None
    last4: str | None
    approval_number: str | None
    transaction_id: str | None
    forward: str | None
    error_codes: list[str]
    error_category: str | None
    created_at: Time
    executed_at: Time | None
    closed_at: Time | None


class Event(Output):
    """Something that happened. `data` is the object as it was then."""

    object: Literal["event"] = "event"
    id: Annotated[str, Field(examples=["evt_0a1b2c"])]
    type: Annotated[str, Field(examples=["payment.approved"])]
    mode: records.Mode | None
    created_at: Time
    data: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_record(cls, value: Any) -> Any:
        if isinstance(value, records.EventRecord):
            return {
                "id": value.id,
                "type": value.type,
                "mode": value.mode,
                "created_at": value.created_at,
                "data": value.object,
            }
        return value


class Shop(Output):
    """A shop of the merchant."""

    object: Literal["shop"] = "shop"
    id: Annotated[str, Field(examples=["shop_9f2c"])]
    name: str
    name_spoken: dict[str, str]
    gateway_shop_id: str
    brands: list[str]
    security_code_required: bool
    job: str
    currency: str
    active: bool


class Number(Output):
    """A telephone number that customers or PBXs dial."""

    object: Literal["number"] = "number"
    id: str
    e164: str
    use: records.NumberUse
    line_limit: int
    language: str
    active: bool


class APIKey(Output):
    """A key. `secret` is there once, in the answer that made it, and not in a replay of that answer."""

    object: Literal["api_key"] = "api_key"
    id: Annotated[str, Field(examples=["key_5d41402abc"])]
    name: str
    prefix: Annotated[str, Field(examples=["sk_test_Ab3dE6gH"])]
    mode: records.Mode
    principal: str
    scopes: list[str]
    created_by: str
    created_at: Time
    last_used_at: Time | None
    revoked_at: Time | None
    secret: str | None = None


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: Annotated[str, Field(description="A JSON pointer into the body, or a parameter's name.")]
    code: str | None = None
    message: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: Annotated[str, Field(examples=["/docs#not_found"])]
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(examples=["not_found"])]
    errors: list[FieldError]
    request_id: str
    related: Annotated[str | None, Field(description="The object that is in the way.")] = None
