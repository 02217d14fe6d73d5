"""What passes between the edge and its policy: requests, verdicts, messages for the ladder, names to resolve.

Values only. They hold no pointer into PJSIP's memory, and their ``repr`` leaves out bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar, Final, Literal, TypeAlias

_DROP: Final = 0
_PASS: Final = 1


@dataclass(frozen=True, slots=True)
class EdgeRequest:
    """A SIP request as it came in, before PJSIP has answered or remembered anything of it.

    Attributes:
        transport: The kind of transport it came by.
        source_address: Numeric address of the sender, IPv6 without brackets.
        source_port: The sender's port.
        local_address: Numeric address it arrived at; the wildcard when the socket is bound to that.
        local_port: Port it arrived at.
        raw: The message's own bytes. An INFO's body may hold a customer's keys: never log them.
        method: Method in the sender's spelling.
        call_id: Value of Call-ID.
        header_count: Headers as PJSIP parsed them; a comma-separated list counts each of its values.
        crypto_count: Lines that begin with ``a=crypto``, in whatever kind of body.
        has_replaces: Whether a Replaces header is there (RFC 3891).
        has_to_tag: Whether To carries a tag, so that the sender thinks of a dialog.
        in_dialog: Whether that dialog exists here.
        in_transaction: Whether it is a retransmission, or the ACK or CANCEL of an INVITE that is alive.
    """

    transport: str
    source_address: str
    source_port: int
    local_address: str
    local_port: int
    raw: bytes
    method: str
    call_id: str
    header_count: int
    crypto_count: int
    has_replaces: bool
    has_to_tag: bool
    in_dialog: bool
    in_transaction: bool

    def __repr__(self) -> str:
        """Leave the bytes out: a body may carry keys."""
        return (
            f"EdgeRequest({self.method!r} from {self.transport} {self.source_address} "
            f"port {self.source_port}, {len(self.raw)} bytes, call_id={self.call_id!r})"
        )


class EdgeDirection(Enum):
    """Which way a message went, as seen from the switch."""

    RECEIVED = "received"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class EdgeMessage:
    """A SIP message on the wire, for the ladder. ``raw`` is byte for byte what was received or is sent."""

    direction: EdgeDirection
    transport: str
    remote_address: str
    remote_port: int
    local_address: str
    local_port: int
    raw: bytes
    call_id: str

    def __repr__(self) -> str:
        """Leave the bytes out: a body may carry keys."""
        return (
            f"EdgeMessage({self.direction.value}, {self.transport} {self.remote_address} "
            f"port {self.remote_port}, {len(self.raw)} bytes, call_id={self.call_id!r})"
        )


@dataclass(frozen=True, slots=True)
class EdgeVerdict:
    """What becomes of a request: ``EdgeVerdict.PASS``, ``EdgeVerdict.DROP`` or ``EdgeVerdict.answer(503)``.

    An answer is stateless: no transaction is kept, and a retransmission is asked about again. An ACK is never
    answered; the verdict then means drop.
    """

    code: int
    retry_after_s: int = 0

    PASS: ClassVar[EdgeVerdict]
    DROP: ClassVar[EdgeVerdict]

    @classmethod
    def answer(cls, status: int, *, retry_after_s: int = 0) -> EdgeVerdict:
        """Answer with a final status, and with Retry-After when ``retry_after_s`` is positive.

        Raises:
            ValueError: The status is not within 300 to 699, or the delay is not within 0 to 86,400 s.
        """
        if not 300 <= status <= 699:
            raise ValueError(f"{status} is no status to refuse a request with")
        if not 0 <= retry_after_s <= 86_400:
            raise ValueError(f"Retry-After of {retry_after_s} s")
        return cls(status, retry_after_s)


EdgeVerdict.PASS = EdgeVerdict(_PASS)
EdgeVerdict.DROP = EdgeVerdict(_DROP)


@dataclass(frozen=True, slots=True)
class EdgeCounters:
    """Counts since ``start()``. Each parsed request is in exactly one of the first five.

    Datagrams of less than 32 bytes are in none: PJSIP's UDP transport ignores them.

    Attributes:
        passed: Requests handed on to PJSIP.
        dropped: Requests dropped by verdict, and ACKs that a verdict would have answered.
        answered: Requests answered by verdict.
        unanswered: Requests whose answer PJSIP could not send.
        failed_closed: Requests dropped because there was no handler, or its verdict was none.
        unparsed: Data that PJSIP could not read as SIP; it never reaches a handler.
        keepalives: Blank lines before a message or alone (RFC 5626 §3.5.1).
        foreign: Data from outside ``set_sources()``, thrown away unparsed.
        responses: Responses received.
        sent: Messages handed to a transport.
        handler_failures: Exceptions that a handler raised; those of the request handler dropped the request.
    """

    passed: int
    dropped: int
    answered: int
    unanswered: int
    failed_closed: int
    unparsed: int
    keepalives: int
    foreign: int
    responses: int
    sent: int
    handler_failures: int


@dataclass(frozen=True, slots=True)
class EdgeLookup:
    """A host name that PJSIP wants to send a request to: a peer's Contact, a Record-Route, a request's URI.

    Attributes:
        lookup_id: To be handed to ``EdgeBinding.resolved()``.
        name: The name as the peer wrote it; it may be anything.
        port: The port given with it, or None, and then SRV applies (RFC 3263 §4.2).
        transport: ``UDP``, ``TCP`` or ``TLS``, or None when none was given, and then NAPTR applies (§4.1).
        is_secure: Whether the URI asks for TLS.
    """

    lookup_id: int
    name: str
    port: int | None
    transport: str | None
    is_secure: bool


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    """One place to try, for a name that PJSIP asked for."""

    address: IPv4Address | IPv6Address
    port: int
    transport: Literal["UDP", "TCP", "TLS"]


LookupHandler: TypeAlias = Callable[[EdgeLookup], None]
RequestHandler: TypeAlias = Callable[[EdgeRequest], EdgeVerdict]
TapHandler: TypeAlias = Callable[[EdgeMessage], None]
FailureHandler: TypeAlias = Callable[[BaseException], None]
SourceNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class EdgeBuild:
    """What the loaded pjsua2 was built with (``docker/pjsua2/config_site.h``).

    Attributes:
        pj_version: pjproject's version.
        ioqueue: How it waits for sockets; ``epoll`` carries more than 64 of them.
        max_calls: The most that ``uaConfig.maxCalls`` can be.
        max_packet_bytes: The longest message.
        max_handles: Sockets at most.
        max_log_level: Code that logs above this level is not in the build; whole messages come at 4.
        has_tls: Whether there is a TLS transport.
        has_ipv6: Whether there are IPv6 transports.
        has_asserts: Whether a failed assertion aborts the process, which a packet can bring about.
    """

    pj_version: str
    ioqueue: str
    max_calls: int
    max_packet_bytes: int
    max_handles: int
    max_log_level: int
    has_tls: bool
    has_ipv6: bool
    has_asserts: bool
