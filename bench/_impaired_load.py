"""The other end of `bench rtp_impairments`: sends every leg's packets when they are due, keeps what listeners get.

A child of the bench, forked with sockets and schedules in memory. Arrivals are stamped by the kernel
(SO_TIMESTAMPNS), so that reading them in batches costs no precision.
"""

from __future__ import annotations

import dataclasses
import gc
import socket
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from bench._impairments import Sent
from media.arrays import Float64, Index, Int64
from media.hardening import raise_priority

_SO_TIMESTAMPNS: Final = 35
_READ_EVERY_S: Final = 0.01
_LONGEST_SLEEP_S: Final = 0.005
#: A packet that goes out so much later than it should counts as late.
_LATE_S: Final = 0.01
_TAIL_S: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One leg's packets on their way to the worker."""

    sent: Sent
    arrived: Index
    at_s: Float64
    socket: socket.socket
    """From which they come."""
    worker: tuple[str, int]
    """Where they go."""


def run_load(
    lines: Sequence[Line],
    listeners: dict[tuple[int, int], int],
    sockets: Sequence[socket.socket],
    control: Connection,
) -> None:
    """Plays all lines, then sends one dict: `started` (monotonic), `late`, `latest_ms`, `heard`.

    Args:
        lines: what to send.
        listeners: number of the listener by its socket's place in `sockets` and the worker's port.
        sockets: the load's sockets.
        control: where the result goes; the word "go" is awaited on it.
    """
    raise_priority()
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    times = np.concatenate([line.at_s for line in lines])
    owners = np.concatenate([np.full(len(line.at_s), at) for at, line in enumerate(lines)])
    packets = np.concatenate([line.arrived for line in lines])
    order = np.argsort(times, kind="stable")
    tables = [_table(line.sent) for line in lines]
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send("ready")
    control.recv()
    _read(sockets, {}, {}, 0.0)
    started = time.monotonic() + 0.1
    offset = time.time_ns() / 1e9 - time.monotonic() + started
    heard: dict[int, list[tuple[float, bytes]]] = {}
    schedule = (times[order], owners[order], packets[order])
    lateness = _send(lines, tables, schedule, started, (sockets, listeners, heard, offset))
    _wait(_TAIL_S, sockets, listeners, heard, offset)
    result: dict[str, Any] = {"started": started, "heard": heard}
    result["late"] = int((lateness > _LATE_S).sum())
    result["latest_ms"] = round(float(lateness.max(initial=0)) * 1000, 1)
    result["sent"] = len(lateness)
    control.send(result)


def _table(sent: Sent) -> list[tuple[int, ...]]:
    """The packets as Python numbers, in columns of the header's order and where the payload lies."""
    columns = ["word", "sequence", "timestamp", "ssrc", "start", "size"]
    return [tuple(row) for row in sent.packets[columns].tolist()]


def _send(
    lines: Sequence[Line],
    tables: Sequence[list[tuple[int, ...]]],
    schedule: tuple[Float64, Int64, Index],
    started: float,
    reading: tuple[Any, ...],
) -> Float64:
    """Sends what is due until all is sent; how much later than it should each packet went, seconds."""
    times, owners, packets = schedule
    lateness = np.zeros(len(times))
    headers = struct.Struct("!BBHII")
    at, last_read = 0, 0.0
    while at < len(times):
        now = time.monotonic() - started
        due = int(np.searchsorted(times, now, "right"))
        for place in range(at, due):
            owner = int(owners[place])
            line = lines[owner]
            word, sequence, timestamp, ssrc, start, size = tables[owner][packets[place]]
            payload = line.sent.data[start : start + size]
            line.socket.sendto(headers.pack(0x80, word, sequence, timestamp, ssrc) + payload, line.worker)
        lateness[at:due] = time.monotonic() - started - times[at:due]
        at = due
        now = time.monotonic() - started
        if now - last_read > _READ_EVERY_S:
            _read(*reading)
            last_read = now
        if at < len(times):
            time.sleep(min(max(times[at] - (time.monotonic() - started), 0.0005), _LONGEST_SLEEP_S))
    return lateness


def _wait(seconds: float, *reading: Any) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _read(*reading)
        time.sleep(_READ_EVERY_S)


def _read(
    sockets: Sequence[socket.socket],
    listeners: dict[tuple[int, int], int],
    heard: dict[int, list[tuple[float, bytes]]],
    offset: float,
) -> None:
    for at, sock in enumerate(sockets):
        while True:
            try:
                packet, ancillary, _, source = sock.recvmsg(2048, 64)
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                continue
            listener = listeners.get((at, source[1]))
            if listener is None:
                continue
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", data[:16])
                    heard.setdefault(listener, []).append((seconds + nanoseconds / 1e9 - offset, packet))
