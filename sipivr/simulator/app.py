"""The simulator: which call is answered by whom, and how faults get between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from sipivr.simulator.cards import Delivery
from sipivr.simulator.control import Control
from sipivr.simulator.faults import Fault, Faults
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.membership import Membership
from sipivr.simulator.protocol import error_answer, parse_form
from sipivr.simulator.results import Clock, Result
from sipivr.simulator.server import Reply, Request
from sipivr.simulator.settings import SimulatorSettings
from sipivr.simulator.trading import Trading
from sipivr.simulator.wallet import Wallet

__all__ = ["Simulator", "SimulatorSettings"]

_Call: TypeAlias = Callable[[dict[str, str], Fault | None], Awaitable[Result]]
TOKEN_PATH = "/ext/api/credit/getToken"  # noqa: S105 - a path


class Simulator:
    """The gateway itself: hand `handle` to a `server.Server`.

    Args:
        ledger: Owned by the caller.
        settings: See there.
    """

    def __init__(self, ledger: Ledger, settings: SimulatorSettings | None = None) -> None:
        self._ledger = ledger
        self._settings = settings or SimulatorSettings()
        self.faults = Faults()
        clock = Clock()
        self._wallet = Wallet(ledger, self._settings, clock)
        self._control = Control(
            ledger, self.faults, self._settings.control_token, clock, lambda: self._wallet.public_key
        )
        trading = Trading(ledger, self._wallet, self._settings, clock)
        members = Membership(ledger, self._wallet, self._settings, clock)
        self._calls: dict[str, _Call] = {
            "EntryTran": trading.entry_tran,
            "ExecTran": trading.exec_tran,
            "AlterTran": trading.alter_tran,
            "ChangeTran": trading.change_tran,
            "SearchTrade": trading.search_trade,
            "SaveMember": members.save_member,
            "UpdateMember": members.update_member,
            "SearchMember": members.search_member,
            "DeleteMember": members.delete_member,
            "SaveCard": members.save_card,
            "SearchCard": members.search_card,
            "DeleteCard": members.delete_card,
            "TradedCard": members.traded_card,
            "getToken": self._get_token,
        }
        self._paths = {f"/payment/{call}.idPass": call for call in self._calls if call != "getToken"}
        self._paths[TOKEN_PATH] = "getToken"

    async def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path.startswith("/_simulator"):
            return await self._control.handle(request)
        call = self._paths.get(request.path)
        if call is None:
            return Reply(b"not found", 404, "text/plain")
        if request.method != "POST":
            return Reply(error_answer(["E31500014"]))
        fields = parse_form(request.body)
        await self._control.arrived(call)
        if self._settings.latency_s:
            await asyncio.sleep(self._settings.latency_s)
        return await self._with_fault(call, fields, self._calls[call])

    async def _get_token(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        code, token = self._wallet.give_token(fields)
        answer: dict[str, object] = {"resultCode": code}
        if token:
            answer["tokenObject"] = {"token": token}
        body = json.dumps(answer).encode()
        return Result(body, "OK" if token else f"token_{code}", content_type="application/json")

    async def _with_fault(self, call: str, fields: dict[str, str], handler: _Call) -> Reply:
        fault = self.faults.strike(call, fields.get("OrderID", ""))
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "hold_before":
            await fault.released.wait()
        if fault is not None and fault.before:
            body = error_answer([fault.code]) if fault.kind == "error" else b""
            result = Result(body, fault.code or "FAULT", fault.delivery)
        else:
            result = await handler(fields, fault)
            if fault is not None and fault.delivery is not Delivery.NORMAL:
                result.delivery = fault.delivery
        self._ledger.note(
            call,
            shop_id=fields.get("ShopID", "")[:13],
            order_id=fields.get("OrderID", "")[:27],
            answer=result.answer,
            delivery=result.delivery.value,
            at=time.time(),
        )
        if fault is not None and fault.kind == "hold_after":
            await fault.released.wait()
        return self._reply(result)

    def _reply(self, result: Result) -> Reply:
        if result.delivery is Delivery.ERROR_500:
            return Reply(b"<html>Internal Server Error</html>", 500, "text/html")
        if result.delivery is Delivery.GARBAGE:
            return Reply(b"\xff\x80<!doctype html><p>maintenance", 200, "text/html")
        return Reply(
            result.body,
            200,
            result.content_type,
            delivery=result.delivery,
            trickle_s=self._settings.trickle_s,
        )
