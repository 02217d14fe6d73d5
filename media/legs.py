"""Legs by number, and the rows that they own.

A row is taken from a heap of free ones, lowest first, so that the rows in use stay close together; a row
that is given back is overwritten by everyone who holds a column. What was negotiated for a leg is here; what
was received, sent, played and detected is in the columns of others.
"""

from __future__ import annotations

import dataclasses
import heapq
import socket
from ipaddress import IPv6Address, ip_address

import numpy as np

from media.arrays import Bool, Index
from media.protocol import AddLeg, Codec, Direction, DTMFMode, Remote, UpdateLeg
from media.rtp.lookup import IPv6Key, source_key


class RefusedError(Exception):
    """A command that cannot be carried out; the text goes to the log and holds no key."""


@dataclasses.dataclass(slots=True)
class Leg:
    """What is known of a leg outside the columns."""

    number: int
    row: int
    socket: int
    codec: Codec
    remote: Remote | None
    event_type: int | None
    direction: Direction
    symmetric: bool
    dtmf: DTMFMode
    secure: bool = False
    """Its RTP is SRTP: nothing that does not authenticate counts, not even for latching."""
    signalled: str | None = None
    """The IP address that its signalling comes from."""
    source: int | IPv6Key | None = None
    """Key in the source table."""
    settled: bool = False
    """A symmetric leg whose source is known and locked."""
    learnt: Remote | None = None
    """Where a symmetric leg's packets were found to come from; None: from `remote`, or not known."""
    faulted: bool = False

    @property
    def listens(self) -> bool:
        """Whether we take what the peer sends."""
        return self.direction in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def sends(self) -> bool:
        """Whether we send."""
        return self.direction in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def named(self) -> set[str]:
        """The IP addresses that signalling vouches for."""
        return {address for address in (self.remote and self.remote.address, self.signalled) if address}

    @property
    def destination(self) -> Remote | None:
        """Where we send."""
        return self.learnt or self.remote

    @property
    def unsettled(self) -> bool:
        """Whether the leg's real source is still to be learnt: one such leg a socket."""
        return self.remote is None or (self.symmetric and not self.settled)


class Rows:
    """Rows in use and free ones."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.high = 0
        """Rows beyond this one are not in use."""
        self._free = list(range(capacity))
        self._used: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether there is no row left."""
        return not self._free

    def take(self) -> int:
        """The lowest free row."""
        row = heapq.heappop(self._free)
        self._used.add(row)
        self.high = max(self.high, row + 1)
        return row

    def give_back(self, row: int) -> None:
        """Frees a row."""
        self._used.discard(row)
        heapq.heappush(self._free, row)
        while self.high and self.high - 1 not in self._used:
            self.high -= 1


