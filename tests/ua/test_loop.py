"""Driving pjsip from asyncio where there is no epoll descriptor to watch (PyPI's pjsua2 for a first look)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sipivr.ua.loop import PJLoop


class SelectEndpoint:
    """Looks like PyPI's pjsua2 2.15.1: no `libGetSipIoqueueHandle`, and one event now and then."""

    def __init__(self) -> None:
        self.polled = asyncio.Event()
        self.waiting = 3

    def libHandleEvents(self, timeout_ms: int) -> int:  # noqa: N802 - pjsua2's name
        assert timeout_ms == 0
        self.waiting -= 1
        if self.waiting < 0:
            self.polled.set()
        return max(self.waiting, 0)


async def test_without_a_descriptor_the_timer_serves_until_nothing_is_waiting() -> None:
    endpoint = SelectEndpoint()
    faults: list[BaseException] = []
    loop = PJLoop(cast(Any, endpoint), faults.append)
    loop.start()
    async with asyncio.timeout(5):
        await endpoint.polled.wait()
    loop.stop()
    assert not faults
