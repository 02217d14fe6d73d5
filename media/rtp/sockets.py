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
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol, cast

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

#: With MSG_TRUNC the kernel says how long a packet was that did not fit.
_RECEIVE_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_TRUNC

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


def _library_call(name: str) -> Callable[..., int]:
    """A call of the C library that takes numbers as addresses, with an `errno` of its own."""
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    last = [ctypes.c_void_p] if name == "recvmmsg" else []
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, *last]
    call.restype = ctypes.c_int
    return cast(Callable[..., int], call)


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
        """Fills the batch and says how many packets it holds."""

    def watch(self, used: Collection[int]) -> None:
        """Says which sockets have legs: those are read in every call, one of the others in turn.

        What strangers send to an idle socket must not wait there for the leg that will use it one day. Until this
        is called, all of them have.
        """


class Sender(Protocol):
    """Sends rows of the packet array."""

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; with None they go nowhere. Ask for the row in a new order afterwards."""

    def set_length(self, row: int, length: int) -> None:
        """How long a row's packets are from now on."""

    def send(self, index: int, rows: Index) -> int:
        """Sends the packets of some rows from one socket and says how many went.

        The same array of rows, by identity, is taken for the order of last time: pass a new one when rows or
        destinations have changed, and change none in place.
        """


class _Turns:
    """Whose turn it is: every socket with legs, each being the first once in a while, and one idle socket."""

    def __init__(self, count: int) -> None:
        self._used = list(range(count))
        self._idle: list[int] = []
        self._tick = 0

    def watch(self, used: Collection[int]) -> None:
        count = len(self._used) + len(self._idle)
        self._used = [index for index in range(count) if index in used]
        self._idle = [index for index in range(count) if index not in used]

    def next(self) -> list[int]:
        self._tick += 1
        used, idle = self._used, self._idle
        first = self._tick % len(used) if used else 0
        turns = used[first:] + used[:first]
        if idle:
            turns.append(idle[self._tick % len(idle)])
        return turns


class MMsgReceiver:
    """`recvmmsg` into a batch. Starts with a different socket each tick, so that none can starve others."""

    def __init__(self, sockets: Sequence[socket.socket], capacity: int = BATCH) -> None:
        self.batch = Batch(capacity)
        self._turns = _Turns(len(sockets))
        self._files = [s.fileno() for s in sockets]
        self._call = _library_call("recvmmsg")
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
        # The kernel leaves the length of the name that it wrote: that of IPv4, too short for IPv6.
        self._mixed = len({s.family for s in sockets}) > 1

    def receive(self) -> int:
        """Fills the batch; see `Receiver`."""
        batch, count, capacity = self.batch, 0, self.batch.capacity
        if self._mixed:
            self._headers["namelen"][: batch.count] = NAME_BYTES
        for index in self._turns.next():
            got = self._call(
                self._files[index],
                self._address + count * _MMSGHDR.itemsize,
                capacity - count,
                _RECEIVE_FLAGS,
                None,
            )
            if got > 0:
                batch.sockets[count : count + got] = index
                count += got
                if count == capacity:
                    break
        batch.count = count
        batch.lengths[:count] = self._headers["length"][:count]
        batch.note_use()
        return count

    def watch(self, used: Collection[int]) -> None:
        """Says which sockets have legs; see `Receiver`."""
        self._turns.watch(used)


class PortableReceiver:
    """The same with `recvfrom_into`."""

    def __init__(self, sockets: Sequence[socket.socket], capacity: int = BATCH) -> None:
        self.batch = Batch(capacity)
        self._turns = _Turns(len(sockets))
        self._sockets = list(sockets)
        self._view = self.batch.slots.reshape(-1).data

    def receive(self) -> int:
        """Fills the batch; see `Receiver`."""
        batch, count = self.batch, 0
        for index in self._turns.next():
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
        batch.count = count
        batch.note_use()
        return count

    def watch(self, used: Collection[int]) -> None:
        """Says which sockets have legs; see `Receiver`."""
        self._turns.watch(used)


def pack_name(address: str, port: int) -> bytes:
    """A `sockaddr_in` or `sockaddr_in6` of `NAME_BYTES` bytes."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
        name = socket.AF_INET6.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes(4) + packed
    else:
        packed = socket.inet_pton(socket.AF_INET, address)
        name = socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + packed
    return name.ljust(NAME_BYTES, b"\0")


class _Order(NamedTuple):
    """Message headers in the order in which a socket sends them, ready for the kernel."""

    rows: Index
    headers: np.ndarray[tuple[int], np.dtype[np.void]]
    address: int


class MMsgSender:
    """`sendmmsg` from an array of packets `(rows, bytes)`; of each its `length`, unless told otherwise."""

    def __init__(self, sockets: Sequence[socket.socket], packets: UInt8, length: int) -> None:
        self._files = [s.fileno() for s in sockets]
        self._call = _library_call("sendmmsg")
        rows, stride = packets.shape
        self._names: UInt8 = np.zeros((rows, NAME_BYTES), np.uint8)
        self._vectors = np.zeros(rows, _IOVEC)
        self._vectors["base"] = packets.ctypes.data + np.arange(rows) * stride
        self._vectors["length"] = length
        self._headers = np.zeros(rows, _MMSGHDR)
        self._headers["name"] = self._names.ctypes.data + np.arange(rows) * NAME_BYTES
        self._headers["iov"] = self._vectors.ctypes.data + np.arange(rows) * _IOVEC.itemsize
        self._headers["iovlen"] = 1
        self._orders: dict[int, _Order] = {}

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; see `Sender`."""
        self._names[row] = 0
        length = 0
        if remote is not None:
            self._names[row] = np.frombuffer(pack_name(remote.address, remote.port), np.uint8)
            length = 28 if is_ipv6(remote) else 16
        self._headers["namelen"][row] = length

    def set_length(self, row: int, length: int) -> None:
        """How long a row's packets are; see `Sender`."""
        self._vectors["length"][row] = length

    def send(self, index: int, rows: Index) -> int:
        """Sends some rows' packets; see `Sender`."""
        order = self._orders.get(index)
        if order is None or order.rows is not rows:
            headers = self._headers[rows]
            order = self._orders[index] = _Order(rows, headers, headers.ctypes.data)
        file, total, sent, errors, at = self._files[index], len(rows), 0, 0, 0
        while at < total:
            some = min(total - at, _MOST_PER_CALL)
            done = self._call(file, order.address + at * _MMSGHDR.itemsize, some, socket.MSG_DONTWAIT)
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
        self._lengths = [length] * len(packets)
        self._packets = packets
        self._destinations: dict[int, tuple[str, int]] = {}

    def set_destination(self, row: int, remote: Remote | None) -> None:
        """Where a row's packets go; see `Sender`."""
        if remote is None:
            self._destinations.pop(row, None)
        else:
            self._destinations[row] = (remote.address, remote.port)

    def set_length(self, row: int, length: int) -> None:
        """How long a row's packets are; see `Sender`."""
        self._lengths[row] = length

    def send(self, index: int, rows: Index) -> int:
        """Sends some rows' packets; see `Sender`."""
        sent = 0
        for row in rows.tolist():
            try:
                packet = self._packets[row, : self._lengths[row]].data
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
