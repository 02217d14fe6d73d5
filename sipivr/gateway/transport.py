"""One POST to the gateway, told apart by the only thing that matters for a charge: was anything sent?

`httpx`'s transport is used without its client: a client would follow redirects, keep cookies, read proxy
settings from the environment and log the answer's reason phrase, which is text from the wire. What comes
back is a value::

    Answered    status and body arrived completely
    NotSent     no byte of this request left the machine
    Lost        at least one byte may have left, and no complete answer came

Exceptions of the libraries are turned into one of our words inside `Transport.post` and dropped there: a
protocol error quotes what the peer sent, and a hostile or broken peer may send the card back.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import httpcore
import httpx

from sipivr.gateway.network import ADDRESS_REFUSED, PIN_MISMATCH, GuardedWire, Network

#: A gateway's answer is below 2 kB; more than this is no answer.
MAX_ANSWER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `charge_s` is long because an answer that comes late is still better than asking for it."""

    connect_s: float = 5.0
    answer_s: float = 20.0
    charge_s: float = 60.0
    pool_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete HTTP answer; of its headers only those that sign it (RFC 9421, RFC 9530)."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Answered({self.status}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing left the machine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Something may have left the machine, and no whole answer came."""

    detail: str


#: Words that say that not a byte of the request was written.
_UNSENT: Final = frozenset(
    ("connect", "connect_timeout", "tls", "pool_timeout", ADDRESS_REFUSED, PIN_MISMATCH)
)

Posted: TypeAlias = Answered | NotSent | Lost


class Body(Protocol):
    """What is sent: bytes in one place that can be overwritten."""

    def __len__(self) -> int: ...

    def view(self) -> memoryview:
        """The bytes, uncopied."""
        ...

    def wipe(self) -> None:
        """Overwrite them."""
        ...


class _QuoteFilter(logging.Filter):
    """Drops httpcore's HTTP/1.1 trace: it prints answer headers and quotes malformed answers."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_QUOTE_FILTER: Final = _QuoteFilter()


class _BodyStream(httpx.AsyncByteStream):
    """Hands out the body without copying it, and knows whether it was asked for."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.started = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        # A memoryview is typed as not being bytes, yet is what h11 and the socket take.
        yield self._body.view()  # type: ignore[misc]


class _Watch:
    """httpcore's trace hook: notices the moment before the first byte is written."""

    def __init__(self) -> None:
        self.sending = False

    async def __call__(self, event: str, _info: object) -> None:
        if event.endswith("send_request_headers.started"):
            self.sending = True


