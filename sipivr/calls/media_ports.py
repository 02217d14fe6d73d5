"""Which RTP socket a leg gets: the port-sharing rules of the media plane, as bookkeeping without I/O.

Legs on one port are told apart by the peer's address, so a port never holds two legs with one peer address,
and never more than one leg that waits for its real source (symmetric legs before they latch, and legs whose
peer's address is not known). Where peers make sharing impossible it degrades to a port for each leg.

`choose` says where a leg may stand, `seat` puts it there: between the two, the negotiation may still fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from media.protocol import Remote
from sipivr.ua.sdp import NotAcceptable


class PortsExhausted(Exception):
    """No socket of this worker can take the leg; a call is refused with 503, a re-INVITE with 488."""


class FamilyMissing(NotAcceptable):
    """The peer's address is of a family (or scope) that we have no RTP socket for."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a leg is told by on its port.

    Attributes:
        source: where its packets come from as far as is known, None: not known.
        waits: its real source is still to be learnt.
    """

    source: Remote | None
    waits: bool


@dataclass(slots=True)
class _Port:
    ipv6: bool
    seats: dict[int, Seat] = field(default_factory=dict)
    sources: dict[Remote, int] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)

    def takes(self, leg: int, seat: Seat) -> bool:
        """Whether both rules allow it."""
        if seat.waits and not self.waiting <= {leg}:
            return False
        return seat.source is None or self.sources.get(seat.source, leg) == leg

    def put(self, leg: int, seat: Seat) -> None:
        self.remove(leg)
        self.seats[leg] = seat
        if seat.source is not None:
            self.sources[seat.source] = leg
        if seat.waits:
            self.waiting.add(leg)

    def remove(self, leg: int) -> None:
        seat = self.seats.pop(leg, None)
        if seat is not None and seat.source is not None and self.sources.get(seat.source) == leg:
            del self.sources[seat.source]
        self.waiting.discard(leg)

    def load(self, leg: int) -> tuple[bool, int]:
        """How little it suits one more leg: where one waits for an address, the newcomer's may be that very one."""
        return bool(self.waiting - {leg}), len(self.seats)


class PortTable:
    """The sockets of one worker and the legs on them.

    Args:
        sockets: local addresses by socket index, as the worker said them.
        sharing: False gives every leg a port of its own.
    """

    def __init__(self, sockets: tuple[Remote, ...], *, sharing: bool) -> None:
        self.sockets = sockets
        self._ports = [_Port(ipv6=":" in one.address) for one in sockets]
        self._sharing = sharing

    def choose(self, leg: int, seat: Seat, now: int | None = None) -> int:
        """The socket index for a leg: where it is `now` if it may stay, else the least loaded. Changes nothing.

        Raises:
            FamilyMissing: no socket has the family of the leg's source.
            PortsExhausted: every port would break a rule.
        """
        ports = list(range(len(self._ports)))
        if seat.source is not None:
            ipv6 = _is_ipv6(seat.source)
            ports = [index for index in ports if self._ports[index].ipv6 is ipv6]
            if not ports and self._ports:
                raise FamilyMissing(f"This switch has no RTP port for IPv{6 if ipv6 else 4}.")
        elif self._ports:  # our offer names one address: of the first family
            ports = [index for index in ports if self._ports[index].ipv6 is self._ports[0].ipv6]
        if now is not None and now in ports and self._allows(leg, now, seat):
            return now
        for index in sorted(ports, key=lambda index: self._ports[index].load(leg)):
            if self._allows(leg, index, seat):
                return index
        raise PortsExhausted(f"None of {len(ports)} RTP ports can take another leg of this peer.")

    def seat(self, leg: int, index: int, seat: Seat, before: int | None = None) -> None:
        """Puts a leg on a socket that `choose` gave, and takes it from the one of `before`."""
        if before is not None and before != index:
            self._ports[before].remove(leg)
        self._ports[index].put(leg, seat)

    def settle(self, leg: int, index: int, source: Remote) -> None:
        """The leg's real source is known."""
        if leg in self._ports[index].seats:
            self._ports[index].put(leg, Seat(source, waits=False))

    def retake(self, leg: int, index: int, seat: Seat) -> None:
        """The same port as in the worker's former life, for a leg that moves into its successor."""
        self._ports[index].put(leg, seat)

    def release(self, leg: int, index: int) -> None:
        """Forgets a leg."""
        self._ports[index].remove(leg)

    @property
    def legs(self) -> int:
        """How many legs are on the worker."""
        return sum(len(port.seats) for port in self._ports)

    def _allows(self, leg: int, index: int, seat: Seat) -> bool:
        port = self._ports[index]
        return port.takes(leg, seat) and (self._sharing or port.seats.keys() <= {leg})


def _is_ipv6(remote: Remote) -> bool:
    address = ip_address(remote.address)
    if isinstance(address, IPv6Address) and (address.is_link_local or address.ipv4_mapped is not None):
        # RFC 4007 §11: such an address means nothing without the link, which SDP cannot name.
        raise FamilyMissing("The offered RTP address has a scope, or is an IPv4 address in IPv6's form.")
    return address.version == 6
