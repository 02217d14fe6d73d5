"""The edge's policy: what may pass into pjsip at all. Pure: `EdgePolicy.decide` is told the time.

pjsip answers much on its own before an application hears of it (OPTIONS, SUBSCRIBE, 100 to every INVITE, an
INVITE with `Replaces`), so each received request is judged here first. Nothing is ever sent to an address
that is neither a trunk's nor one that we have dialled, so the switch cannot be found by scanning nor used
as an amplifier.

State and owner: the loop thread owns the policy. Trunks are replaced as a whole (`replace_trunks`), dialled
addresses are added and released by the legs that need them, token buckets live in a bounded table.
"""

from __future__ import annotations

import enum
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Final

from sipivr.ua.identity import InviteReading

DEFAULT_METHODS: Final = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "INFO"})

#: The last quarter of a bucket is kept for calls that are up.
_SPARE: Final = 0.25

#: The top Via's branch names the transaction (RFC 3261 §17.2.3).
_BRANCH: Final = re.compile(rb"branch[ \t]*=[ \t]*([^;,\s]{1,128})", re.IGNORECASE)
#: How long a retransmitted INVITE can be under way (64·T1).
_LATE_S: Final = 32.0
_MAX_INVITES: Final = 100_000

#: RFC 3261 §18.2.2 would have us answer to wherever `maddr` points: a reflector, and a name to resolve.
_VIA_MADDR: Final = re.compile(rb"^(?:via|v)[ \t]*:[^\r\n]*;[ \t]*maddr[ \t]*=", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EdgeTrunk:
    """What the edge needs to know of a trunk.

    Attributes:
        trunk: the trunk's id; comes back in `IncomingInvite.trunk`.
        networks: source networks; the longest prefix over all trunks wins.
        extra_methods: allowed beyond `DEFAULT_METHODS`, e.g. `{"REFER"}`.
        allow_replaces: INVITE with `Replaces` may pass (RFC 3891).
        requests_per_s, burst: token bucket for each source address; a call takes about three requests.
    """

    trunk: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    extra_methods: frozenset[str] = frozenset()
    allow_replaces: bool = False
    requests_per_s: float = 5000.0
    burst: int = 10_000


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds for every message and table."""

    max_bytes: int = 8000
    max_headers: int = 100
    max_crypto_lines: int = 8
    max_sources: int = 10_000
    retry_after_s: int = 5


@dataclass(frozen=True, slots=True)
class EdgeRequest:
    """One received request before pjsip's transaction layer, as `edge.c` shows it.

    Attributes:
        transport: `UDP`, `TCP` or `TLS`.
        source_address, source_port: numeric, without brackets.
        method: as written.
        raw: the message's bytes.
        call_id: "" when there is none.
        headers: how many, each value of a list counted.
        crypto_lines: `a=crypto` lines in the body.
        replaces: it has a Replaces header.
        to_tag: its To has a tag, so it belongs to a dialog (RFC 3261 §12.2).
        in_transaction: a retransmission, or the ACK or CANCEL of an INVITE that is alive.
    """

    transport: str
    source_address: str
    source_port: int
    method: str
    raw: bytes
    call_id: str = ""
    headers: int = 0
    crypto_lines: int = 0
    replaces: bool = False
    to_tag: bool = False
    in_transaction: bool = False


class Action(enum.Enum):
    """What becomes of a request."""

    PASSED = "passed"
    DROPPED = "dropped"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision; `reason` names the counter it went to. `status` and `retry_after_s` for ANSWERED only."""

    action: Action
    reason: str
    status: int = 0
    retry_after_s: int = 0
    trunk: str | None = None


@dataclass(frozen=True, slots=True)
class EdgeRefusal:
    """A new INVITE of a known trunk that was refused before it became a leg; for the call records."""

    trunk: str | None
    source_address: str
    call_id: str
    status: int
    reason: str
    at: float
    reading: InviteReading | None = None
    """Who called whom, where that could be read and was worth the time."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class _Tables:
    """Trunks by prefix length, longest first: family → [(shift, {network bits: trunk})]."""

    by_family: dict[int, list[tuple[int, dict[int, EdgeTrunk]]]]


def _tables(trunks: tuple[EdgeTrunk, ...]) -> _Tables:
    lengths: dict[tuple[int, int], dict[int, EdgeTrunk]] = {}
    for trunk in trunks:
        for network in trunk.networks:
            shift = network.max_prefixlen - network.prefixlen
            bits = int(network.network_address) >> shift
            lengths.setdefault((network.version, shift), {}).setdefault(bits, trunk)
    by_family: dict[int, list[tuple[int, dict[int, EdgeTrunk]]]] = {4: [], 6: []}
    for (family, shift), table in sorted(lengths.items(), key=lambda item: item[0]):
        by_family[family].append((shift, table))
    return _Tables(by_family)


class EdgePolicy:
    """Decides on each received request. See the module's essay."""

    def __init__(self, limits: EdgeLimits = EdgeLimits()) -> None:
        self._limits = limits
        self._trunks: tuple[EdgeTrunk, ...] = ()
        self._tables = _tables(())
        self._found: OrderedDict[str, EdgeTrunk | None] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._dialled: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._invites: OrderedDict[tuple[str, str, bytes], float] = OrderedDict()
        self._refusing: str | None = None
        self._full = False
        self._on_change: Callable[[], None] | None = None

    def on_change(self, listener: Callable[[], None]) -> None:
        """`listener` is called whenever the set of sources that may be heard changes."""
        self._on_change = listener

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    @property
    def sources(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Everybody who may be heard at all: the trunks' networks and the dialled addresses."""
        dialled = (ip_network(address) for address in self._dialled)
        return (*(n for trunk in self._trunks for n in trunk.networks), *dialled)

    @property
    def counters(self) -> Mapping[str, int]:
        """Requests by reason since start; `passed` among them."""
        return MappingProxyType(self._counters)

    def replace_trunks(self, trunks: tuple[EdgeTrunk, ...]) -> None:
        """The trunks from now on. Calls of a removed one are heard no more; without any, silence."""
        self._trunks = trunks
        self._tables = _tables(trunks)
        self._found.clear()
        self._changed()

    def trunk_of(self, address: str) -> str | None:
        """The trunk of a source address."""
        trunk = self._lookup(address)
        return trunk.trunk if trunk else None

    def allow_dialled(self, address: str) -> None:
        """Requests inside dialogs may come from an address that we have dialled; see `release_dialled`."""
        address = _plain(address)
        self._dialled[address] += 1
        if self._dialled[address] == 1 and self._lookup(address) is None:
            self._changed()

    def release_dialled(self, address: str) -> None:
        """One leg to `address` is over."""
        address = _plain(address)
        self._dialled[address] -= 1
        if self._dialled[address] <= 0:
            del self._dialled[address]
            if self._lookup(address) is None:
                self._changed()

    def refuse_new(self, reason: str | None) -> None:
        """`"draining"`/`"overload"`: new INVITEs get 503 with Retry-After; None lifts it."""
        self._refusing = reason

    def set_full(self, full: bool) -> None:
        """Whether every call slot is taken; pjsua would answer 486 without telling anybody."""
        self._full = full

    def decide(self, request: EdgeRequest, now: float) -> Verdict:
        """What to do with a request; counts it. `now` is monotonic, in seconds. Never raises."""
        verdict = self._judge(request, now)
        self._counters[verdict.reason] += 1
        return verdict

    def _judge(self, request: EdgeRequest, now: float) -> Verdict:
        trunk = self._lookup(request.source_address)
        if trunk is None and not (request.to_tag and _plain(request.source_address) in self._dialled):
            return Verdict(Action.DROPPED, "unknown_source")
        new = request.method == "INVITE" and not request.to_tag and not request.in_transaction
        if not self._take_token(request.source_address, trunk, now, spare=_SPARE if new else 0.0):
            # A running call's peer sends again; a new one is told to come back.
            return self._answer(trunk, request, 503 if new else 0, "rate", self._limits.retry_after_s)
        if fault := self._fault(request, trunk):
            return self._answer(trunk, request, *fault)
        if new and (reason := self._refusing or ("full" if self._full else None)):
            return self._answer(trunk, request, 503, reason, self._limits.retry_after_s)
        if new and self._seen_before(request, now):
            return self._answer(trunk, request, 0, "late_retransmission")
        return Verdict(Action.PASSED, "passed", trunk=trunk.trunk if trunk else None)

    def _fault(self, request: EdgeRequest, trunk: EdgeTrunk | None) -> tuple[int, str] | None:
        """What is wrong with the message itself: the status for it and the counter."""
        limits = self._limits
        allowed = trunk.extra_methods if trunk else frozenset()
        if len(request.raw) > limits.max_bytes:
            fault = 513, "too_large"
        elif request.headers > limits.max_headers:
            fault = 400, "too_many_headers"
        elif request.crypto_lines > limits.max_crypto_lines:
            fault = 488, "too_many_crypto_lines"
        elif request.method not in DEFAULT_METHODS and request.method not in allowed:
            fault = 405, "method"
        elif _VIA_MADDR.search(request.raw):
            fault = 0, "via_maddr"
        elif request.replaces and not (trunk and trunk.allow_replaces):
            fault = 403, "replaces"
        else:
            return None
        return fault

    @staticmethod
    def _answer(
        trunk: EdgeTrunk | None, request: EdgeRequest, status: int, reason: str, retry_after_s: int = 0
    ) -> Verdict:
        """An answer with `status`; 0 drops."""
        name = trunk.trunk if trunk else None
        # RFC 3261 §17.1.1.3: an ACK is never answered.
        if request.method == "ACK" or not status:
            return Verdict(Action.DROPPED, reason, trunk=name)
        return Verdict(Action.ANSWERED, reason, status, retry_after_s, name)

    def _seen_before(self, request: EdgeRequest, now: float) -> bool:
        """An INVITE that overload delivers after its transaction is over would become a second call.

        pjsip forgets the transaction with the ACK (it predates RFC 6026's Accepted state).
        """
        invites = self._invites
        while invites and (now - next(iter(invites.values())) > _LATE_S or len(invites) > _MAX_INVITES):
            invites.popitem(last=False)
        match = _BRANCH.search(request.raw)
        if match is None:
            return False
        key = (request.source_address, request.call_id[:256], match[1])
        return invites.setdefault(key, now) != now

    def _lookup(self, address: str) -> EdgeTrunk | None:
        found = self._found
        if address in found:
            return found[address]
        trunk = self._search(address)
        found[address] = trunk
        if len(found) > self._limits.max_sources:
            found.popitem(last=False)
        return trunk

    def _search(self, address: str) -> EdgeTrunk | None:
        try:
            source = ip_address(_plain(address))
        except ValueError:
            return None
        bits = int(source)
        for shift, table in self._tables.by_family[source.version]:
            if trunk := table.get(bits >> shift):
                return trunk
        return None

    def _take_token(self, address: str, trunk: EdgeTrunk | None, now: float, *, spare: float) -> bool:
        rate, burst = (trunk.requests_per_s, trunk.burst) if trunk else (100.0, 200)
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = _Bucket(burst, now)
            if len(self._buckets) > self._limits.max_sources:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        bucket.tokens = min(burst, bucket.tokens + max(0.0, now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < max(1.0, burst * spare):
            return False
        bucket.tokens -= 1
        return True


def _plain(address: str) -> str:
    """IPv4 written as IPv4 even when a dual-stack socket shows it mapped (RFC 4291 §2.5.5.2)."""
    if ":" not in address:
        return address
    try:
        mapped = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(mapped.ipv4_mapped or mapped)
