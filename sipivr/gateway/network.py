"""Who is at the other end: the address is checked where it is connected to, and the key that TLS showed is compared.

A name is resolved once for each connection, every address it has is checked, and the connection goes to an address that
was checked: a name that is pointed elsewhere between check and connection (DNS rebinding) gains nothing. A pin
is the SHA-256 of the certificate's SubjectPublicKeyInfo in hexadecimal, compared after the usual verification
and before a byte of a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import ipaddress
import socket
import ssl
import sys
import typing
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Final, TypeAlias

import httpcore
import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# httpcore asks for this optional package six times a request and searches the whole path for it each time, a quarter of
# a request's CPU. None in its place is how Python is told that a module is not there.
if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
#: As httpcore wants it.
_Options: TypeAlias = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]

ADDRESS_REFUSED: Final = "address_refused"
PIN_MISMATCH: Final = "pin_mismatch"


class AddressRefused(httpcore.ConnectError):
    """The name leads to an address that it must not lead to."""


class PinMismatch(httpcore.ConnectError):
    """TLS is in order, but the key is not the one that was pinned."""


def allowed(address: str, networks: Collection[Network] | None) -> bool:
    """Tell whether a request may go to `address`.

    Args:
        address: Numeric.
        networks: Those that are allowed; None: every address of the public internet and no other.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if networks is None:
        return ip.is_global and not ip.is_multicast
    return any(ip in network for network in networks)


def pin_of(certificate: bytes) -> str:
    """SHA-256 of a DER certificate's SubjectPublicKeyInfo, in hexadecimal."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only, and to pinned keys only.

    Args:
        networks: See `allowed`; `check_addresses` False leaves addresses alone.
        pins: Keys that are accepted; empty: any that TLS accepts.
        check_addresses: Whether addresses are checked.
    """

    def __init__(
        self, networks: Collection[Network] | None, pins: Collection[str], *, check_addresses: bool
    ) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._networks = networks
        self._pins = frozenset(pin.lower() for pin in pins)
        self._check = check_addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: _Options | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect to what was checked."""
        target = host
        if self._check:
            try:
                async with asyncio.timeout(timeout):
                    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except TimeoutError:
                raise httpcore.ConnectTimeout("resolving") from None
            except OSError:
                raise httpcore.ConnectError("resolving") from None
            addresses = [str(entry[4][0]) for entry in found]
            # One bad address among good ones is a sign of an attack, not of a choice.
            if not addresses or not all(allowed(address, self._networks) for address in addresses):
                raise AddressRefused(ADDRESS_REFUSED)
            target = addresses[0]
        stream = await self._inner.connect_tcp(target, port, timeout, local_address, socket_options)
        return _PinnedStream(stream, self._pins) if self._pins else stream

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)


class _PinnedStream(httpcore.AsyncNetworkStream):
    """A connection that becomes a TLS one only if the key is right."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, pins: frozenset[str]) -> None:
        self._inner = inner
        self._pins = pins

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read."""
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close."""
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> typing.Any:
        """See httpcore."""
        return self._inner.get_extra_info(info)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands, then look at the key."""
        stream = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        shown = stream.get_extra_info("ssl_object")
        certificate = shown.getpeercert(binary_form=True) if shown is not None else None
        if not certificate or pin_of(certificate) not in self._pins:
            await stream.aclose()
            raise PinMismatch(PIN_MISMATCH)
        return stream


class GuardedWire(httpx.AsyncBaseTransport):
    """A connection for each request, through `GuardedBackend`, with httpx's exceptions.

    Args:
        context: For TLS.
        max_connections: At once.
        networks: See `GuardedBackend`, as the next two.
        pins: Accepted keys.
        check_addresses: Whether addresses are checked.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        max_connections: int,
        networks: Collection[Network] | None,
        pins: Collection[str],
        *,
        check_addresses: bool,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=max_connections,
            max_keepalive_connections=0,
            retries=0,
            network_backend=GuardedBackend(networks, pins, check_addresses=check_addresses),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        assert isinstance(request.stream, typing.AsyncIterable)
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answered = await self._pool.handle_async_request(asked)
        except Exception as exc:
            raise _as_httpx(exc) from None
        assert isinstance(answered.stream, typing.AsyncIterable)
        return httpx.Response(
            answered.status,
            headers=answered.headers,
            stream=_Body(answered.stream, answered.aclose),
            extensions=answered.extensions,
        )

    async def aclose(self) -> None:
        """Close the pool."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(
        self,
        inner: typing.AsyncIterable[bytes],
        close: typing.Callable[[], typing.Coroutine[typing.Any, typing.Any, None]],
    ) -> None:
        self._inner = inner
        self._close = close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                yield chunk
        except Exception as exc:
            raise _as_httpx(exc) from None

    async def aclose(self) -> None:
        await self._close()


def _as_httpx(exc: Exception) -> Exception:
    """The exception of the same name, without text from the wire; ours as ConnectError with our own word."""
    if isinstance(exc, AddressRefused):
        return httpx.ConnectError(ADDRESS_REFUSED)
    if isinstance(exc, PinMismatch):
        return httpx.ConnectError(PIN_MISMATCH)
    if isinstance(exc, httpcore.ConnectError) and isinstance(exc.__context__, ssl.SSLError):
        return httpx.ConnectError("tls")
    twin = getattr(httpx, type(exc).__name__, None)
    if isinstance(twin, type) and issubclass(twin, httpx.TransportError):
        return twin("")
    return exc
