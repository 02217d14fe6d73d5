"""Moving packets between sockets and arrays.

On Linux `recvmmsg` and `sendmmsg` move hundreds of packets in one system call straight from and to numpy
memory, with message headers that are built once. Elsewhere, or if told so, the portable classes do the same
packet by packet. Neither ever blocks.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import sys
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from media.arrays import Index, Int32, UInt8, UInt64
from media.protocol import Remote
from media.rtp.lookup import NAME_BYTES, is_ipv6
from media.rtp.packet import HEADER_OFFSET, PACKET_BYTES, SLOT_BYTES

#: Packets taken from all sockets in one tick. 2,000 legs at a ptime of 10 ms send 4,000.
BATCH: Final = 4096
#: UIO_MAXIOV: the kernel sends no more messages in one call.
_MOST_PER_CALL: Final = 1024
#: More refused destinations than this in one tick end the tick's sending on that socket.
_MOST_ERRORS: Final = 32

#: struct mmsghdr of 64-bit Linux.
_MMSGHDR: Final = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["<u8", "<u4", "<u8", "<u8", "<u8", "<u8", "<i4", "<u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_IOVEC: Final = np.dtype([("base", "<u8"), ("length", "<u8")])


def has_mmsg() -> bool:
    """Whether the fast way is open: 64-bit little-endian Linux with both calls in its C library."""
    if (
        sys.platform != "linux"
        or sys.byteorder != "little"
        or platform.machine() not in ("x86_64", "aarch64")
    ):
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg")


class Batch:
    """Packets received in one tick; the first `count` rows are filled."""

    def __init__(self, capacity: int = BATCH) -> None:
        self.capacity = capacity
        self.count = 0
        self.slots: UInt8 = np.zeros((capacity, SLOT_BYTES), np.uint8)
        self.names: UInt8 = np.zeros((capacity, NAME_BYTES), np.uint8)
        self.lengths: Int32 = np.zeros(capacity, np.int32)
        self.sockets: UInt64 = np.zeros(capacity, np.uint64)
        self._used = 0

    def note_use(self) -> None:
        """Remembers how far the batch was filled since the last wipe."""
        self._used = max(self._used, self.count)

    def wipe(self) -> None:
        """Overwrites what earlier ticks left (audio of legs that are gone)."""
        self.slots[: self._used] = 0
        self._used = 0


class Receiver(Protocol):
    """Takes what has arrived."""

    batch: Batch

    def receive(self) -> int:
        """Fills the batch from all sockets in turn and says how many packets it holds."""


class Sender(Protocol):
    """Sends rows of the packet array."""

    def grow(self, packets: UInt8) -> None:
        """Takes a larger packet array."""

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; with None they go nowhere."""

    def set_length(self, row: int, length: int) -> None:
        """How many bytes of a row are its packet."""

    def send(self, index: int, rows: Index) -> int:
        """Sends the packets of some rows from one socket and says how many went."""


class MMsgReceiver:
    """`recvmmsg` into a batch. Starts with a different socket each tick, so that none can starve others."""

    def __init__(self, sockets: Sequence[socket.socket], capacity: int = BATCH) -> None:
        self.batch = Batch(capacity)
        self._files = [s.fileno() for s in sockets]
        self._first = 0
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg
        batch = self.batch
        self._vectors = np.zeros(capacity, _IOVEC)
        self._vectors["base"] = batch.slots.ctypes.data + HEADER_OFFSET + np.arange(capacity) * SLOT_BYTES
        self._vectors["length"] = PACKET_BYTES
        self._headers = np.zeros(capacity, _MMSGHDR)
        self._headers["name"] = batch.names.ctypes.data + np.arange(capacity) * NAME_BYTES
        self._headers["namelen"] = NAME_BYTES
        self._headers["iov"] = self._vectors.ctypes.data + np.arange(capacity) * _IOVEC.itemsize
        self._headers["iovlen"] = 1
        self._address = self._headers.ctypes.data

    def receive(self) -> int:
        """Fills the batch; see `Receiver`."""
        batch, count, capacity = self.batch, 0, self.batch.capacity
        files = self._files
        self._headers["namelen"][: batch.count] = NAME_BYTES
        for step in range(len(files)):
            index = (self._first + step) % len(files)
            got = self._call(
                files[index],
                ctypes.c_void_p(self._address + count * _MMSGHDR.itemsize),
                capacity - count,
                socket.MSG_DONTWAIT,
                None,
            )
            if got > 0:
                batch.sockets[count : count + got] = index
                count += got
                if count == capacity:
                    break
        if files:
            self._first = (self._first + 1) % len(files)
        batch.count = count
        headers = self._headers[:count]
        batch.lengths[:count] = headers["length"]
        batch.lengths[:count][headers["flags"] & socket.MSG_TRUNC != 0] = PACKET_BYTES + 1
        batch.note_use()
        return count


class PortableReceiver:
    """The same with `recvfrom_into`."""

    def __init__(self, sockets: Sequence[socket.socket], capacity: int = BATCH) -> None:
        self.batch = Batch(capacity)
        self._sockets = list(sockets)
        self._first = 0
        self._view = self.batch.slots.reshape(-1).data

    def receive(self) -> int:
        """Fills the batch; see `Receiver`."""
        batch, count = self.batch, 0
        number = len(self._sockets)
        for step in range(number):
            index = (self._first + step) % number
            while count < batch.capacity:
                start = count * SLOT_BYTES + HEADER_OFFSET
                try:
                    size, source = self._sockets[index].recvfrom_into(
                        self._view[start : start + PACKET_BYTES], 0, socket.MSG_DONTWAIT
                    )
                except OSError:
                    break
                batch.lengths[count] = size
                batch.sockets[count] = index
                batch.names[count] = np.frombuffer(pack_name(source[0], source[1]), np.uint8)
                count += 1
        self._first = (self._first + 1) % max(number, 1)
        batch.count = count
        batch.note_use()
        return count


