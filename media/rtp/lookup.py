"""Which leg a packet belongs to: by the socket it came to and the address it came from.

IPv4 sources are 64-bit numbers (address, port, socket), found for a whole batch by binary search in a sorted
array. IPv6 sources take a dictionary, packet by packet.

A source may be kept back for a leg without being its own (`SourceTable.keep`): its packets are not taken, but
one can tell whose they would be.
"""

from __future__ import annotations

import socket
from typing import Final

import numpy as np

from media.arrays import Index, UInt8, UInt64
from media.protocol import Remote

NAME_BYTES: Final = 32
_SOCKET_BITS: Final = np.uint64(0xFFFF)

IPv6Key = tuple[bytes, int]


def is_ipv6(remote: Remote) -> bool:
    """Whether the address is written as IPv6."""
    return ":" in remote.address


def is_numeric(address: str) -> bool:
    """Whether it is an IPv4 or IPv6 address without a scope."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return False
    return True


def ipv4_key(remote: Remote, index: int) -> int:
    """The number of an IPv4 source at a socket, as it stands in a `sockaddr_in` in memory.

    Raises:
        OSError: no numeric IPv4 address.
    """
    address = int.from_bytes(socket.inet_pton(socket.AF_INET, remote.address), "little")
    port = int.from_bytes(remote.port.to_bytes(2, "big"), "little")
    return address << 32 | port << 16 | index


def ipv6_key(remote: Remote, index: int) -> IPv6Key:
    """The same for IPv6."""
    return socket.inet_pton(socket.AF_INET6, remote.address) + remote.port.to_bytes(2, "big"), index


def source_key(remote: Remote, index: int) -> int | IPv6Key:
    """Key of a source at a socket.

    Raises:
        OSError: no numeric address.
    """
    return ipv6_key(remote, index) if is_ipv6(remote) else ipv4_key(remote, index)


def name_to_remote(name: UInt8) -> Remote:
    """The source of a packet from its `sockaddr`."""
    raw = name.tobytes()
    port = int.from_bytes(raw[2:4], "big")
    if int.from_bytes(raw[:2], "little") == socket.AF_INET6:
        return Remote(socket.inet_ntop(socket.AF_INET6, raw[8:24]), port)
    return Remote(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)


def kept_for(row: int) -> int:
    """How `SourceTable.find` shows a packet whose source is kept back for a leg, and the leg of what it shows."""
    return -2 - row


class SourceTable:
    """Sources and the rows of the legs that own them, or for which they are kept back."""

    def __init__(self) -> None:
        self._ipv4: dict[int, int] = {}
        self._ipv6: dict[IPv6Key, int] = {}
        # The IPv4 ones sorted; made anew in the first `find` after a change, however many legs came or went.
        self._keys: UInt64 = np.zeros(0, np.uint64)
        self._rows: Index = np.zeros(0, np.intp)
        self._changed = False

    def __len__(self) -> int:
        return len(self._ipv4) + len(self._ipv6)

    def __contains__(self, key: int | IPv6Key) -> bool:
        return self.row_of(key) is not None

    def row_of(self, key: int | IPv6Key) -> int | None:
        """Owner of a source, if any."""
        row = self._entry(key)
        return row if row is not None and row >= 0 else None

    def add(self, key: int | IPv6Key, row: int) -> None:
        """Gives a source to a row, whoever it was kept back for."""
        if isinstance(key, tuple):
            self._ipv6[key] = row
        else:
            self._ipv4[key] = row
            self._changed = True

    def keep(self, key: int | IPv6Key, row: int) -> None:
        """Keeps a source that nobody owns back for a row; whoever is given it later has it."""
        if key not in self:
            self.add(key, kept_for(row))

    def drop_kept(self, key: int | IPv6Key, row: int) -> None:
        """No longer keeps a source back for a row, if it still does."""
        if self._entry(key) == kept_for(row):
            self.remove(key)

    def remove(self, key: int | IPv6Key) -> None:
        """Forgets a source."""
        if isinstance(key, tuple):
            self._ipv6.pop(key, None)
        else:
            self._ipv4.pop(key, None)
            self._changed = True

    def _entry(self, key: int | IPv6Key) -> int | None:
        return self._ipv6.get(key) if isinstance(key, tuple) else self._ipv4.get(key)

    def _sort(self) -> None:
        keys = np.fromiter(self._ipv4, np.uint64, len(self._ipv4))
        order = keys.argsort()
        self._keys = keys[order]
        self._rows = np.fromiter(self._ipv4.values(), np.intp, len(keys))[order]
        self._changed = False

    def find(self, names: UInt8, sockets: UInt64) -> Index:
        """Rows of a batch's packets, -1 where the source is unknown, `kept_for(row)` where it is kept back.

        Args:
            names: `(packets, NAME_BYTES)` of `sockaddr_in` or `sockaddr_in6`.
            sockets: `(packets,)` index of the socket that each packet came to.
        """
        if self._changed:
            self._sort()
        family = names.view(np.uint16)[:, 0]
        keys = (names.view(np.uint64)[:, 0] & ~_SOCKET_BITS) | sockets
        rows = np.full(len(names), -1, np.intp)
        if len(self._keys):
            at = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            rows = np.where(self._keys[at] == keys, self._rows[at], -1)
        others = np.flatnonzero(family != socket.AF_INET)
        for packet in others:
            raw = names[packet].tobytes()
            rows[packet] = self._ipv6.get((raw[8:24] + raw[2:4], int(sockets[packet])), -1)
        return rows
