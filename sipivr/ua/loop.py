"""pjsua2 inside asyncio: one thread, one epoll descriptor, one short timer.

pjsip's sockets live in an epoll set of their own, whose descriptor is itself readable when one of them is;
asyncio watches that one. pj's timers (retransmissions, session timers) have no descriptor, so a 10 ms timer
serves them. What callbacks want done outside of pj goes through `post` and runs from asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pjsua2 as pj

_TIMER_S: Final = 0.010
#: The usual 208 kB hold about 90 SIP messages: a stall of 0.1 s at 300 calls/s overflows them.
_RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
#: pj handles up to 16 socket events in one poll; a bounded number of polls keeps other work of the loop fair.
_POLLS: Final = 8


def widen_receive_buffer(port: int) -> int:
    """Gives the UDP socket that pj has bound to `port` a large receive buffer; returns its size in bytes.

    pjsua2 shows no descriptor and sets no buffer, so the process's own descriptors are looked through.
    """
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            duplicate = os.dup(int(entry.name))
        except OSError:
            continue
        try:
            found = socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
            continue
        with found:
            if found.type != socket.SOCK_DGRAM or found.family not in {socket.AF_INET, socket.AF_INET6}:
                continue
            if found.getsockname()[1] != port:
                continue
            # The first needs CAP_NET_ADMIN and ignores net.core.rmem_max, the second is cut to it.
            for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
                with contextlib.suppress(PermissionError):
                    found.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BUFFER_BYTES)
                    break
            return found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return 0


class PJLoop:
    """Drives one endpoint from the running asyncio loop.

    Args:
        endpoint: an initialised endpoint, `threadCnt=0`, `mainThreadOnly=True`.
        on_fault: told what a posted function raised.
    """

    def __init__(self, endpoint: pj.Endpoint, on_fault: Callable[[BaseException], None]) -> None:
        self._endpoint = endpoint
        self._on_fault = on_fault
        self._loop = asyncio.get_running_loop()
        self._descriptor = _epoll_descriptor(endpoint)
        self._posted: deque[Callable[[], None]] = deque()
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to watch."""
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._readable)
        self._timer = self._loop.call_later(_TIMER_S, self._tick)

    def stop(self) -> None:
        """Ends watching; what was posted still runs."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def post(self, function: Callable[[], None]) -> None:
        """Runs `function` soon, outside every pj callback, after what was posted before."""
        self._posted.append(function)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Runs what was posted."""
        self._flushing = False
        for _ in range(len(self._posted)):
            function = self._posted.popleft()
            try:
                function()
            except Exception as error:
                self._on_fault(error)
        if self._posted and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def _readable(self) -> None:
        for _ in range(_POLLS):
            if self._endpoint.libHandleEvents(0) <= 0:
                break

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TIMER_S, self._tick)
        self._readable()


def _epoll_descriptor(endpoint: pj.Endpoint) -> int | None:
    """Of pjsip's sockets; None where this pjsua2 has none to show (PyPI's 2.15.1 uses select): the timer serves."""
    handle = getattr(endpoint, "libGetSipIoqueueHandle", None)
    if handle is None:
        return None
    # pj_ioqueue_t begins with the epoll descriptor (pjproject 2.17, os_linux epoll back end).
    return int(ctypes.c_int.from_address(int(handle())).value)
