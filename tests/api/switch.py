"""The switch's side of the control socket, with the store's own functions behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sipivr.control import messages as m
from sipivr.store import errors, read, write
from sipivr.store.records import Actor, Role
from sipivr.store.writer import StoreWriter
from tests.api.shim_client import decA, frame, recv


class FakeSwitch:
    """Carries out what arrives; `commands` are all that did."""

    def __init__(self, path: Path, writer: StoreWriter, reading) -> None:
        self.path = path
        self.writer = writer
        self.reading = reading
        self.commands: list[m.AnyCommand] = []
        self.delay_s = 0.0
        self.writers: set[asyncio.StreamWriter] = set()
        self.server = None

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        if self.server is None:
            return
        self.server.close()
        for w in self.writers:
            w.close()
        await self.server.wait_closed()
        self.server = None
        self.path.unlink(missing_ok=True)

    async def _serve(self, r, w) -> None:
        self.writers.add(w)
        try:
            while True:
                x = await recv(r, decA)
                if isinstance(x, m.Request):
                    self.t = asyncio.create_task(self._reply(w, x))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(w)
            w.close()

    async def _reply(self, w, x) -> None:
        try:
            w.write(frame(m.Reply(id=x.id, result=await self.handle(x.command))))
        except errors.Refused as e:
            w.write(frame(m.Reply(id=x.id, error=m.ErrorCode(e.code), detail=e.detail, related=e.related)))

    def committed(self, sequence: int) -> None:
        for w in self.writers:
            w.write(frame(m.EventNotice(sequence=sequence)))

    async def progress(self, notice: m.ProgressNotice) -> None:
        for w in self.writers:
            w.write(frame(notice))

    async def handle(self, command):
        self.commands.append(command)
        await asyncio.sleep(self.delay_s)
        if isinstance(command, m.Ping):
            return {"node": "node1", "calls": 0, "legs": 0, "workers": 1, "draining": False}
        known = self.reading(read.principal, command.principal)
        actor = Actor(command.principal, "api")
        match command:
            case m.CreatePaymentSession():
                made = await self.writer.run(
                    write.create_payment_session,
                    actor,
                    merchant=known.merchant,
                    shop=command.shop,
                    order_id=command.order_id,
                    amount=command.amount,
                    currency=command.currency,
                    language=command.language,
                    number=command.number,
                    metadata=command.metadata,
                )
                return {"session": made.id}
            case m.CancelPaymentSession():
                await self.writer.run(
                    write.cancel_session, actor, session=command.session, merchant=known.merchant
                )
                return {"session": command.session}
            case m.IssueIdentificationNumber():
                await self.writer.run(
                    write.issue_identification_number,
                    actor,
                    session=command.session,
                    merchant=known.merchant,
                )
                return {"session": command.session}
            case m.RegisterPrincipal():
                made = await self.writer.run(
                    write.register_principal,
                    actor,
                    merchant=known.merchant,
                    name=command.name,
                    role=Role(command.role),
                    permissions=command.permissions,
                )
                return {"principal": made.id}
            case m.DeactivatePrincipal():
                await self.writer.run(
                    write.deactivate_principal, actor, target=command.target, merchant=known.merchant
                )
                return {}
        raise errors.Invalid("no such command")
