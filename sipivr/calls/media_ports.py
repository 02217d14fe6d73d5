"""Which RTP socket a leg gets: the port-sharing rules of the media plane, as bookkeeping without I/O.

Legs on one port are told apart by the peer's address, so a port never holds two legs with one peer address,
and never more than one leg whose real source is not known yet (symmetric legs before they latch, and legs
whose offer has not been answered). Where peers make sharing impossible it degrades to a port for each leg.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from media.protocol import Remote


class PortsExhausted(Exception):
    """No socket of this worker can take the leg; the call is refused with 503."""


@dataclass(slots=True)
class _Port:
    peers: dict[int, Remote | None] = field(default_factory=dict)

    def takes(self, remote: Remote | None) -> bool:
        if remote is None:
            return all(peer is not None for peer in self.peers.values())
        return remote not in self.peers.values()


class PortTable:
    """The sockets of one worker and the legs on them.

    Args:
        sockets: local addresses by socket index, as the worker said them.
        sharing: False gives every leg a port of its own.
    """

    def __init__(self, sockets: tuple[Remote, ...], *, sharing: bool) -> None:
        self.sockets = sockets
        self._ports = [_Port() for _ in sockets]
        self._sharing = sharing

    def take(self, leg: int, remote: Remote | None, *, source_known: bool) -> int:
        """The socket index for a leg, least loaded first.

        Raises:
            PortsExhausted: every port would break a rule.
        """
        peer = remote if source_known else None
        for index in sorted(range(len(self._ports)), key=lambda i: len(self._ports[i].peers)):
            port = self._ports[index]
            if (self._sharing or not port.peers) and port.takes(peer):
                port.peers[leg] = peer
                return index
        raise PortsExhausted(f"none of {len(self._ports)} RTP ports can take another leg of this peer")

    def may_move(self, leg: int, index: int, remote: Remote | None) -> bool:
        """Whether the leg may stay on its port with a new peer address. Changes nothing."""
        peers = self._ports[index].peers
        return remote not in [peer for other, peer in peers.items() if other != leg]

    def move(self, leg: int, index: int, remote: Remote | None) -> bool:
        """As `may_move`; notes the new address if it may."""
        allowed = self.may_move(leg, index, remote)
        if allowed:
            self._ports[index].peers[leg] = remote
        return allowed

    def retake(self, leg: int, index: int, peer: Remote | None) -> int:
        """The same port as in the worker's former life, for a leg that moves into its successor."""
        self._ports[index].peers[leg] = peer
        return index

    def release(self, leg: int, index: int) -> None:
        """Forgets a leg."""
        self._ports[index].peers.pop(leg, None)

    @property
    def legs(self) -> int:
        """How many legs are on the worker."""
        return sum(len(port.peers) for port in self._ports)
