"""Settings of the user agent as frozen values; `sipivr.config` and the store are mapped onto them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from sipivr.ua.edge import EdgeLimits


class Transport(enum.StrEnum):
    """SIP transports."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"


class Usage(enum.StrEnum):
    """Whether an optional extension is used (session timers RFC 4028, 100rel RFC 3262)."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """PEM files of a TLS listener; `ca_file` verifies peers."""

    certificate: str
    private_key: str
    ca_file: str = ""
    verify_client: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """One SIP socket. `port` 0 takes a free one. `public_address` goes into Contact and Via if set."""

    transport: Transport = Transport.UDP
    address: str = "127.0.0.1"
    port: int = 5060
    public_address: str = ""
    tls: TLSFiles | None = None


@dataclass(frozen=True, slots=True)
class UASettings:
    """Everything that `PJUserAgent` is built from.

    Attributes:
        listeners: sockets; without `edge.c` only loopback addresses start.
        user_agent: User-Agent and Server header.
        max_calls: 0 takes what pjsua2 was built for.
        session_timers, session_expires_s, session_min_se_s: RFC 4028.
        reliable_provisional: RFC 3262.
        edge: bounds of received messages.
        resolver_timeout_s: for one resolution of a dialled name.
        ladder: whether `UAHandler.ladder` is told of each message.
        log_level: pjsip's own, 0–3; at 4 it would print message bodies.
    """

    listeners: tuple[Listener, ...] = (Listener(),)
    user_agent: str = "sipivr"
    max_calls: int = 0
    session_timers: Usage = Usage.OPTIONAL
    session_expires_s: int = 1800
    session_min_se_s: int = 90
    reliable_provisional: Usage = Usage.OPTIONAL
    edge: EdgeLimits = field(default_factory=EdgeLimits)
    resolver_timeout_s: float = 3.0
    ladder: bool = True
    log_level: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.log_level <= 3:
            raise ValueError("pjsip's log level must be 0 to 3: from 4 on it prints whole messages")
