"""A whole switch on loopback, started as a user would start it: `sipivr init`, then `sipivr serve`.

For the demonstration, the benches and the tests. Everything lives in one directory and ends with the context.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from sipivr import config
from sipivr.store import crypto, database
from sipivr.store.database import WritableStore

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


def free_port() -> int:
    """A port that is free for UDP and TCP, from below the kernel's own range, where nobody is given it meanwhile."""
    for port in random.sample(range(10_000, 16_000), 200):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                probes.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 10000 and 16000")


class SwitchFailed(Exception):
    """The switch did not start; the message holds the end of its log."""


class Switch:
    """A running switch. Made by `running_switch`."""

    def __init__(self, directory: Path, environment: Mapping[str, str], ports: Mapping[str, int]) -> None:
        self.directory = directory
        self.settings = directory / "sipivr.toml"
        self.log_path = directory / "switch.log"
        self.environment = {**os.environ, **environment}
        self.sip_port = ports["sip"]
        self.api_url = f"http://127.0.0.1:{ports['api']}"
        self.simulator_url = f"http://127.0.0.1:{ports['simulator']}"
        self.first: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._api: httpx.AsyncClient | None = None

    async def initialise(self) -> None:
        """`sipivr init`; what it prints once is in `first`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sipivr",
            "init",
            "--dir",
            str(self.directory),
            "--json",
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        if process.returncode:
            raise SwitchFailed(errors.decode() or out.decode())
        self.first = json.loads(out)

    async def start(self) -> None:
        """`sipivr serve`, up to its readiness."""
        # The child has its own copy of the descriptor; the log outlives this function in the child.
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sipivr",
                "serve",
                "--config",
                str(self.settings),
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        async with httpx.AsyncClient(base_url=self.api_url) as probe:
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    while not await _ready(probe):
                        if self._process.returncode is not None:
                            raise SwitchFailed(self.log_tail())
                        await asyncio.sleep(0.1)
            except TimeoutError:
                await self.stop()
                raise SwitchFailed(self.log_tail()) from None
        self._api = httpx.AsyncClient(
            base_url=self.api_url, headers={"Authorization": f"Bearer {self.api_key}"}, timeout=30
        )

    async def stop(self) -> int:
        """SIGTERM and the wait for a clean end; the exit status."""
        if self._api is not None:
            await self._api.aclose()
            self._api = None
        process = self._process
        if process is None or process.returncode is not None:
            return process.returncode or 0 if process else 0
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def api_key(self) -> str:
        """The first key."""
        return str(self.first["api_key"])

    @property
    def api(self) -> httpx.AsyncClient:
        """A client with the first key."""
        assert self._api is not None
        return self._api

    @property
    def number(self) -> str:
        """The number to dial."""
        return str(self.first["number"])

    @property
    def caller(self) -> str:
        """The caller that the merchant has allowed."""
        return str(self.first["caller"])

    def uri(self, number: str | None = None) -> str:
        """Where to call."""
        return f"sip:{number or self.number}@127.0.0.1:{self.sip_port}"

    def log_tail(self, lines: int = 40) -> str:
        """The end of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-lines:])

    def children(self) -> dict[str, int]:
        """Process ids of the supervisor's children by kind (`main`, `media-0`, `media-spare`, `api`, `simulator`)."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                status = dict(
                    re.findall(r"^(Name|PPid|State):\s*(\S+)", (entry / "status").read_text(), re.MULTILINE)
                )
                if int(status["PPid"]) != self.pid or status["State"] == "Z":
                    continue
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                found[_kind(words, status["Name"])] = int(entry.name)
        return found

    async def create_session(self, **fields: Any) -> dict[str, Any]:
        """`POST /v1/payment_sessions` with sound defaults."""
        body = {
            "shop": self.first["shop"],
            "order_id": f"order{os.urandom(5).hex()}",
            "amount": 12_300,
            "currency": "JPY",
            **fields,
        }
        answer = await self.api.post(
            "/v1/payment_sessions", json=body, headers={"Idempotency-Key": os.urandom(12).hex()}
        )
        answer.raise_for_status()
        return dict(answer.json())

    async def get(self, path: str) -> dict[str, Any]:
        """A resource of the API."""
        answer = await self.api.get(path)
        answer.raise_for_status()
        return dict(answer.json())

    async def ledger(self) -> list[dict[str, Any]]:
        """The simulator's own account of what was charged."""
        async with httpx.AsyncClient(base_url=self.simulator_url, timeout=30) as client:
            answer = await client.get("/_simulator/ledger")
            answer.raise_for_status()
            found = answer.json()
            return list(found["trades"] if isinstance(found, dict) else found)


def prompt_cache() -> Path:
    """Where spoken prompts, which take long to make, survive the clone: beside the built wheels."""
    chosen = os.environ.get("SIPIVR_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sipivr"
    return (Path(chosen) if chosen else default) / "prompts"


def _kind(words: list[str], name: str) -> str:
    line = " ".join(words)
    if "media.spare" in line:  # it renames itself when it becomes a worker
        return name if name.startswith("media-") else "media-spare"
    if "media.worker" in line:
        index = words[words.index("--index") + 1] if "--index" in words else "0"
        return f"media-{index}"
    for module, kind in (
        ("sipivr.bootstrap", "main"),
        ("sipivr.simulator", "simulator"),
        (" api ", "api"),
    ):
        if module in line:
            return kind
    return line


async def _ready(probe: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await probe.get("/readyz")).status_code == httpx.codes.OK
    return False


@contextlib.asynccontextmanager
async def running_switch(
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    plant: Callable[[WritableStore], None] | None = None,
) -> AsyncIterator[Switch]:
    """A switch with its own settings, databases and ports in `directory`.

    Args:
        directory: empty; everything is made in it.
        environment: settings that differ.
        plant: adds rows to `switch.db` before the first start, as an installation's own seeding would.
    """
    ports = {
        "sip": free_port(),
        "api": free_port(),
        "simulator": free_port(),
    }
    settings = {
        "SIPIVR_SIP__UDP": f"127.0.0.1:{ports['sip']}",
        "SIPIVR_SIP__TCP": "",
        "SIPIVR_API__LISTEN": f"127.0.0.1:{ports['api']}",
        "SIPIVR_SIMULATOR__LISTEN": f"127.0.0.1:{ports['simulator']}",
        "SIPIVR_CALLS__DRAIN_S": "5",
        "SIPIVR_PROMPTS__CACHE_DIR": str(prompt_cache()),
        **(environment or {}),
    }
    switch = Switch(directory, settings, ports)
    await switch.initialise()
    if plant is not None:
        paths = config.paths(config.load(switch.settings), directory)
        db = database.open_writable(paths.switch_db)
        plant(database.WritableStore(db, crypto.load_keys(paths.keys)))
        db.close()
    await switch.start()
    try:
        yield switch
    finally:
        await switch.stop()
