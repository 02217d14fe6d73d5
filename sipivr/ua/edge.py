"""The edge's policy: what may pass into pjsip at all. Pure; `EdgePolicy.decide` is told the time.

States and owner: the loop thread owns the policy. Trunks are replaced as a whole (`replace_trunks`), dialled
addresses are added and released by the legs that need them, buckets live in a bounded table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

DEFAULT_METHODS = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "INFO"})


@dataclass(frozen=True, slots=True)
class EdgeTrunk:
    """What the edge needs to know of a trunk.

    Attributes:
        trunk: the trunk's id; comes back in `IncomingInvite.trunk`.
        networks: source networks; the longest prefix over all trunks wins.
        extra_methods: allowed beyond `DEFAULT_METHODS`, e.g. `{"REFER"}`.
        allow_replaces: INVITE with `Replaces` may pass (RFC 3891).
        requests_per_s, burst: token bucket for each source address.
    """

    trunk: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    extra_methods: frozenset[str] = frozenset()
    allow_replaces: bool = False
    requests_per_s: float = 500.0
    burst: int = 1000


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds for every message."""

    max_bytes: int = 8000
    max_headers: int = 100
    max_crypto_lines: int = 8
    max_sources: int = 10_000
    retry_after_s: int = 5


@dataclass(frozen=True, slots=True)
class EdgeRequest:
    """One received request before pjsip's transaction layer."""

    transport: str
    source_address: str
    source_port: int
    method: str
    raw: bytes


class Action(enum.Enum):
    """What becomes of a request."""

    PASS = "pass"  # noqa: S105 - not a password
    DROP = "drop"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision; `reason` names the counter it went to. `status` and `retry_after_s` for ANSWER only."""

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


class EdgePolicy:
    """Decides on each received request. See the module's essay."""

    def __init__(self, limits: EdgeLimits = EdgeLimits()) -> None:  # noqa: B008 - frozen
        raise NotImplementedError

    def replace_trunks(self, trunks: tuple[EdgeTrunk, ...]) -> None:
        """The trunks from now on. None: nothing is answered."""
        raise NotImplementedError

    def trunk_of(self, address: str) -> str | None:
        """The trunk of a source address."""
        raise NotImplementedError

    def allow_dialled(self, address: str) -> None:
        """Requests inside dialogs may come from an address that we have dialled; counted, see `release`."""
        raise NotImplementedError

    def release_dialled(self, address: str) -> None:
        """One leg to `address` is over."""
        raise NotImplementedError

    def refuse_new(self, reason: str | None) -> None:
        """`"draining"`/`"overload"`: new INVITEs get 503 with Retry-After; None lifts it."""
        raise NotImplementedError

    def decide(self, request: EdgeRequest, now: float) -> Verdict:
        """What to do with a request; counts it. Never raises."""
        raise NotImplementedError

    @property
    def counters(self) -> Mapping[str, int]:
        """Requests by reason since start; `passed` among them."""
        raise NotImplementedError