def check_base_url(base_url: str) -> httpx.URL:
    """Check where requests, and so cards, may go: HTTPS, or HTTP to this machine for the simulator.

    Raises:
        ValueError: Another scheme, a host that is not loopback with ``http``, user information, a path, a
            query or a fragment.
    """
    url = httpx.URL(base_url)
    if url.userinfo or url.query or url.fragment or url.path not in ("", "/"):
        raise ValueError("gateway URL: scheme, host and port only")
    if not url.host:
        raise ValueError("gateway URL: no host")
    if url.scheme == "https":
        return url
    if url.scheme == "http" and is_loopback(url.host):
        return url
    raise ValueError("gateway URL: https, or http to loopback for the simulator")


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine. Names other than ``localhost`` are not: they can be re-pointed."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Transport:
    """Connections to one gateway host; belongs to one event loop.

    Args:
        base_url: See `check_base_url`.
        timeouts: All of them real deadlines, the sum of a request included.
        max_connections: Requests beyond that wait `Timeouts.pool_s` and are then `NotSent`.
        ca_file: Trust these authorities instead of certifi's.
        networks: Addresses that may be connected to; empty: every one (`public_only` False).
        public_only: Without `networks`: only addresses of the public internet.
        pins: Public keys that are accepted (`network.pin_of`); empty: any that TLS accepts.
        wire: Replaces the network in tests.
    """

    def __init__(
        self,
        base_url: str,
        timeouts: Timeouts,
        *,
        max_connections: int = 100,
        ca_file: str | None = None,
        networks: Collection[Network] = (),
        public_only: bool = False,
        pins: Collection[str] = (),
        wire: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = check_base_url(base_url)
        self._timeouts = timeouts
        logging.getLogger("httpcore.http11").addFilter(_QUOTE_FILTER)
        # A connection for each request: a peer that closes an idle connection just as a charge is written, or
        # that sends an answer twice, would else turn a good charge into an unknown one and lock the order. A
        # handshake costs less than that.
        self._wire = wire or GuardedWire(
            ssl.create_default_context(cafile=ca_file)
            if ca_file
            else httpx.create_ssl_context(trust_env=False),
            max_connections,
            tuple(networks) or None,
            pins,
            check_addresses=public_only or bool(networks),
        )
        self._closed = False

    async def post(
        self, path: str, body: Body, deadline_s: float, headers: Mapping[str, str] | None = None
    ) -> Posted:
        """Send `body` and wait for the whole answer. Never raises for the network. Wipes `body`."""
        if self._closed:
            body.wipe()
            return NotSent("closed")
        stream = _BodyStream(body)
        watch = _Watch()
        try:
            word, answered = await self._try(path, stream, watch, len(body), deadline_s, headers or {})
        finally:
            body.wipe()
        if answered is not None:
            return answered
        if word in _UNSENT:
            return NotSent(word)
        return Lost(word) if watch.sending or stream.started else NotSent(word)

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._wire.aclose()

    async def _try(
        self,
        path: str,
        stream: _BodyStream,
        watch: _Watch,
        length: int,
        deadline_s: float,
        headers: Mapping[str, str],
    ) -> tuple[str, Answered | None]:
        request = httpx.Request(
            "POST",
            self._url.copy_with(path=path),
            headers={
                "Host": self._url.netloc.decode("ascii"),
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(length),
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": "sipivr",
                **headers,
            },
            stream=stream,
            extensions={
                "trace": watch,
                "timeout": {
                    "connect": self._timeouts.connect_s,
                    "read": deadline_s,
                    "write": self._timeouts.answer_s,
                    "pool": self._timeouts.pool_s,
                },
            },
        )
        try:
            async with asyncio.timeout(deadline_s):
                response = await self._wire.handle_async_request(request)
                try:
                    return await self._read(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TransportError, httpx.StreamError, httpcore.NetworkError, OSError) as exc:
            return _word(exc), None
        except RuntimeError:
            # httpcore and anyio raise it for a pool or a stream that was closed under a request.
            return "broken", None

    async def _read(self, response: httpx.Response) -> tuple[str, Answered | None]:
        if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            return "encoded", None
        received = bytearray()
        async for chunk in response.aiter_raw():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                return "too_long", None
        return "", Answered(response.status_code, bytes(received), _signature_headers(response.headers))


def _signature_headers(headers: httpx.Headers) -> dict[str, str]:
    return {
        name: headers[name] for name in ("content-digest", "signature-input", "signature") if name in headers
    }


def _word(exc: BaseException) -> str:
    if isinstance(exc, httpx.ConnectError):
        # Our own words for what `network` found; never text from the wire.
        if str(exc) in (ADDRESS_REFUSED, PIN_MISMATCH, "tls"):
            return str(exc)
        return "tls" if _caused_by_tls(exc) else "connect"
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (httpx.PoolTimeout, "pool_timeout"),
        (httpx.ConnectTimeout, "connect_timeout"),
        (httpx.TimeoutException, "timeout"),
        (TimeoutError, "timeout"),
        (httpx.ProtocolError, "protocol"),
    )
    return next((word for kind, word in kinds if isinstance(exc, kind)), "broken")


def _caused_by_tls(exc: BaseException) -> bool:
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, ssl.SSLError):
            return True
        link = link.__cause__ or link.__context__
    return False
