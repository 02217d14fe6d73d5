"""Rows of `switch.db` as values: frozen, typed, free of SQL. Times are ISO 8601 UTC; money is minor units.

Nothing of a card is here but brand, last 4 digits and the gateway's references (PCI DSS 3.3.1, 3.4.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from sipivr.store.number_rules import NumberRules
from sipivr.store.trunk_rules import TrunkRules


class Mode(enum.StrEnum):
    """Test data and live data never meet; test mode takes only the simulator's cards."""

    TEST = "test"
    LIVE = "live"


class Role(enum.StrEnum):
    """What a principal is."""

    PLATFORM = "platform"
    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    API_KEY = "api_key"


class NumberUse(enum.StrEnum):
    """Which callers a number admits (design: admission)."""

    TRANSFER_IN = "transfer_in"
    INLINE = "inline"
    SELF_SERVICE = "self_service"


class TrunkSRTP(enum.StrEnum):
    """Whether a trunk's media is encrypted (SRTP, keys by SDES)."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Mask(enum.StrEnum):
    """What an operator's leg hears of the customer during a capture (design: masks)."""

    SILENCE = "silence"
    COMFORT_NOISE = "comfort_noise"
    TONE = "tone"
    SCRAMBLE = "scramble"
    CLAMP = "clamp"


class BridgeMask(enum.StrEnum):
    """What the switch plays into a merchant's own bridge during a capture; its other parties hear the keys."""

    DECOY = "decoy"
    COMFORT_NOISE = "comfort_noise"


class SessionStatus(enum.StrEnum):
    """A payment session, from registration to its end."""

    OPEN = "open"
    CLAIMED = "claimed"
    AUTHORIZING = "authorizing"
    UNKNOWN = "unknown"
    PAID = "paid"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELED = "canceled"


class PaymentStatus(enum.StrEnum):
    """One attempt to charge: an intent, then its outcome (design: exactly once)."""

    INTENT = "intent"
    ENTERED = "entered"
    EXECUTING = "executing"
    UNKNOWN = "unknown"
    APPROVED = "approved"
    DECLINED = "declined"
    NOT_CHARGED = "not_charged"


class CallStatus(enum.StrEnum):
    """Where a call stands; `refused` and `ended` are final."""

    RINGING = "ringing"
    ACTIVE = "active"
    CAPTURING = "capturing"
    ENDED = "ended"
    REFUSED = "refused"


class RefusalReason(enum.StrEnum):
    """Why an identification number was not accepted. Callers get one and the same message for all of them."""

    WRONG = "wrong"
    EXPIRED = "expired"
    USED = "used"
    FOREIGN = "foreign"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, for the audit log: a principal's id (or `system`) and where it came from."""

    principal: str
    source: str = ""


SYSTEM = Actor("system")


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The keyed identification number does not tie this call to a payment session."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class Merchant:
    """A merchant of the platform. `identification_digits` counts the check digit."""

    id: str
    name: str
    mode: Mode
    language: str
    active: bool
    identification_digits: int = 6
    mask: Mask = Mask.COMFORT_NOISE
    bridge_mask: BridgeMask = BridgeMask.DECOY
    clamp_allowed: bool = False
    """Whether a platform administrator allows `Mask.CLAMP`, which lets spoken digits pass."""

    def mask_of(self, session: PaymentSession) -> Mask:
        """The mask of a session's capture: its own or the merchant's, and no clamp that is not allowed now."""
        mask = session.mask or self.mask
        return Mask.COMFORT_NOISE if mask is Mask.CLAMP and not self.clamp_allowed else mask


@dataclass(frozen=True, slots=True)
class Number:
    """A telephone number that customers or PBXs dial, E.164."""

    id: str
    merchant: str
    e164: str
    use: NumberUse
    line_limit: int
    language: str
    active: bool
    rules: NumberRules = field(default_factory=NumberRules)


