"""Python's side of ``edge.c``: the gate before PJSIP's own modules, and the tap for the SIP ladder.

``edge.c`` is linked into pjsua2's extension module (``docker/pjsua2``) and offers the C ABI of ``edge.h``;
this module is its ctypes mirror and nothing else. What may pass is decided in ``sipivr.ua.edge``.

States: *stopped* → ``start()`` → *running* → ``stop()`` → *stopped*. The module in C is one for the process,
as pjsua2's endpoint is, so at most one binding runs. ``start()`` comes after ``libInit`` and before the first
transport is created; ``stop()`` before ``libDestroy``. Everything, the handlers too, runs on the one thread
that calls ``libHandleEvents``.

The gate fails closed: without a handler and when a handler raises, a request is dropped and nothing is sent.
That is why the C value of "drop" is 0, which is what ctypes hands back for a callback that raised beyond our
reach.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Final, TypeAlias

from sipivr.ua import edge_abi

_IPV4_MAPPED_BITS: Final = 96


class EdgeError(Exception):
    """The edge cannot be used: it is not in the loaded pjsua2, or PJSIP refused it."""


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


EdgeVerdict.PASS = EdgeVerdict(edge_abi.PASS)
EdgeVerdict.DROP = EdgeVerdict(edge_abi.DROP)


@dataclass(frozen=True, slots=True)
class EdgeCounters:
    """Counts since ``start()``. Each parsed request is in exactly one of the first five.

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


RequestHandler: TypeAlias = Callable[[EdgeRequest], EdgeVerdict]
TapHandler: TypeAlias = Callable[[EdgeMessage], None]
FailureHandler: TypeAlias = Callable[[BaseException], None]
SourceNetwork: TypeAlias = IPv4Network | IPv6Network


def available() -> bool:
    """Tell whether the installed pjsua2 carries our ``edge.c``, in the version that this module speaks."""
    library = edge_abi.load()
    return library is not None and int(library.sipivr_edge_abi()) == edge_abi.EDGE_ABI


