"""pjsua2 inside asyncio: one thread, one epoll descriptor, one short timer.

pjsip's sockets live in an epoll set of their own, whose descriptor is itself readable when one of them is;
asyncio watches that one. pj's timers (retransmissions, session timers) have no descriptor, so a 10 ms timer
serves them. What callbacks want done outside of pj goes through `post` and runs from asyncio.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from collections.abc import Callable
from typing import Final

import pjsua2 as pj

_TIMER_S: Final = 0.010
#: pj handles up to 16 socket events in one poll; a bounded number of polls keeps other work of the loop fair.
_POLLS: Final = 8


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
        # pj_ioqueue_t begins with the epoll descriptor (pjproject 2.17, os_linux epoll back end).
        self._descriptor = int(ctypes.c_int.from_address(int(endpoint.libGetSipIoqueueHandle())).value)
        self._posted: deque[Callable[[], None]] = deque()
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to watch."""
        self._loop.add_reader(self._descriptor, self._readable)
        self._timer = self._loop.call_later(_TIMER_S, self._tick)

    def stop(self) -> None:
        """Ends watching; what was posted still runs."""
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
        self._endpoint.libHandleEvents(0)