def pack_name(address: str, port: int) -> bytes:
    """A `sockaddr_in` or `sockaddr_in6` of `NAME_BYTES` bytes."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
        name = socket.AF_INET6.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes(4) + packed
    else:
        packed = socket.inet_pton(socket.AF_INET, address)
        name = socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + packed
    return name.ljust(NAME_BYTES, b"\0")


class MMsgSender:
    """`sendmmsg` from an array of packets `(rows, bytes)`, `length` bytes of each."""

    def __init__(self, sockets: Sequence[socket.socket], packets: UInt8, length: int) -> None:
        self._files = [s.fileno() for s in sockets]
        self._call = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._length = length
        self._names: UInt8 = np.zeros((0, NAME_BYTES), np.uint8)
        self._name_lengths = np.zeros(0, np.uint32)
        self._vectors = np.zeros(0, _IOVEC)
        self._build(packets)
        self._orders: dict[int, tuple[Index, np.ndarray[tuple[int], np.dtype[np.void]]]] = {}

    def _build(self, packets: UInt8) -> None:
        rows, stride = packets.shape
        names = np.zeros((rows, NAME_BYTES), np.uint8)
        names[: len(self._names)] = self._names
        lengths = np.zeros(rows, np.uint32)
        lengths[: len(self._name_lengths)] = self._name_lengths
        self._names, self._name_lengths = names, lengths
        vectors = np.zeros(rows, _IOVEC)
        vectors["base"] = packets.ctypes.data + np.arange(rows) * stride
        vectors["length"] = self._length
        vectors["length"][: len(self._vectors)] = self._vectors["length"]
        self._vectors = vectors
        self._headers = np.zeros(rows, _MMSGHDR)
        self._headers["name"] = names.ctypes.data + np.arange(rows) * NAME_BYTES
        self._headers["namelen"] = lengths
        self._headers["iov"] = self._vectors.ctypes.data + np.arange(rows) * _IOVEC.itemsize
        self._headers["iovlen"] = 1
        self._orders = {}

    def grow(self, packets: UInt8) -> None:
        """Takes a larger packet array; see `Sender`."""
        self._build(packets)

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; see `Sender`."""
        self._names[row] = 0
        self._name_lengths[row] = 0
        if remote is not None:
            name = pack_name(remote.address, remote.port)
            self._names[row] = np.frombuffer(name, np.uint8)
            self._name_lengths[row] = 28 if is_ipv6(remote) else 16
        self._headers["namelen"][row] = self._name_lengths[row]
        self._orders = {}

    def set_length(self, row: int, length: int) -> None:
        """How many bytes of a row are its packet; see `Sender`."""
        self._vectors["length"][row] = length

    def send(self, index: int, rows: Index) -> int:
        """Sends some rows' packets; see `Sender`. `rows` must not be changed in place between calls."""
        known = self._orders.get(index)
        if known is None or known[0] is not rows:
            known = (rows, np.ascontiguousarray(self._headers[rows]))
            self._orders[index] = known
        headers, sent, errors, at = known[1], 0, 0, 0
        address, total = headers.ctypes.data, len(rows)
        while at < total:
            some = min(total - at, _MOST_PER_CALL)
            place = ctypes.c_void_p(address + at * _MMSGHDR.itemsize)
            done = self._call(self._files[index], place, some, socket.MSG_DONTWAIT)
            if done > 0:
                sent += done
                at += done
                continue
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            errors += 1
            if number in (errno.EAGAIN, errno.ENOBUFS) or errors > _MOST_ERRORS:
                break
            at += 1  # this destination cannot be reached; the others can
        return sent


class PortableSender:
    """The same with `sendto`."""

    def __init__(self, sockets: Sequence[socket.socket], packets: UInt8, length: int) -> None:
        self._sockets = list(sockets)
        self._length = length
        self._packets = packets
        self._destinations: dict[int, tuple[str, int]] = {}
        self._lengths: dict[int, int] = {}

    def grow(self, packets: UInt8) -> None:
        """Takes a larger packet array; see `Sender`."""
        self._packets = packets

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; see `Sender`."""
        if remote is None:
            self._destinations.pop(row, None)
        else:
            self._destinations[row] = (remote.address, remote.port)

    def set_length(self, row: int, length: int) -> None:
        """How many bytes of a row are its packet; see `Sender`."""
        self._lengths[row] = length

    def send(self, index: int, rows: Index) -> int:
        """Sends some rows' packets; see `Sender`."""
        sent = 0
        for row in rows.tolist():
            try:
                packet = self._packets[row, : self._lengths.get(row, self._length)].data
                self._sockets[index].sendto(packet, socket.MSG_DONTWAIT, self._destinations[row])
            except BlockingIOError:
                break
            except OSError:
                continue
            sent += 1
        return sent


def open_receiver(sockets: Sequence[socket.socket], *, portable: bool = False) -> Receiver:
    """The best receiver of this machine."""
    if portable or not has_mmsg():
        return PortableReceiver(sockets)
    return MMsgReceiver(sockets)


def open_sender(
    sockets: Sequence[socket.socket], packets: UInt8, length: int, *, portable: bool = False
) -> Sender:
    """The best sender of this machine."""
    if portable or not has_mmsg():
        return PortableSender(sockets, packets, length)
    return MMsgSender(sockets, packets, length)