class EdgeBinding:
    """Runs the gate and the tap of the loaded pjsua2.

    Args:
        on_failure: Told of each exception that a handler raised, for the log. It must not raise; if it does,
            that exception is lost.

    Raises:
        EdgeError: The loaded pjsua2 has no ``edge.c``, or one of another ABI.
    """

    def __init__(self, on_failure: FailureHandler | None = None) -> None:
        library = edge_abi.load()
        if library is None:
            raise EdgeError("this pjsua2 has no edge.c: build it with docker/pjsua2/build.sh")
        abi = int(library.sipivr_edge_abi())
        if abi != edge_abi.EDGE_ABI:
            raise EdgeError(f"pjsua2's edge.c speaks ABI {abi}, not {edge_abi.EDGE_ABI}: build it again")
        library.sipivr_edge_set_request_callback.argtypes = [edge_abi.REQUEST_CB]
        library.sipivr_edge_set_request_callback.restype = None
        library.sipivr_edge_set_tap.argtypes = [edge_abi.TAP_CB]
        library.sipivr_edge_set_tap.restype = None
        library.sipivr_edge_get_counters.argtypes = [ctypes.POINTER(edge_abi.CCounters)]
        library.sipivr_edge_get_counters.restype = None
        library.sipivr_edge_set_sources.argtypes = [ctypes.POINTER(edge_abi.CNetwork), ctypes.c_size_t]
        self._library = library
        self._on_failure = on_failure
        self._handler_failures = 0
        self._request_handler: RequestHandler | None = None
        self._tap_handler: TapHandler | None = None
        # C keeps these pointers; the objects behind them live as long as the binding.
        self._request_cb = edge_abi.REQUEST_CB(self._decide)
        self._tap_cb = edge_abi.TAP_CB(self._show)

    def start(self, request_handler: RequestHandler, tap_handler: TapHandler | None = None) -> None:
        """Put the gate in place. Call after ``libInit`` and before any transport is created.

        Args:
            request_handler: Asked for a verdict on every request.
            tap_handler: Shown every message in both directions, dropped requests included. A received request
                is shown after its verdict.

        Raises:
            EdgeError: The endpoint is not initialised, or a gate is in place already.
        """
        status = int(self._library.sipivr_edge_start())
        if status != 0:
            raise EdgeError(f"PJSIP refused the edge: status {status}")
        self._handler_failures = 0
        self._request_handler = request_handler
        self._tap_handler = tap_handler
        self._library.sipivr_edge_set_request_callback(self._request_cb)
        if tap_handler is not None:
            self._library.sipivr_edge_set_tap(self._tap_cb)

    def stop(self) -> None:
        """Take the gate away. Call after the last transport is gone and before ``libDestroy``.

        It takes 100 ms once there was traffic, and must not be called from a handler.
        """
        self._library.sipivr_edge_stop()
        self._request_handler = None
        self._tap_handler = None

    def set_sources(self, networks: Iterable[SourceNetwork] | None) -> None:
        """Say who may be heard; data of all others is counted and thrown away before it is parsed.

        Args:
            networks: The networks that may be heard. None lifts the restriction (as after ``start()``); an
                empty list hears nobody.

        Raises:
            EdgeError: There is no memory for the list; the one before holds.
        """
        if networks is None:
            self._library.sipivr_edge_set_sources(None, 0)
            return
        entries = [_c_network(network) for network in networks]
        array = (edge_abi.CNetwork * max(1, len(entries)))(*entries)
        if self._library.sipivr_edge_set_sources(array, len(entries)) != 0:
            raise EdgeError(f"the list of {len(entries)} networks was not taken")

    def counters(self) -> EdgeCounters:
        """Read the counts since ``start()``; they stay readable after ``stop()``."""
        counters = edge_abi.CCounters()
        self._library.sipivr_edge_get_counters(ctypes.byref(counters))
        values = {str(field[0]): int(getattr(counters, field[0])) for field in edge_abi.CCounters._fields_}
        return EdgeCounters(**values, handler_failures=self._handler_failures)

    def _decide(self, pointer: ctypes._Pointer[edge_abi.CRequest]) -> int:
        try:
            if self._request_handler is None:
                return edge_abi.DROP
            c_request = pointer.contents
            verdict = self._request_handler(_request(c_request))
            c_request.retry_after_s = verdict.retry_after_s
            return int(verdict.code)
        except BaseException as error:
            # BaseException: ctypes would print whatever is let through here, and go on.
            self._report(error)
            return edge_abi.DROP

    def _show(self, pointer: ctypes._Pointer[edge_abi.CMessage]) -> None:
        try:
            if self._tap_handler is not None:
                self._tap_handler(_message(pointer.contents))
        except BaseException as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._handler_failures += 1
        if self._on_failure is not None:
            self._on_failure(error)


def _request(c_request: edge_abi.CRequest) -> EdgeRequest:
    return EdgeRequest(
        transport=edge_abi.text(c_request.transport),
        source_address=edge_abi.text(c_request.source_address),
        source_port=c_request.source_port,
        local_address=edge_abi.text(c_request.local_address),
        local_port=c_request.local_port,
        raw=edge_abi.bytes_at(c_request.raw, c_request.raw_length),
        method=edge_abi.text_at(c_request.method, c_request.method_length),
        call_id=edge_abi.text_at(c_request.call_id, c_request.call_id_length),
        header_count=c_request.header_count,
        crypto_count=c_request.crypto_count,
        has_replaces=bool(c_request.has_replaces),
        has_to_tag=bool(c_request.has_to_tag),
        in_dialog=bool(c_request.in_dialog),
        in_transaction=bool(c_request.in_transaction),
    )


def _message(c_message: edge_abi.CMessage) -> EdgeMessage:
    return EdgeMessage(
        direction=EdgeDirection.SENT if c_message.direction == edge_abi.SENT else EdgeDirection.RECEIVED,
        transport=edge_abi.text(c_message.transport),
        remote_address=edge_abi.text(c_message.remote_address),
        remote_port=c_message.remote_port,
        local_address=edge_abi.text(c_message.local_address),
        local_port=c_message.local_port,
        raw=edge_abi.bytes_at(c_message.raw, c_message.raw_length),
        call_id=edge_abi.text_at(c_message.call_id, c_message.call_id_length),
    )


def _c_network(network: SourceNetwork) -> edge_abi.CNetwork:
    entry = edge_abi.CNetwork()
    if isinstance(network, IPv4Network):
        address = b"\x00" * 10 + b"\xff\xff" + network.network_address.packed
        entry.prefix = network.prefixlen + _IPV4_MAPPED_BITS
    else:
        address = network.network_address.packed
        entry.prefix = network.prefixlen
    entry.address[:] = address
    return entry
