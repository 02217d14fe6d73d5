"""Sockets that outlive the processes that serve them.

Each media worker's RTP ports are bound once by the supervisor and handed to every incarnation, so that a
restarted worker keeps the addresses that peers were told in SDP. Ports are even (RFC 3550 §11); the odd one
above each is bound for RTCP. With `rtp.first_port` worker `i` has `ports_per_worker` even ports from
`first_port + 2 × i × ports_per_worker` on, the same ones on each address.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sipivr.config import RTPSettings, addresses

logger = logging.getLogger(__name__)

#: 10,082 G.711 packets fit into 4 MiB (measured); the default holds 256.
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
_TRIES: Final = 64


@dataclass(frozen=True, slots=True)
class WorkerSockets:
    """The sockets of one worker: RTP, and index by index the RTCP sockets one port above."""

    rtp: list[socket.socket] = field(default_factory=list)
    rtcp: list[socket.socket] = field(default_factory=list)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker has to inherit."""
        return tuple(one.fileno() for one in (*self.rtp, *self.rtcp))


class PortTakenError(Exception):
    """An address cannot be had; the message is a sentence that names it."""


def bind_workers(settings: RTPSettings, workers: int) -> list[WorkerSockets]:
    """The UDP sockets of each worker, bound, not inheritable yet; those of RTP have large buffers.

    Raises:
        PortTakenError: an address is not ours, or a port is taken.
    """
    bound: list[WorkerSockets] = []
    try:
        for worker in range(workers):
            bound.append(WorkerSockets())
            for address in addresses(settings.address):
                for index in range(settings.ports_per_worker):
                    port = settings.first_port
                    if port:
                        port += (port % 2) + 2 * (worker * settings.ports_per_worker + index)
                    rtp, rtcp = _bind_pair(address, port)
                    bound[-1].rtp.append(rtp)
                    bound[-1].rtcp.append(rtcp)
    except PortTakenError:
        close_all(bound)
        raise
    return bound


def close_all(bound: Sequence[WorkerSockets]) -> None:
    """Closes every socket of every worker."""
    for sockets in bound:
        for one in (*sockets.rtp, *sockets.rtcp):
            one.close()


def receive_buffer_limit() -> int:
    """net.core.rmem_max: what an unprivileged process may ask for, bytes."""
    return int(Path("/proc/sys/net/core/rmem_max").read_text("utf-8"))


def must_be_free(kind: socket.SocketKind, host: str, port: int, purpose: str) -> None:
    """Asks the kernel for an address as a server would, and gives it back.

    Raises:
        PortTakenError: someone has it, or it is not this machine's.
    """
    if port:
        _bind(kind, host, port, purpose).close()


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP socket on `port`, or on an even port of the kernel's choice when `port` is 0, and the one above."""
    refused: list[socket.socket] = []
    try:
        for _ in range(_TRIES):
            found = _bind(socket.SOCK_DGRAM, host, port, "RTP")
            refused.append(found)
            chosen = found.getsockname()[1]
            if chosen % 2:
                continue
            try:
                above = _bind(socket.SOCK_DGRAM, host, chosen + 1, "RTCP")
            except PortTakenError:
                if port:
                    raise
                continue
            refused.pop()
            return _with_large_buffer(found), above
    finally:
        for one in refused:
            one.close()
    raise PortTakenError(f"No two neighbouring UDP ports are free on {host} for RTP and RTCP.")


def _bind(kind: socket.SocketKind, host: str, port: int, purpose: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:  # IPv4 has a socket of its own, and its packets their own form of address
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_STREAM:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        why = {
            errno.EADDRINUSE: "another process has it",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }.get(error.errno or 0, str(error))
        raise PortTakenError(
            f"{protocol} port {port} on {host} cannot be used for {purpose}: {why}."
        ) from None
    return found


def _with_large_buffer(found: socket.socket) -> socket.socket:
    try:
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return found


def buffer_bytes(found: socket.socket) -> int:
    """The receive buffer in force, as it was asked for (the kernel answers the double, socket(7))."""
    return found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
