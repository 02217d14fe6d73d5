"""Between `edge.c`'s binding and the policy: requests in, verdicts out, messages to the ladder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

from sipivr.ua.edge import Action, EdgePolicy, EdgeRefusal, EdgeRequest, Verdict
from sipivr.ua.edge_binding import EdgeBinding
from sipivr.ua.edge_types import EdgeAddress, EdgeDirection, EdgeLookup, EdgeMessage, EdgeVerdict
from sipivr.ua.edge_types import EdgeRequest as BoundRequest
from sipivr.ua.identity import InviteReading, read_invite
from sipivr.ua.ladder import LadderEntry, Way, ladder_entry
from sipivr.ua.message import SIPMessageError, parse_message
from sipivr.ua.resolve import Destination, ResolveError

LookUp: TypeAlias = Callable[[str, int | None, str | None, bool], Awaitable[Sequence[Destination]]]

_MAX_LOOKUPS: Final = 64
_MAX_ADDRESSES: Final = 8
#: Refusals of which the message is not read.
_UNREAD: Final = frozenset({"rate", "too_large", "too_many_headers"})


class EdgeAdapter:
    """Runs the binding with a policy.

    Args:
        policy: decides.
        on_refusal: told of new INVITEs of known trunks that were answered by the edge.
        on_message: told of each SIP message on the wire, either way.
        on_failure: told what a handler raised (the request was dropped then).
        look_up: finds the addresses of a name: (name, port, transport, secure); raises `ResolveError`.
    """

    def __init__(
        self,
        policy: EdgePolicy,
        on_refusal: Callable[[EdgeRefusal], None],
        on_message: Callable[[EdgeMessage], None],
        on_failure: Callable[[BaseException], None],
        look_up: LookUp,
    ) -> None:
        self._policy = policy
        self._on_refusal = on_refusal
        self._on_message = on_message
        self._on_failure = on_failure
        self._look_up = look_up
        self._lookups: set[asyncio.Task[None]] = set()
        self._binding = EdgeBinding(on_failure)

    def start(self) -> None:
        """Puts the gate in place, before the first transport."""
        self._binding.start(self._decide, self._on_message)
        self._binding.set_lookup(self._asked)
        self._policy.on_change(self._set_sources)
        self._set_sources()

    def stop(self) -> None:
        """Takes the gate away, after the last transport."""
        for task in self._lookups:
            task.cancel()
        self._binding.stop()

    def foreign(self) -> int:
        """Packets of sources that may not be heard, thrown away unparsed; and messages that were no SIP."""
        counters = self._binding.counters()
        return counters.foreign + counters.unparsed

    def _set_sources(self) -> None:
        self._binding.set_sources(self._policy.sources)

    def _asked(self, lookup: EdgeLookup) -> None:
        if len(self._lookups) >= _MAX_LOOKUPS:
            self._binding.resolved(lookup.lookup_id, ())
            return
        task = asyncio.get_running_loop().create_task(self._answer(lookup))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _answer(self, lookup: EdgeLookup) -> None:
        addresses: list[EdgeAddress] = []
        try:
            found = await self._look_up(lookup.name, lookup.port, lookup.transport, lookup.is_secure)
            addresses = [EdgeAddress(ip_address(d.address), d.port, d.transport.value) for d in found]
        except ResolveError:
            # An empty answer fails the one request that asked.
            pass
        except Exception as error:
            self._on_failure(error)
        self._binding.resolved(lookup.lookup_id, addresses[:_MAX_ADDRESSES])

    def _decide(self, bound: BoundRequest) -> EdgeVerdict:
        request = EdgeRequest(
            transport=bound.transport,
            source_address=bound.source_address,
            source_port=bound.source_port,
            method=bound.method,
            raw=bound.raw,
            call_id=bound.call_id,
            headers=bound.header_count,
            crypto_lines=bound.crypto_count,
            replaces=bound.has_replaces,
            to_tag=bound.has_to_tag,
            in_transaction=bound.in_transaction,
        )
        verdict = self._policy.decide(request, time.monotonic())
        if verdict.action is Action.PASSED:
            return EdgeVerdict.PASS
        if verdict.action is Action.DROPPED:
            return EdgeVerdict.DROP
        if request.method == "INVITE" and not request.to_tag:
            self._on_refusal(_refusal(request, verdict))
        return EdgeVerdict.answer(verdict.status, retry_after_s=verdict.retry_after_s)


def _refusal(request: EdgeRequest, verdict: Verdict) -> EdgeRefusal:
    return EdgeRefusal(
        trunk=verdict.trunk,
        source_address=request.source_address,
        call_id=request.call_id[:256],
        status=verdict.status,
        reason=verdict.reason,
        at=time.time(),
        # Who floods, or sends what is too long, is not read.
        reading=reading_of(request.raw) if verdict.reason not in _UNREAD else None,
    )


def reading_of(raw: bytes) -> InviteReading | None:
    """Who calls whom, of an INVITE that becomes no call; None where it is no message at all."""
    try:
        return read_invite(parse_message(raw))
    except SIPMessageError:
        return None


def message_entry(message: EdgeMessage) -> LadderEntry | None:
    """The ladder's view of a message on the wire."""
    return ladder_entry(
        message.raw,
        at=time.time(),
        way=Way.SENT if message.direction is EdgeDirection.SENT else Way.RECEIVED,
        transport=message.transport,
        local=_host_port(message.local_address, message.local_port),
        remote=_host_port(message.remote_address, message.remote_port),
    )


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
