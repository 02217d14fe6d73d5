import asyncio
import random

import pytest

from sipivr.ua.resolve import Destination, Record, ResolveError, Resolver
from sipivr.ua.settings import Transport


class Zone:
    """A `Lookup` from a table."""

    def __init__(self, **records) -> None:
        self.records = {}
        self.asked = []

    def add(self, name: str, kind: str, *records: Record) -> "Zone":
        self.records[name, kind] = records
        return self

    async def __call__(self, name: str, kind: str):
        self.asked.append((name, kind))
        return self.records.get((name, kind), ())


def resolver(zone, timeout_s: float = 1.0) -> Resolver:
    return Resolver(zone, timeout_s, random.Random(1))


@pytest.mark.parametrize(
    ("host", "port", "transport", "expected"),
    [
        ("192.0.2.1", None, None, Destination("192.0.2.1", 5060, Transport.UDP, "192.0.2.1")),
        ("192.0.2.1", 5080, Transport.TCP, Destination("192.0.2.1", 5080, Transport.TCP, "192.0.2.1")),
        (
            "[2001:db8::1]",
            None,
            Transport.TLS,
            Destination("2001:db8::1", 5061, Transport.TLS, "2001:db8::1"),
        ),
        ("localhost", 7, None, Destination("127.0.0.1", 7, Transport.UDP, "127.0.0.1")),
    ],
)
async def test_numeric_hosts_pass_straight(host, port, transport, expected):
    zone = Zone()
    assert await resolver(zone).resolve(host, port, transport) == (expected,)
    assert zone.asked == []


async def test_a_port_means_addresses_only():
    zone = (
        Zone()
        .add("sip.example.com", "A", Record("192.0.2.1"))
        .add("sip.example.com", "AAAA", Record("2001:db8::1"))
    )
    found = await resolver(zone).resolve("SIP.example.com.", 5070)
    assert [(d.address, d.port, d.host) for d in found] == [
        ("192.0.2.1", 5070, "sip.example.com"),
        ("2001:db8::1", 5070, "sip.example.com"),
    ]


async def test_naptr_then_srv_by_priority():
    zone = (
        Zone()
        .add(
            "example.com",
            "NAPTR",
            Record("_sip._udp.example.com.", 2, service="SIP+D2U"),
            Record("_sip._tcp.example.com.", 1, service="SIP+D2T"),
            Record("elsewhere.", 0, service="E2U+SIP"),
        )
        .add(
            "_sip._tcp.example.com",
            "SRV",
            Record("b.example.com.", 20, 1, 5062),
            Record("a.example.com.", 10, 1, 5061),
        )
        .add("a.example.com", "A", Record("192.0.2.1"))
        .add("b.example.com", "A", Record("192.0.2.2"))
    )
    found = await resolver(zone).resolve("example.com")
    assert [(d.address, d.port, d.transport) for d in found] == [
        ("192.0.2.1", 5061, Transport.TCP),
        ("192.0.2.2", 5062, Transport.TCP),
    ]


async def test_without_records_it_is_the_address():
    zone = Zone().add("example.com", "A", Record("192.0.2.1"))
    assert await resolver(zone).resolve("example.com") == (
        Destination("192.0.2.1", 5060, Transport.UDP, "example.com"),
    )


async def test_a_secure_uri_asks_for_tls_alone():
    zone = (
        Zone()
        .add("_sips._tcp.example.com", "SRV", Record("a.example.com", 1, 1, 5061))
        .add("a.example.com", "A", Record("192.0.2.1"))
    )
    found = await resolver(zone).resolve("example.com", secure=True)
    assert found[0].transport is Transport.TLS
    assert ("example.com", "NAPTR") not in zone.asked


async def test_a_service_that_is_decidedly_absent():
    zone = Zone().add("_sip._udp.example.com", "SRV", Record(".", 0, 0, 0))
    with pytest.raises(ResolveError):
        await resolver(zone).resolve("example.com", transport=Transport.UDP)


async def test_a_dead_name_server_costs_its_deadline_only():
    async def hang(name: str, kind: str):
        await asyncio.Event().wait()

    with pytest.raises(ResolveError, match="in time"):
        await Resolver(hang, 0.01).resolve("example.com")


async def test_weights_share_the_load():
    zone = (
        Zone()
        .add("_sip._udp.example.com", "SRV", Record("a.", 1, 90, 1), Record("b.", 1, 10, 1))
        .add("a", "A", Record("192.0.2.1"))
        .add("b", "A", Record("192.0.2.2"))
    )
    fair = Resolver(zone, 1.0, random.Random(3))
    first = [(await fair.resolve("example.com", transport=Transport.UDP))[0].address for _ in range(200)]
    assert 150 < first.count("192.0.2.1") < 200
