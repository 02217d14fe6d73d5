"""What answers hold, made from records.

They leave out what a merchant has no use for (the gateway's access id) and have no field that could hold card
data. Together with `inputs` the only pydantic of the project.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sipivr.store import records

T = TypeVar("T")

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-23T06:00:00.000Z"])]
MinorUnits = Annotated[int, Field(description="In the currency's minor unit (JPY has none: yen).")]


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
    mask: Annotated[records.Mask | None, Field(description="Null: the merchant's.")]
    caller: Annotated[
        str | None, Field(description="Whose transfer takes it, masked.", examples=["+81•••••1234"])
    ]
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
    rtp: Annotated[
        dict[str, float],
        Field(
            description="Counters of the leg's RTP, from its end on; empty before.",
            examples=[{"packets_received": 5120, "packets_lost": 3, "jitter_ms": 1.4}],
        ),
    ]
    mos: Annotated[
        float | None,
        Field(description="Mean opinion score (ITU-T G.107) of what the switch heard.", examples=[4.38]),
    ]
    remote_mos: Annotated[
        float | None, Field(description="The same of what the other end heard, by its RTCP.", examples=[4.21])
    ]
    round_trip_ms: Annotated[float | None, Field(description="By RTCP.", examples=[38.2])]
    remote_lost: Annotated[
        int | None, Field(description="Packets of ours that the other end missed.", examples=[12])
    ]
    remote_jitter_ms: Annotated[
        float | None, Field(description="Jitter of our packets at the other end.", examples=[2.1])
    ]


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
    direction: Annotated[
        Literal["inbound", "outbound"], Field(description="Who called: the customer, or the switch.")
    ]
    number: str | None
    called: Annotated[str, Field(description="Your number, in both directions.")]
    caller: Annotated[
        str | None, Field(description="The customer's number, masked.", examples=["+81•••••1234"])
    ]
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


class CallerNumber(Output):
    """A caller whose transfers the merchant's numbers take."""

    object: Literal["caller_number"] = "caller_number"
    id: Annotated[str, Field(examples=["cn_51c0de51c0de51c0de51c0de51c0de51"])]
    number: Annotated[
        str, Field(description="Masked; the whole number is never shown.", examples=["+81•••••0001"])
    ]
    created_at: Time

    @model_validator(mode="before")
    @classmethod
    def _from_record(cls, value: Any) -> Any:
        if isinstance(value, records.CallerNumber):
            return {"id": value.id, "number": value.display, "created_at": value.created_at}
        return value


class Merchant(Output):
    """The merchant that the key is of."""

    object: Literal["merchant"] = "merchant"
    id: Annotated[str, Field(examples=["mer_2b7e"])]
    name: str
    mode: records.Mode
    language: str
    mask: Annotated[
        records.Mask,
        Field(description="What operators hear of customers during a capture on an inline call."),
    ]
    bridge_mask: Annotated[
        records.BridgeMask,
        Field(description="What plays into the bridge of a transferred call during a capture."),
    ]
    clamp_allowed: Annotated[bool, Field(description="Whether the platform allows the mask `clamp`.")]


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


class Destination(Output):
    """Where an operator is rung."""

    target: str
    trunk: str
    ring_s: int


class NumberRules(Output):
    """What happens on a number's inline calls."""

    destinations: list[Destination]
    operator_heard: bool
    relay_keys: bool
    outbound_trunk: str | None


class Number(Output):
    """A telephone number that customers or PBXs dial."""

    object: Literal["number"] = "number"
    id: str
    e164: str
    use: records.NumberUse
    line_limit: int
    language: str
    active: bool
    rules: NumberRules


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
