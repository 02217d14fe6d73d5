"""The HTTP server: uvicorn, told to stop in the order that streams need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Generator
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from api import logs
from api.dependencies import Dependencies
from sipivr.config import APISettings, host_and_port

GRACE_S: Final = 10
HEAD_TIMEOUT_S: Final = 20.0
MAX_CONNECTIONS: Final = 2000

_logger = logging.getLogger("api")


class HeadTimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a limit on how long a request's head may take.

    Uvicorn has one for idle connections only: a client that sends a byte now and then would keep its
    connection for ever (invariant 4).
    """

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from here."""
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        """The next head is due from here."""
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        if self._due is not None:
            self._due.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self.loop.call_later(HEAD_TIMEOUT_S, self._overdue, self.cycle)

    def _overdue(self, cycle: object) -> None:
        # Each request is a new cycle: the same one means that no head has come.
        if self.cycle is cycle and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Says where it listens, and ends event streams before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, deps: Dependencies) -> None:
        super().__init__(config)
        self._deps = deps

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """SIGTERM and SIGINT stop the server. Uvicorn's own version raises them again at the end, and the
        process would die before its databases are closed.
        """
        loop = asyncio.get_running_loop()
        main = threading.current_thread() is threading.main_thread()
        caught = (signal.SIGTERM, signal.SIGINT) if main else ()
        for number in caught:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Logs `listening` with the addresses once connections are taken."""
        await super().startup(sockets)
        if not self.started:
            return
        scheme = "https" if self.config.is_ssl else "http"
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                logs.say(_logger, logging.INFO, "listening", address=f"{scheme}://{shown}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn waits for open answers, and a stream would never end by itself."""
        self._deps.live.close()
        await super().shutdown(sockets)


def server(app: FastAPI, deps: Dependencies, settings: APISettings) -> Server:
    """A server for these settings."""
    host, port = host_and_port(settings.listen)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        # Who is loopback decides about /metrics: no header may say so.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        ws="none",
        http=HeadTimeoutProtocol,
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="on",
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_S,
        backlog=512,
    )
    return Server(config, deps)
