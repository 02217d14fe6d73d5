"""The two commands as processes: `init` prints secrets once, `serve` serves and stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api import __main__ as entry
from bench.harness import free_port
from sipivr.store import read
from sipivr.store.records import Role
from tests.api.conftest import World

ROOT = Path(__file__).parents[2]


def _settings(world: World, more: str = "") -> tuple[Path, int]:
    port = free_port()
    path = world.base / "sipivr.toml"
    path.write_text(f'[api]\nlisten = "127.0.0.1:{port}"\n{more}\n[log]\nformat = "json"\n')
    return path, port


def _init(config: Path, name: str, principal: str, key_principal: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "api", "init", "--config", str(config), "--administrator", name]
    return subprocess.run(
        [*command, "--principal", principal, "--key-principal", key_principal],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _administrator(world: World) -> str:
    found = world.read(read.principals, world.merchant_a)
    return next(p.id for p in found if p.role is Role.ADMINISTRATOR)


async def _serve(config: Path, port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "api", "serve", "--config", str(config)),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        async for line in process.stderr:
            said = json.loads(line)
            if said["message"] == "listening":
                assert said["address"].endswith(f":{port}")
                return process
    raise AssertionError("it ended without listening")


async def _stop(process: asyncio.subprocess.Process) -> list[str]:
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    return [json.loads(line)["message"] for line in errors.splitlines()]


async def test_init_serve_and_stop(world: World):
    config, port = _settings(world)
    made = await asyncio.to_thread(_init, config, "Root", _administrator(world), world.principal_a)
    assert (made.returncode, made.stderr) == (0, "")
    printed = json.loads(made.stdout)
    assert printed["administrator"]["name"] == "root"
    assert printed["api_key"]["secret"].startswith("sk_test_")
    again = await asyncio.to_thread(_init, config, "root", _administrator(world), world.principal_a)
    assert (again.returncode, again.stdout) == (3, "")

    process = await _serve(config, port)
    key = {"Authorization": f"Bearer {printed['api_key']['secret']}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=key) as client:
        assert (await client.get("/v1/shops")).status_code == 200
        password = httpx.BasicAuth("root", printed["administrator"]["password"])
        listed = await client.get("/v1/api_keys", auth=password)
        assert printed["api_key"]["id"] in {row["id"] for row in listed.json()["data"]}
        assert (
            "sipivr_api_requests_total" in (await client.get("/metrics", headers={"Authorization": ""})).text
        )
        async with client.stream("GET", "/v1/events/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines)
            said = await _stop(process)
    assert "stopped" in said
    assert "fault" not in said


@pytest.mark.parametrize("wrong", ["principal", "key"])
async def test_init_refuses_what_it_cannot_bind(world: World, wrong: str):
    config, _ = _settings(world)
    admin = _administrator(world)
    arguments = (world.principal_a, world.principal_a) if wrong == "principal" else (admin, "prn_none")
    made = await asyncio.to_thread(_init, config, "root", *arguments)
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr


async def test_serve_with_tls(world: World):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = world.base / "c.pem", world.base / "k.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    config, port = _settings(world, f'tls_certificate = "{pem}"\ntls_key = "{private}"')
    process = await _serve(config, port)
    trust = ssl.create_default_context(cafile=str(pem))
    async with httpx.AsyncClient(verify=trust) as client:
        answer = await client.get(f"https://127.0.0.1:{port}/healthz")
        assert answer.json() == {"status": "ok"}
        assert "max-age" in answer.headers["strict-transport-security"]
    await _stop(process)


def test_what_cannot_be_served_says_why(tmp_path: Path):
    missing = subprocess.run(
        [sys.executable, "-m", "api", "serve", "--config", str(tmp_path / "none.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr


async def test_init_reads_a_switch_db_at_rest(world: World, monkeypatch):
    """As `api`'s user, who cannot make the `-wal` and `-shm` that a clean close has removed."""

    def refused(_: object) -> int:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(read, "newest_sequence", refused)
    with pytest.raises(sqlite3.OperationalError):
        entry._open_records(world.paths.switch_db)
    monkeypatch.undo()
    at_rest = world.base / "rest.db"
    with sqlite3.connect(world.paths.switch_db) as source, sqlite3.connect(at_rest) as target:
        source.backup(target)
    source.close()
    target.close()
    monkeypatch.setattr(read, "newest_sequence", refused)
    records = entry._open_records(at_rest)
    assert read.merchant(records, world.merchant_a).id == world.merchant_a
    records.close()
