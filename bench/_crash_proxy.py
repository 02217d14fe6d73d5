"""A relay between the switch and the gateway that breaks a connection at a chosen byte.

It knows each request by its call and its order, so that a break meets exactly the payment that it was meant for
and many can wait at once without one taking another's place. It keeps nothing of what it relays.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections import Counter
from typing import Final

#: Where a connection breaks, in the order of the bytes.
BOUNDARIES: Final = ("mid_request", "after_request", "answer_headers", "answer_body", "after_answer")
CALLS: Final = ("EntryTran", "ExecTran", "SearchTrade")
_READ_S: Final = 60.0


class Proxy:
    """Listens on loopback; made once, re-opened after `refuse_for`.

    Args:
        port: to listen on.
        upstream: port of the gateway on loopback.
        slowest_s: every answer takes up to so long, so that there is something to break into.
    """

    def __init__(self, port: int, upstream: int, slowest_s: float) -> None:
        self.port = port
        self._upstream = upstream
        self._slowest_s = slowest_s
        self._server: asyncio.Server | None = None
        self._armed: dict[tuple[str, str], str] = {}
        self._cut_next = 0
        self.hits: Counter[str] = Counter()
        self.active: dict[str, str] = {}
        self.busy = asyncio.Condition()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=512)

    async def stop(self) -> None:
        """Close the listener; what runs goes on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def refuse_for(self, seconds: float) -> None:
        """Connections are refused for a while, as those to a machine that is down."""
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    def arm(self, order_id: str, call: str, boundary: str) -> None:
        """Break the next `call` of an order at a boundary."""
        self._armed[order_id, call] = boundary

    def cut_next(self) -> None:
        """Reset the next connection before a byte of it is read."""
        self._cut_next += 1

    async def in_flight(self, orders: set[str], timeout_s: float) -> bool:
        """Waits until a request of one of the orders is on its way."""
        try:
            async with asyncio.timeout(timeout_s), self.busy:
                await self.busy.wait_for(lambda: bool(orders & set(self.active.values())))
        except TimeoutError:
            return False
        return True

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut_next:
            self._cut_next -= 1
            self.hits["connect"] += 1
            _reset(writer)
            return
        key = str(id(writer))
        try:
            async with asyncio.timeout(_READ_S):
                await self._relay(key, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _reset(writer)
        finally:
            async with self.busy:
                self.active.pop(key, None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _relay(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await _message(reader)
        call = re.search(rb"/payment/(\w+)\.idPass", head)
        order = re.search(rb"(?:\A|&)OrderID=([A-Za-z0-9-]+)", body)
        name = call[1].decode() if call else ""
        order_id = re.sub(r"-[0-9]{1,2}\Z", "", order[1].decode()) if order else ""
        boundary = self._armed.pop((order_id, name), "")
        async with self.busy:
            self.active[key] = order_id
            self.busy.notify_all()
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            sent = head + body
            if boundary == "mid_request":
                # Half of the body: the gateway has the beginning of a request and never the rest.
                up_writer.write(sent[: len(head) + len(body) // 2])
                await up_writer.drain()
                self._broken(name, boundary, writer)
                return
            up_writer.write(sent)
            await up_writer.drain()
            answer_head, answer_body = await _message(up_reader)
        finally:
            _reset(up_writer)
        await asyncio.sleep(random.uniform(0, self._slowest_s))
        whole = answer_head + answer_body
        cut = {
            "after_request": 0,
            "answer_headers": len(answer_head) // 2,
            "answer_body": len(answer_head) + len(answer_body) // 2,
        }.get(boundary, len(whole))
        writer.write(whole[:cut])
        await writer.drain()
        if boundary:
            # What was written must be on its way before the reset, which discards what is not.
            await asyncio.sleep(0.05)
            self._broken(name, boundary, writer)

    def _broken(self, call: str, boundary: str, writer: asyncio.StreamWriter) -> None:
        self.hits[f"{call} {boundary}"] += 1
        _reset(writer)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