@dataclass(frozen=True, slots=True)
class CallerNumber:
    """A caller whose transfers a merchant's numbers take. The number itself is sealed; `display` is its masked form."""

    id: str
    merchant: str
    display: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop (ShopID) of a merchant at one gateway connector. Its password is `read.shop_password`'s
    alone.
    """

    id: str
    merchant: str
    name: str
    name_spoken: dict[str, str]
    gateway_shop_id: str
    connector: str
    brands: tuple[str, ...]
    security_code_required: bool
    job: str
    currency: str
    active: bool


@dataclass(frozen=True, slots=True)
class Connector:
    """Where a card may be sent: platform administrators only (invariant 6)."""

    id: str
    kind: str
    url: str
    mode: Mode
    active: bool
    tls_pin: str | None = None
    """SHA-256 of public keys that the host may show, hexadecimal, separated by commas; None: any that TLS accepts."""
    networks: tuple[str, ...] = ()
    """Addresses that the host may have; none: any that its kind allows."""

    @property
    def pins(self) -> tuple[str, ...]:
        """The pinned keys."""
        return tuple(self.tls_pin.split(",")) if self.tls_pin else ()


@dataclass(frozen=True, slots=True)
class ConnectorProposal:
    """A connector as one administrator proposes it; `decision` is `confirmed`, `rejected` or None."""

    id: str
    connector: str
    kind: str
    url: str
    mode: Mode
    pins: tuple[str, ...]
    networks: tuple[str, ...]
    active: bool
    proposed_by: str
    proposed_at: str
    decided_by: str | None = None
    decided_at: str | None = None
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class Trunk:
    """A peer that may send us SIP, by source network."""

    id: str
    name: str
    networks: tuple[str, ...]
    merchant: str | None
    trust_identity: bool
    rules: TrunkRules = field(default_factory=TrunkRules)
    active: bool = True
    srtp: TrunkSRTP = TrunkSRTP.OFF


@dataclass(frozen=True, slots=True)
class Principal:
    """Who may give commands; `sipivr` checks each one (invariant 7)."""

    id: str
    role: Role
    merchant: str | None
    name: str
    extension: str | None
    permissions: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class PaymentSession:
    """What an operator or a merchant's system registers before the customer is transferred."""

    id: str
    merchant: str
    shop: str
    order_id: str
    amount: int
    currency: str
    language: str
    status: SessionStatus
    mode: Mode
    metadata: dict[str, str]
    created_by: str
    created_at: str
    version: int
    identification_number: str | None = None
    identification_number_expires_at: str | None = None
    dial: str | None = None
    call: str | None = None
    payment: str | None = None
    closed_at: str | None = None
    mask: Mask | None = None
    """Of this session's capture on an inline call; None: the merchant's."""
    caller: str | None = None
    """Where its transfer will come from, masked; None: the identification number is keyed."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened in a call: `type` in the words of the design, `detail` without personal
    data.
    """

    at: str
    type: str
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LadderEntry:
    """One SIP message of a call, already reduced to the allow-list of headers (design: call records).

    `direction` is `in` or `out`; `summary` is the start line's method or status; `text` the reduced message.
    """

    call: str
    at: str
    direction: str
    peer: str
    summary: str
    text: str
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class LegQuality:
    """How a leg sounded, None where it is not known.

    `mos` (ITU-T G.107) is of what we heard, `remote_mos` of what the other end heard; that and the rest come from
    the other end's RTCP.
    """

    mos: float | None = None
    remote_mos: float | None = None
    round_trip_ms: float | None = None
    remote_lost: int | None = None
    remote_jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One SIP dialog of a call with its RTP figures; the last five are those of `LegQuality`."""

    id: str
    call: str
    party: str
    sip_call_id: str
    trunk: str | None
    codec: str | None
    dtmf: str | None
    invited_at: str | None
    ringing_at: str | None
    answered_at: str | None
    ended_at: str | None
    sip_status: int | None
    ended_by: str | None
    rtp: dict[str, float] = field(default_factory=dict)
    mos: float | None = None
    remote_mos: float | None = None
    round_trip_ms: float | None = None
    remote_lost: int | None = None
    remote_jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One customer's presence on the switch; refused calls leave one too.

    `direction` says who called: the customer, or we (`outbound`). `caller` is the customer's number either way, masked
    for display (`+81•••••1234`); the whole number is sealed in the database and opened by `sipivr` alone
    (`read.caller_number`). With `caller_withheld` nothing of it was stored.
    """

    id: str
    merchant: str | None
    number: str | None
    called: str
    caller: str | None
    caller_withheld: str | None
    session: str | None
    status: CallStatus
    outcome: str | None
    refusal: str | None
    sip_status: int | None
    mode: Mode | None
    started_at: str
    answered_at: str | None
    capture_started_at: str | None
    capture_ended_at: str | None
    ended_at: str | None
    ended_by: str | None
    node: str
    version: int
    direction: str = "inbound"
    legs: tuple[Leg, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Payment:
    """One charge: the intent that was durable first, and what the gateway said."""

    id: str
    merchant: str
    session: str
    call: str | None
    shop: str
    order_id: str
    gateway_order_id: str
    attempt: int
    amount: int
    currency: str
    mode: Mode
    status: PaymentStatus
    brand: str | None
    last4: str | None
    access_id: str | None
    approval_number: str | None
    transaction_id: str | None
    forward: str | None
    error_codes: tuple[str, ...]
    error_category: str | None
    created_at: str
    executed_at: str | None
    closed_at: str | None
    version: int


class ChangeKind(enum.StrEnum):
    """What is done with a payment after its charge."""

    SETTLE = "settle"
    VOID = "void"
    REFUND = "refund"
    AMOUNT = "amount"


class ChangeStatus(enum.StrEnum):
    """Where a change of a payment stands."""

    PENDING = "pending"
    SENT = "sent"
    UNKNOWN = "unknown"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PaymentChange:
    """A change of a payment. `amount` is what a refund gives back (None: all) or what the payment shall be."""

    id: str
    payment: str
    merchant: str
    kind: ChangeKind
    amount: int | None
    amount_before: int
    status: ChangeStatus
    job: str | None
    error_codes: tuple[str, ...]
    reason: str | None
    requested_by: str
    created_at: str
    sent_at: str | None
    closed_at: str | None
    version: int

    @property
    def new_amount(self) -> int:
        """What the payment's amount is once this is done."""
        if self.kind is ChangeKind.AMOUNT and self.amount is not None:
            return self.amount
        if self.kind is ChangeKind.REFUND and self.amount is not None:
            return self.amount_before - self.amount
        return self.amount_before


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened, for the API's event list, SSE and webhooks. `sequence` never repeats."""

    sequence: int
    id: str
    type: str
    merchant: str | None
    mode: Mode | None
    created_at: str
    object: dict[str, object]