class Legs:
    """All legs of an engine."""

    def __init__(self, capacity: int) -> None:
        self.rows = Rows(capacity)
        self._by_number: dict[int, Leg] = {}
        self.by_row: dict[int, Leg] = {}
        self.inband: Bool = np.zeros(capacity, np.bool_)
        self.events: Bool = np.zeros(capacity, np.bool_)
        self._alaw: Bool = np.zeros(capacity, np.bool_)
        self.alaw_rows: Index = np.zeros(0, np.intp)
        self.unsettled: dict[int, Leg] = {}
        """By socket: the one leg whose source is still to be learnt."""
        self._on_socket: dict[int, dict[int, Leg]] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def __getitem__(self, number: int) -> Leg:
        leg = self._by_number.get(number)
        if leg is None:
            raise RefusedError(f"there is no leg {number}")
        return leg

    def all(self) -> list[Leg]:
        """Every leg."""
        return list(self._by_number.values())

    def add(self, command: AddLeg) -> Leg:
        """Takes a row for a new leg."""
        leg = Leg(
            command.leg,
            self.rows.take(),
            command.socket,
            command.codec,
            command.remote,
            command.event_payload_type,
            command.direction,
            command.symmetric,
            command.dtmf,
            secure=command.srtp is not None,
            signalled=command.signalled,
            settled=command.source is not None,
            learnt=command.source,
        )
        self._by_number[leg.number] = self.by_row[leg.row] = leg
        self._on_socket.setdefault(leg.socket, {})[leg.row] = leg
        return leg

    def move(self, leg: Leg, index: int) -> None:
        """To another socket (or the same); the source is to be learnt anew."""
        self._leave(leg)
        leg.socket = index
        leg.settled, leg.learnt = False, None
        self._on_socket.setdefault(index, {})[leg.row] = leg

    def _leave(self, leg: Leg) -> None:
        if self.unsettled.get(leg.socket) is leg:
            del self.unsettled[leg.socket]
        there = self._on_socket[leg.socket]
        del there[leg.row]
        if not there:
            del self._on_socket[leg.socket]

    def whose(self, index: int) -> Leg | None:
        """Whom packets of unknown sources at a socket concern: the leg that waits for its own, or the only one."""
        waiting = self.unsettled.get(index)
        there = self._on_socket.get(index, {})
        return waiting or (next(iter(there.values())) if len(there) == 1 else None)

    def remove(self, leg: Leg) -> None:
        """Gives the row back."""
        del self._by_number[leg.number]
        del self.by_row[leg.row]
        self._leave(leg)
        self.inband[leg.row] = self.events[leg.row] = False
        self.rows.give_back(leg.row)
        self.refresh(leg, gone=True)

    def refresh(self, leg: Leg, *, gone: bool = False) -> None:
        """Brings the columns up to date with what was negotiated."""
        if not gone:
            self.inband[leg.row] = leg.dtmf in (DTMFMode.AUTO, DTMFMode.INBAND)
            self.events[leg.row] = leg.dtmf in (DTMFMode.AUTO, DTMFMode.RFC4733)
            if leg.unsettled:
                self.unsettled[leg.socket] = leg
            elif self.unsettled.get(leg.socket) is leg:
                del self.unsettled[leg.socket]
        wanted = not gone and leg.codec is Codec.PCMA
        if wanted != self._alaw[leg.row]:
            self._alaw[leg.row] = wanted
            self.alaw_rows = np.flatnonzero(self._alaw)

    def check_source(
        self, command: AddLeg | UpdateLeg, index: int, taken: int | None, own: Leg | None
    ) -> None:
        """The two rules of port sharing.

        Args:
            command: what is asked for.
            index: the socket.
            taken: row that owns the remote's address on this socket.
            own: the leg itself, when it exists.

        Raises:
            RefusedError: one of the rules forbids it.
        """
        if taken is not None and (own is None or taken != own.row):
            raise RefusedError(f"leg {command.leg}: another leg of socket {index} has the same remote")
        learnt = isinstance(command, AddLeg) and command.source is not None
        unknown = command.remote is None or (command.symmetric and not learnt)
        pending = self.unsettled.get(index)
        if unknown and pending is not None and pending is not own:
            raise RefusedError(f"leg {command.leg}: socket {index} already waits for another unknown source")


def key_of(leg: int, remote: Remote | None, index: int, family: int) -> int | IPv6Key | None:
    """Key of a leg's remote at a socket in the source table.

    Args:
        leg: for the sentence.
        remote: None has no key.
        index: the socket.
        family: the socket's, `AF_INET` or `AF_INET6`.

    Raises:
        RefusedError: no numeric address and port that this socket can reach without a scope (RFC 4007 §11).
    """
    if remote is None:
        return None
    if not 0 < remote.port < 1 << 16:
        raise RefusedError(f"leg {leg}: no such port")
    try:
        address = ip_address(remote.address)
    except ValueError as error:
        raise RefusedError(f"leg {leg}: the remote address is not numeric") from error
    if isinstance(address, IPv6Address) and (address.is_link_local or address.ipv4_mapped is not None):
        raise RefusedError(f"leg {leg}: the remote address is scoped, or an IPv4 one in IPv6's clothes")
    if (address.version == 6) is not (family == socket.AF_INET6):
        raise RefusedError(f"leg {leg}: socket {index} is of another address family")
    return source_key(remote, index)
