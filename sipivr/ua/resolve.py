"""Where to send a request: RFC 3263 over dnspython, so that pjsua never sees a host name.

pjsua without a resolver calls getaddrinfo and stops the loop (10 s seen on a dead name server) and knows no
SRV. Answers are cached by TTL in dnspython's cache; every look-up has a deadline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver

from sipivr.ua.settings import Transport

_DEFAULT_PORT: Final = {Transport.UDP: 5060, Transport.TCP: 5060, Transport.TLS: 5061}
_NAPTR_SERVICE: Final = {"SIP+D2U": Transport.UDP, "SIP+D2T": Transport.TCP, "SIPS+D2T": Transport.TLS}
_SRV_PREFIX: Final = {Transport.UDP: "_sip._udp", Transport.TCP: "_sip._tcp", Transport.TLS: "_sips._tcp"}
_MAX_DESTINATIONS: Final = 16
_CACHE_ENTRIES: Final = 1000


class ResolveError(Exception):
    """No address for a host; `str()` is a sentence."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One numeric place to send to, with the name that a TLS certificate must show."""

    address: str
    port: int
    transport: Transport
    host: str


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of an A, AAAA, SRV or NAPTR record that matter here."""

    target: str
    priority: int = 0
    weight: int = 0
    port: int = 0
    service: str = ""


class Lookup(Protocol):
    """One DNS question; an empty answer when there is no such record."""

    async def __call__(self, name: str, kind: str) -> Sequence[Record]:
        """Asks for `kind` (`A`, `AAAA`, `SRV`, `NAPTR`) records of `name`."""


class DNSLookup:
    """`Lookup` by the machine's name servers.

    Args:
        timeout_s: for each question.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def __call__(self, name: str, kind: str) -> Sequence[Record]:
        """See `Lookup`."""
        if self._resolver is None:
            self._resolver = dns.asyncresolver.Resolver()
            self._resolver.cache = dns.resolver.LRUCache(_CACHE_ENTRIES)
        try:
            answer = await self._resolver.resolve(name, kind, lifetime=self._timeout_s)
        except dns.exception.DNSException:
            # Whatever the reason, this name has no such record for now; `Resolver` says so if none is left.
            return ()
        return [_record(kind, item) for item in answer]


def _record(kind: str, item: object) -> Record:
    def field(name: str) -> str:
        value = getattr(item, name)
        return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)

    if kind == "SRV":
        return Record(field("target"), int(field("priority")), int(field("weight")), int(field("port")))
    if kind == "NAPTR":
        order = int(field("order")) * 65536 + int(field("preference"))
        return Record(field("replacement"), order, service=field("service").upper())
    return Record(field("address"))


class Resolver:
    """RFC 3263 §4 for one target at a time.

    Args:
        lookup: asks one question.
        timeout_s: for the whole of one resolution.
        rng: for SRV weights (RFC 2782).
    """

    def __init__(self, lookup: Lookup, timeout_s: float, rng: random.Random | None = None) -> None:
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._rng = rng or random.Random()

    async def resolve(
        self, host: str, port: int | None = None, transport: Transport | None = None, *, secure: bool = False
    ) -> tuple[Destination, ...]:
        """Places to try, in order. Numeric hosts pass straight.

        Args:
            host: name, IPv4 or IPv6 address (brackets allowed).
            port: from the URI, None when it has none.
            transport: from the URI's parameter, None when it has none.
            secure: a sips: URI: nothing but TLS.

        Raises:
            ResolveError: there is none, or not in time.
        """
        host = host.strip("[]").rstrip(".").lower()
        if secure:
            transport = Transport.TLS
        if host == "localhost":
            host = "127.0.0.1"
        try:
            ip_address(host)
        except ValueError:
            pass
        else:
            chosen = transport or Transport.UDP
            return (Destination(host, port or _DEFAULT_PORT[chosen], chosen, host),)
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._by_name(host, port, transport)
        except TimeoutError:
            raise ResolveError("The name servers did not answer in time.") from None
        if not found:
            raise ResolveError("The host name has no address.")
        return tuple(found[:_MAX_DESTINATIONS])

    async def _by_name(self, host: str, port: int | None, transport: Transport | None) -> list[Destination]:
        if port is not None:
            return await self._addresses(host, host, port, transport or Transport.UDP)
        for service_transport, name in await self._services(host, transport):
            found: list[Destination] = []
            for record in self._ordered(await self._lookup(name, "SRV")):
                # RFC 2782: a target of "." says that the service is decidedly not there.
                if record.target != ".":
                    target = record.target.rstrip(".")
                    found += await self._addresses(host, target, record.port, service_transport)
                if len(found) >= _MAX_DESTINATIONS:
                    break
            if found:
                return found
        chosen = transport or Transport.UDP
        return await self._addresses(host, host, _DEFAULT_PORT[chosen], chosen)

    async def _services(self, host: str, transport: Transport | None) -> list[tuple[Transport, str]]:
        """SRV names to ask, in order (RFC 3263 §4.1)."""
        if transport is not None:
            return [(transport, f"{_SRV_PREFIX[transport]}.{host}")]
        records = sorted(await self._lookup(host, "NAPTR"), key=lambda record: record.priority)
        named = [
            (_NAPTR_SERVICE[r.service], r.target.rstrip(".")) for r in records if r.service in _NAPTR_SERVICE
        ]
        return named or [(t, f"{_SRV_PREFIX[t]}.{host}") for t in (Transport.UDP, Transport.TCP)]

    def _ordered(self, records: Sequence[Record]) -> list[Record]:
        """By priority, and within one by weighted lot (RFC 2782)."""
        ordered: list[Record] = []
        for priority in sorted({record.priority for record in records}):
            group = [record for record in records if record.priority == priority]
            while group:
                weights = [record.weight + 0.01 for record in group]
                pick = self._rng.choices(range(len(group)), weights)[0]
                ordered.append(group.pop(pick))
        return ordered

    async def _addresses(self, host: str, target: str, port: int, transport: Transport) -> list[Destination]:
        answers = await asyncio.gather(self._lookup(target, "A"), self._lookup(target, "AAAA"))
        return [Destination(r.target, port, transport, host) for answer in answers for r in answer]
