"""A simulator process, an adapter on it, and cards made the way the dialogue makes them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sipivr.card import Card, ExpiryEntry, PANEntry, SecurityCodeEntry
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import Job, Order, Secret, ShopAccount
from sipivr.gateway.registered_cards import SiteAccount
from tests.gateway.numbers import NUMBERS

SITE = SiteAccount("tsite00000001", Secret("sandsite01"))
SHOP = ShopAccount("tshop00000001", Secret("sandbox001"))


def make_card(number: str, expiry: str = "1230", code: str | None = "123") -> Card:
    card = Card()
    pan = PANEntry()
    for digit in number:
        pan.append(int(digit))
    card.put_pan(pan.take())
    expiry_entry = ExpiryEntry()
    for digit in expiry:
        expiry_entry.append(int(digit))
    card.put_expiry(expiry_entry.take())
    if code is not None:
        entry = SecurityCodeEntry(len(code))
        for digit in code:
            entry.append(int(digit))
        card.put_security_code(entry.take())
    return card


def card_named(name: str) -> Card:
    return make_card(NUMBERS[name])


class SimulatorProcess:
    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.process = process
        self.client = httpx.Client(base_url=url, trust_env=False)

    def fault(self, **described: object) -> None:
        assert self.client.post("/_simulator/faults", json=described).status_code == 201

    def clock(self, offset_s: float) -> None:
        assert self.client.post("/_simulator/clock", json={"offset_s": offset_s}).status_code == 200

    def clear(self) -> None:
        self.client.delete("/_simulator/faults")

    def charges(self, order_id: str) -> list[dict[str, object]]:
        ledger = self.client.get("/_simulator/ledger").json()
        return [charge for charge in ledger["charges"] if charge["order_id"] == order_id]


def start_simulator(directory: Path) -> SimulatorProcess:
    config = directory / "simulator.toml"
    config.write_text("slow_s = 0.2\nhidden_s = 0.3\ntrickle_s = 0.0\n")
    command = [sys.executable, "-m", "sipivr.simulator", "--listen", "127.0.0.1:0"]
    command += ["--ledger", str(directory / "ledger.db"), "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on http://"), line
    return SimulatorProcess(line.split()[-1], process)


def stop_simulator(simulator: SimulatorProcess, *, told: bool = False) -> int:
    simulator.client.close()
    if not told:
        simulator.process.terminate()
    code = simulator.process.wait(10)
    assert simulator.process.stdout is not None
    simulator.process.stdout.close()
    return code


@pytest.fixture(scope="session")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    simulator = start_simulator(tmp_path_factory.mktemp("simulator"))
    yield simulator
    assert stop_simulator(simulator) == 0


@pytest.fixture
def simulator(simulator_process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    yield simulator_process
    simulator_process.clear()
    simulator_process.clock(0)


@pytest.fixture
async def gateway(simulator: SimulatorProcess) -> AsyncIterator[GMOGateway]:
    adapter = GMOGateway(GMOSettings(simulator.url, test_mode=True))
    yield adapter
    await adapter.aclose()


@pytest.fixture(scope="session")
def make_order() -> Callable[..., Order]:
    numbers = itertools.count(1)

    def make(amount_yen: int = 12_300, job: Job = Job.CAPTURE, **more: object) -> Order:
        number = next(numbers)
        return Order(f"order-x{number}", amount_yen, job, f"intent-{number}", **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(directory / "cert.pem"), str(directory / "key.pem")
