"""The control socket over a real store; only the running calls are a stand-in."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlite_utils import Database

from sipivr.control.client import ControlClient
from sipivr.control.commands import Commands
from sipivr.control.messages import AnyCommand, Reply
from sipivr.control.server import ControlServer
from sipivr.store import read, write
from sipivr.store.records import SYSTEM, Actor, Call, PaymentChange, PaymentSession, Principal, Role
from sipivr.store.writer import StoreWriter
from tests.store.world import World, build


class Directory:
    def __init__(self, db: Database) -> None:
        self._db = db

    def principal(self, id: str, /) -> Principal | None:
        return read.principal(self._db, id)

    def call(self, id: str, /) -> Call | None:
        return read.call(self._db, id)

    def session(self, id: str, /) -> PaymentSession | None:
        return read.payment_session(self._db, id)


@dataclass
class FakeCalls:
    hung_up: list[str] = field(default_factory=list)
    canceled: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    running: bool = True
    target: str | None = None
    claimed_by: str | None = None
    commanded: list[tuple[str, ...]] = field(default_factory=list)
    refusal: str | None = None

    async def start_capture(self, call: str, session: str, /) -> str | None:
        self.commanded.append(("capture", call, session))
        return self.refusal

    async def dial(
        self, number: str, to: str, session: str | None, /, *, ring_s: int, merchant: str, by: Actor
    ) -> str:
        self.commanded.append(("dial", number, to, str(session), merchant))
        return "call_dialled"

    async def take_back(self, call: str, /) -> bool:
        self.commanded.append(("take_back", call))
        return self.running

    async def reset_field(self, call: str, /) -> bool:
        self.commanded.append(("reset_field", call))
        return self.running

    def operator_of(self, call: str, /) -> tuple[str | None, str | None]:
        return self.target, self.claimed_by

    def claim(self, call: str, principal: str, /) -> bool:
        if self.claimed_by not in (None, principal):
            return False
        self.claimed_by = principal
        return True

    async def hang_up(self, call: str, /) -> bool:
        self.hung_up.append(call)
        return self.running

    async def session_canceled(self, session: str, call: str, /) -> None:
        self.canceled.append((session, call))

    def start(self, change: PaymentChange, /) -> None:
        self.changed.append(change.id)

    def status(self) -> Mapping[str, str | int | bool]:
        return {"node": "n1", "calls": 3, "draining": False}


@dataclass
class Switch:
    world: World
    path: Path
    writer: StoreWriter
    commands: Commands
    server: ControlServer
    client: ControlClient
    calls: FakeCalls
    key: str
    operator: str
    operator_2: str
    other: str

    async def ask(self, command: AnyCommand) -> Reply:
        return await self.client.request(command)


@pytest.fixture
async def switch(tmp_path: Path) -> AsyncIterator[Switch]:
    world = build(tmp_path / "switch.db")
    everything = (
        "payment_sessions:read",
        "payment_sessions:write",
        "calls:read",
        "calls:write",
        "calls:dial",
        "merchant:write",
        "caller_numbers:write",
        "numbers:write",
        "platform:write",
        "payments:write",
        "refunds:write",
        "api_keys:write",
    )
    made = {
        name: write.put_principal(
            world.store,
            SYSTEM,
            role=role,
            merchant=merchant,
            name=name,
            permissions=everything,
            id=f"prn_{name}",
        ).id
        for name, role, merchant in (
            ("boss", Role.ADMINISTRATOR, world.merchant),
            ("key", Role.API_KEY, world.merchant),
            ("operator", Role.OPERATOR, world.merchant),
            ("operator_2", Role.OPERATOR, world.merchant),
            ("other", Role.ADMINISTRATOR, world.other),
            ("carrier", Role.PLATFORM, None),
        )
    }
    # A socket's path has 107 bytes at most; pytest's directories are longer.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "control.sock"
        reader = read.open_readonly(world.path)
        servers: list[ControlServer] = []
        writer = StoreWriter(
            world.path, world.keys, on_committed=lambda n: [s.publish_event(n) for s in servers] and None
        )
        await writer.start()
        calls = FakeCalls()
        commands = Commands(writer, Directory(reader), calls, calls)
        server = ControlServer(path, commands)
        servers.append(server)
        await server.start()
        client = ControlClient(path)
        await client.start()
        assert await client.wait_connected(5)
        yield Switch(
            world,
            path,
            writer,
            commands,
            server,
            client,
            calls,
            made["key"],
            made["operator"],
            made["operator_2"],
            made["other"],
        )
        await client.close()
        await server.stop()
        await writer.stop()
        reader.close()
    world.store.db.close()
