"""A small HTTP/1.1 server on asyncio and h11, because a simulator of faults must own the connection.

The usual servers never let an application reset a connection, stop half-way through an answer or send one
twice. A handler takes a `Request` and returns a `Reply`, which says how it is delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import h11

from sipivr.simulator.cards import Delivery

MAX_REQUEST_BYTES: Final = 65_536
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A complete request; without a repr, because its body may hold a card."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and its delivery. `trickle_s` is the pause between two bytes."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain;charset=Windows-31J"
    delivery: Delivery = Delivery.NORMAL
    trickle_s: float = 0.01


Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]


class _Dropped(Exception):
    """The reply says that the connection ends here."""


class Server:
    """Serves `handler` on one socket.

    Args:
        handler: Called once for each request; connections are served concurrently.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address with the port really taken."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, let running requests finish for `grace_s`, then close everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=grace_s)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer, task)
        except _Dropped:
            _reset(writer)
        except (ConnectionError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._busy.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            request = await _receive(connection, reader)
            if request is None:
                return
            self._busy.add(task)
            reply = await self._handler(request)
            await _deliver(connection, writer, reply)
            self._busy.discard(task)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            if self._server is None or not self._server.is_serving():
                return
            connection.start_next_cycle()


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_REQUEST_BYTES:
                raise _Dropped
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            path, _, query = head.target.decode("ascii", "replace").partition("?")
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode("ascii"), path, query, headers, bytes(body))
        else:  # the peer closed
            return None


async def _deliver(connection: h11.Connection, writer: asyncio.StreamWriter, reply: Reply) -> None:
    if reply.delivery is Delivery.DROP:
        raise _Dropped
    head = connection.send(
        h11.Response(
            status_code=reply.status,
            headers=[
                ("Content-Type", reply.content_type),
                ("Content-Length", str(len(reply.body))),
            ],
        )
    )
    rest = connection.send(h11.Data(data=reply.body)) if reply.body else b""
    connection.send(h11.EndOfMessage())
    octets = (head or b"") + (rest or b"")
    if reply.delivery is Delivery.PARTIAL:
        writer.write(octets[: len(head or b"") + len(reply.body) // 2])
        await writer.drain()
        raise _Dropped
    if reply.delivery is Delivery.TWICE:
        octets += octets
    if reply.delivery is Delivery.TRICKLE:
        for index in range(len(octets)):
            writer.write(octets[index : index + 1])
            await writer.drain()
            await asyncio.sleep(reply.trickle_s)
    else:
        writer.write(octets)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN, as a dying machine or a firewall does."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
