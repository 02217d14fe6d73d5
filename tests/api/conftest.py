"""A whole control plane around a real switch.db and a real control server, without a switch.

The control server's handler carries commands out with the store's own functions, as the switch will. Two
merchants, A and B; A has a paid call.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.__main__ import dependencies
from api.app import create_app
from api.dependencies import Dependencies
from api.routes.api_keys import retire_principals
from api.store import credentials, keys
from sipivr import config
from sipivr.store import read, write
from sipivr.store.crypto import generate_keys
from sipivr.store.records import (
    SYSTEM,
    LadderEntry,
    LegQuality,
    Mode,
    NumberUse,
    PaymentStatus,
    Principal,
    Role,
)
from sipivr.store.writer import StoreWriter
from tests.api.switch import SwitchEnd

ADMIN_PASSWORD = "correct horse battery staple"
ALL_SCOPES = (
    "payment_sessions:read",
    "payment_sessions:write",
    "calls:read",
    "calls:write",
    "calls:dial",
    "payments:read",
    "payments:write",
    "refunds:write",
    "events:read",
    "shops:read",
    "numbers:read",
    "numbers:write",
    "caller_numbers:read",
    "caller_numbers:write",
    "merchant:read",
    "merchant:write",
    "metrics:read",
)
LIMIT = 60


class World:
    """What a test sees."""

    limit = LIMIT

    def __init__(self, base: Path) -> None:
        self.base = base
        self.settings = config.Settings(api=config.APISettings(requests_per_minute=LIMIT))
        self.paths = config.paths(self.settings, base)
        for directory in (self.paths.switch_db.parent, self.paths.control_socket.parent):
            directory.mkdir(parents=True)
        self.store_keys = generate_keys()
        self.writer = StoreWriter(self.paths.switch_db, self.store_keys, on_committed=self._committed)
        self.switch = SwitchEnd(self.paths, self.writer)
        self.deps: Dependencies
        self.app = None

    def _committed(self, sequence: int) -> None:
        self.switch.committed(sequence)

    @property
    def delay_s(self) -> float:
        return self.switch.delay_s

    @delay_s.setter
    def delay_s(self, value: float) -> None:
        self.switch.delay_s = value

    def commands(self, kind: type) -> list:
        return [command for command in self.switch.commands if isinstance(command, kind)]

    def read(self, function, *args, **kwargs):
        db = read.open_readonly(self.paths.switch_db)
        try:
            return function(db, *args, **kwargs)
        finally:
            db.close()

    def client(self, key: str | None = None, *, address: str = "127.0.0.1", auth=None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=(address, 40000), raise_app_exceptions=False),
            base_url="http://api",
            headers=headers,
            auth=auth,
        )

    async def start_switch(self) -> None:
        """And waits until the API has found it, where there is an API."""
        await self.switch.start()
        if self.app is not None:
            assert await self.deps.switch.connected(5)

    async def stop_switch(self) -> None:
        await self.switch.stop()

    async def retire(self) -> None:
        await retire_principals(self.deps)

    async def principal(self, principal_id: str) -> Principal:
        return self.read(read.principal, principal_id)

    async def deactivate(self, principal_id: str) -> None:
        await self.writer.run(write.deactivate_principal, SYSTEM, target=principal_id)

    async def set_permissions(self, principal_id: str, permissions: tuple[str, ...]) -> None:
        known = await self.principal(principal_id)
        await self.writer.run(
            write.put_principal,
            SYSTEM,
            id=principal_id,
            role=known.role,
            merchant=known.merchant,
            name=known.name,
            permissions=permissions,
        )

    async def add_key(
        self, principal: str, merchant: str, *, mode: str = "test", scopes: tuple[str, ...] = ALL_SCOPES
    ) -> str:
        secret = keys.new_secret(mode)
        key = await self.deps.store.run(
            keys.add,
            secret,
            name="a key",
            mode=mode,
            principal=principal,
            merchant=merchant,
            scopes=scopes,
            created_by="prn_init",
        )
        self.last_key_id = key.id
        return secret.text

    async def seed(self) -> None:
        """Two merchants with everything."""
        run = self.writer.run
        connector = await run(
            write.put_connector, SYSTEM, kind="gmo", url="http://127.0.0.1:8090", mode=Mode.TEST
        )
        for n, letter in enumerate("ab"):
            merchant = await run(write.put_merchant, SYSTEM, name=f"Merchant {letter}", mode=Mode.TEST)
            number = await run(
                write.put_number,
                SYSTEM,
                merchant=merchant.id,
                e164=f"+81501234567{n}",
                use=NumberUse.TRANSFER_IN,
            )
            shop = await run(
                write.put_shop,
                SYSTEM,
                merchant=merchant.id,
                name=f"Shop {letter}",
                gateway_shop_id=f"tshop0000000{n}",
                gateway_password="shop-pass",
                connector=connector.id,
            )
            admin, owner, reader = [
                await run(
                    write.put_principal,
                    SYSTEM,
                    role=role,
                    merchant=merchant.id,
                    name=name,
                    permissions=permissions,
                )
                for role, name, permissions in (
                    (Role.ADMINISTRATOR, "admin", (*ALL_SCOPES, "api_keys:write")),
                    (Role.API_KEY, "key", ALL_SCOPES),
                    (Role.API_KEY, "reader", ALL_SCOPES),
                )
            ]
            await self.deps.store.run(
                credentials.add,
                name=f"admin-{letter}",
                principal=admin.id,
                password=ADMIN_PASSWORD,
                cost=16,
            )
            for name, value in (("merchant", merchant), ("number", number), ("shop", shop)):
                setattr(self, f"{name}_{letter}", value.id)
            setattr(self, f"principal_{letter}", owner.id)
            if letter == "a":
                self.key_reader = await self.add_key(reader.id, merchant.id, scopes=("calls:read",))
            setattr(self, f"key_{letter}", await self.add_key(owner.id, merchant.id))
            setattr(self, f"key_id_{letter}", self.last_key_id)
        await self._paid_call()

    async def _paid_call(self) -> None:
        run = self.writer.run
        self.paid_order = "PAID1"
        actor = dataclasses.replace(SYSTEM, principal=self.principal_a)
        session = await run(
            write.create_payment_session,
            actor,
            merchant=self.merchant_a,
            shop=self.shop_a,
            order_id=self.paid_order,
            amount=500,
        )
        call = await run(
            write.call_started,
            merchant=self.merchant_a,
            number=self.number_a,
            called="+815012345670",
            caller="+819012341234",
            mode=Mode.TEST,
            node="node1",
        )
        self.call_a = call.id
        self.paid_session = session.id
        leg = await run(write.leg_started, call=call.id, party="customer", sip_call_id="abc@example")
        await run(write.call_answered, call=call.id)
        await run(
            write.leg_changed,
            leg=leg.id,
            rtp={"packets_lost": 3},
            quality=LegQuality(mos=4.38, remote_mos=4.21, round_trip_ms=38.2, remote_lost=12),
        )
        await run(
            write.add_ladder,
            [
                LadderEntry(
                    call=call.id,
                    at=call.started_at,
                    direction="in",
                    peer="192.0.2.1:5060",
                    summary="INVITE\x1b[2J",
                    text="INVITE sip:x SIP/2.0\r\nVia: …",
                    leg=leg.id,
                )
            ],
        )
        claimed = await run(
            write.claim_identification_number,
            merchant=self.merchant_a,
            digits=session.identification_number,
            call=call.id,
        )
        assert claimed.id == session.id
        await run(write.capture_started, call=call.id)
        payment = await run(write.begin_payment, session=session.id, call=call.id, brand="visa", last4="1111")
        await run(write.payment_entered, payment=payment.id, access_id="acc", access_pass="pass")
        await run(write.payment_executing, payment=payment.id)
        await run(
            write.payment_closed, payment=payment.id, status=PaymentStatus.APPROVED, approval_number="123456"
        )
        await run(write.capture_ended, call=call.id, outcome="done")
        await run(write.call_ended, call=call.id, outcome="paid", ended_by="switch")
        self.payment_a = payment.id
        open_session = await run(
            write.create_payment_session,
            actor,
            merchant=self.merchant_a,
            shop=self.shop_a,
            order_id="OPEN1",
            amount=700,
        )
        self.session_a = open_session.id
        self.event_a = self.read(read.events_after, 0, merchant=self.merchant_a)[0].id


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """A world in a directory whose name is short enough for a Unix socket."""
    base = Path(tempfile.mkdtemp(prefix="api-"))
    world = World(base)
    await world.writer.start()
    await world.start_switch()
    world.deps = dependencies(world.settings, world.paths)
    try:
        await world.seed()
        world.app = create_app(world.deps)
        async with world.app.router.lifespan_context(world.app):
            assert await world.deps.switch.connected(5)
            clients = {
                "a": world.client(world.key_a),
                "b": world.client(world.key_b),
                "nobody": world.client(),
                "admin_a": world.client(auth=httpx.BasicAuth("admin-a", ADMIN_PASSWORD)),
                "admin_b": world.client(auth=httpx.BasicAuth("admin-b", ADMIN_PASSWORD)),
            }
            for name, client in clients.items():
                setattr(world, name, client)
            try:
                yield world
            finally:
                await asyncio.gather(*(client.aclose() for client in clients.values()))
    finally:
        world.deps.reader.close()
        world.deps.store.close()
        await world.stop_switch()
        await world.writer.stop()
        shutil.rmtree(base)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as found:
        yield found
