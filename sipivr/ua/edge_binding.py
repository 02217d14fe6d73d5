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
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import Final

from sipivr.ua import edge_abi
from sipivr.ua.edge_types import (
    EdgeAddress,
    EdgeBuild,
    EdgeCounters,
    EdgeDirection,
    EdgeLookup,
    EdgeMessage,
    EdgeRequest,
    EdgeVerdict,
    FailureHandler,
    LookupHandler,
    RequestHandler,
    SourceNetwork,
    TapHandler,
)

__all__ = [
    "EdgeAddress",
    "EdgeBinding",
    "EdgeBuild",
    "EdgeCounters",
    "EdgeDirection",
    "EdgeError",
    "EdgeLookup",
    "EdgeMessage",
    "EdgeRequest",
    "EdgeVerdict",
    "FailureHandler",
    "LookupHandler",
    "RequestHandler",
    "SourceNetwork",
    "TapHandler",
    "available",
    "build_info",
]

_IPV4_MAPPED_BITS: Final = 96
_TRANSPORT_CODES: Final = {"UDP": 0, "TCP": 1, "TLS": 2}


class EdgeError(Exception):
    """The edge cannot be used: it is not in the loaded pjsua2, or PJSIP refused it."""


def available() -> bool:
    """Tell whether the installed pjsua2 carries our ``edge.c``, in the version that this module speaks."""
    library = edge_abi.load()
    return library is not None and int(library.sipivr_edge_abi()) == edge_abi.EDGE_ABI


def build_info() -> EdgeBuild | None:
    """Tell how the loaded pjsua2 was built; None when it is not ours. Needs no endpoint."""
    library = edge_abi.load()
    if library is None or int(library.sipivr_edge_abi()) != edge_abi.EDGE_ABI:
        return None
    edge_abi.declare(library)
    build = edge_abi.CBuild()
    library.sipivr_edge_get_build(ctypes.byref(build))
    return EdgeBuild(
        pj_version=edge_abi.text(build.pj_version),
        ioqueue=edge_abi.text(build.ioqueue),
        max_calls=build.max_calls,
        max_packet_bytes=build.max_packet_bytes,
        max_handles=build.max_handles,
        max_log_level=build.max_log_level,
        has_tls=bool(build.has_tls),
        has_ipv6=bool(build.has_ipv6),
        has_asserts=bool(build.has_asserts),
    )


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
        edge_abi.declare(library)
        self._library = library
        self._on_failure = on_failure
        self._handler_failures = 0
        self._request_handler: RequestHandler | None = None
        self._tap_handler: TapHandler | None = None
        # C keeps these pointers; the objects behind them live as long as the binding.
        self._request_cb = edge_abi.REQUEST_CB(self._decide)
        self._tap_cb = edge_abi.TAP_CB(self._show)
        self._lookup_cb = edge_abi.LOOKUP_CB(self._look_up)
        self._lookup_handler: LookupHandler | None = None

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
        self._lookup_handler = None

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

    def set_lookup(self, handler: LookupHandler) -> None:
        """Take over the host names that PJSIP meets; until then each of them fails at once.

        Args:
            handler: Told of a name. It returns at once, and calls ``resolved()`` then or later, in any case.

        Raises:
            EdgeError: The endpoint is not initialised.
        """
        self._lookup_handler = handler
        status = int(self._library.sipivr_edge_set_lookup(self._lookup_cb))
        if status != 0:
            raise EdgeError(f"PJSIP refused the resolver: status {status}")

    def resolved(self, lookup_id: int, addresses: Sequence[EdgeAddress]) -> bool:
        """Answer a lookup with the addresses in the order to try (up to 8 are), or with none for a failure.

        Returns:
            Whether PJSIP was still waiting for it.
        """
        array = (edge_abi.CAddress * max(1, len(addresses)))(*map(_c_address, addresses))
        return int(self._library.sipivr_edge_resolved(lookup_id, array, len(addresses))) == 0

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

    def _look_up(self, pointer: ctypes._Pointer[edge_abi.CLookup]) -> None:
        c_lookup = pointer.contents
        try:
            if self._lookup_handler is None:
                self.resolved(c_lookup.id, ())
                return
            self._lookup_handler(_lookup(c_lookup))
        except BaseException as error:
            self.resolved(c_lookup.id, ())
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


def _lookup(c_lookup: edge_abi.CLookup) -> EdgeLookup:
    return EdgeLookup(
        lookup_id=c_lookup.id,
        name=edge_abi.text_at(c_lookup.name, c_lookup.name_length),
        port=c_lookup.port or None,
        transport=edge_abi.text(c_lookup.transport) or None,
        is_secure=bool(c_lookup.is_secure),
    )


def _c_address(address: EdgeAddress) -> edge_abi.CAddress:
    entry = edge_abi.CAddress(port=address.port, transport=_TRANSPORT_CODES[address.transport])
    entry.address[:] = edge_abi.mapped(address.address)
    return entry


def _c_network(network: SourceNetwork) -> edge_abi.CNetwork:
    entry = edge_abi.CNetwork()
    entry.prefix = network.prefixlen + (_IPV4_MAPPED_BITS if isinstance(network, IPv4Network) else 0)
    entry.address[:] = edge_abi.mapped(network.network_address)
    return entry
