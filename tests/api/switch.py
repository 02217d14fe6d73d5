"""The switch's end of the control socket: the real server and the real commands, without calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sipivr import config
from sipivr.control.commands import Commands, Result
from sipivr.control.failed import Failed
from sipivr.control.messages import AnyCommand, ErrorCode, ProgressNotice
from sipivr.control.server import ControlServer
from sipivr.store import read, write
from sipivr.store.records import Actor, Call, Mode, Number, PaymentChange, PaymentSession, Principal
from sipivr.store.writer import StoreWriter


class Directory:
    """Looks up in switch.db, with a connection for each question."""

    def __init__(self, paths: config.Paths) -> None:
        self._paths = paths

    def _ask(self, function, id_: str):
        db = read.open_readonly(self._paths.switch_db)
        try:
            return function(db, id_)
        finally:
            db.close()

    def principal(self, id: str, /) -> Principal | None:
        return self._ask(read.principal, id)

    def call(self, id: str, /) -> Call | None:
        return self._ask(read.call, id)

    def number(self, id: str, /) -> Number | None:
        return self._ask(read.number, id)

    def session(self, id: str, /) -> PaymentSession | None:
        return self._ask(read.payment_session, id)


class NoCalls:
    """No call is running; `workers` media workers are connected."""

    def __init__(self, writer: StoreWriter, directory: Directory) -> None:
        self.workers = 1
        self._writer = writer
        self._directory = directory

    async def dial(
        self, number: str, to: str, session: str | None, /, *, ring_s: int, merchant: str, by: Actor
    ) -> str:
        """Leaves the record of a call that rings."""
        found = self._directory.number(number)
        if found is None or found.merchant != merchant:
            raise Failed(ErrorCode.INVALID, "number: no such number")
        call = await self._writer.run(
            write.call_started,
            merchant=merchant,
            number=number,
            called=found.e164,
            caller=to,
            mode=Mode.TEST,
            node="node1",
            direction="outbound",
            by=by,
        )
        return call.id

    async def hang_up(self, call: str, /) -> bool:
        return False

    async def start_capture(self, call: str, session: str, /) -> str | None:
        return "the call has ended, or no operator is on it"

    async def take_back(self, call: str, /) -> bool:
        return False

    async def reset_field(self, call: str, /) -> bool:
        return False

    def operator_of(self, call: str, /) -> tuple[str | None, str | None]:
        return None, None

    def claim(self, call: str, principal: str, /) -> bool:
        return False

    async def session_canceled(self, session: str, call: str, /) -> None:
        return None

    def status(self) -> Mapping[str, str | int | bool]:
        sound = {"rtp_mos/switch/le/4.2": 1, "rtp_mos/switch/count": 3, "rtp_mos/switch/sum": 13_000_000}
        state = {"node": "node1", "calls": 0, "legs": 0, "workers": self.workers, "draining": False}
        return state | sound


class Changes:
    """Takes changes of payments and leaves them pending."""

    def __init__(self) -> None:
        self.started: list[PaymentChange] = []

    def start(self, change: PaymentChange, /) -> None:
        self.started.append(change)


class SwitchEnd:
    """Starts, stops and watches; `commands` are all that arrived, `delay_s` makes each take its time."""

    def __init__(self, paths: config.Paths, writer: StoreWriter) -> None:
        self.commands: list[AnyCommand] = []
        self.delay_s = 0.0
        directory = Directory(paths)
        self.calls = NoCalls(writer, directory)
        self.changes = Changes()
        self._carry_out = Commands(writer, directory, self.calls, self.changes)
        self._path = paths.control_socket
        self._server: ControlServer | None = None

    async def start(self) -> None:
        self._server = ControlServer(self._path, self._handle)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _handle(self, command: AnyCommand) -> Result:
        self.commands.append(command)
        await asyncio.sleep(self.delay_s)
        return await self._carry_out(command)

    def committed(self, sequence: int) -> None:
        if self._server is not None:
            self._server.publish_event(sequence)

    def progress(self, notice: ProgressNotice) -> None:
        assert self._server is not None
        self._server.publish_progress(notice)
