"""The simulator's calls: EntryTran, ExecTran, AlterTran, SearchTrade."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sipivr.gateway.test_cards import test_card_name
from sipivr.simulator.cards import BEHAVIOURS, Behaviour, Delivery, Wait
from sipivr.simulator.control import Control
from sipivr.simulator.faults import Fault, Faults
from sipivr.simulator.ledger import Ledger, TradeRow
from sipivr.simulator.protocol import (
    JST,
    access_errors,
    alter_job_errors,
    amount_errors,
    card_errors,
    client_field_errors,
    entry_errors,
    error_answer,
    form_answer,
    luhn_holds,
    method_errors,
    order_id_errors,
    parse_form,
    shop_errors,
)
from sipivr.simulator.server import Reply, Request

_STATUS_AFTER: Final = {"CHECK": "CHECK", "AUTH": "AUTH", "CAPTURE": "CAPTURE", "SAUTH": "SAUTH"}
_ALTER_FROM: Final = {
    "SALES": ("AUTH",),
    "VOID": ("AUTH", "CAPTURE", "SALES", "SAUTH"),
    "RETURN": ("CAPTURE", "SALES"),
    "RETURNX": ("CAPTURE", "SALES"),
    "AUTH": ("VOID",),
    "CAPTURE": ("VOID",),
}


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Everything that can be set.

    Attributes:
        shops: ShopID → ShopPass.
        latency_s: Added to every answer of the protocol.
        slow_s: What the test card ``slow`` takes.
        hidden_s: How long ``late-approval`` stays UNPROCESSED.
        trickle_s: Pause between two bytes of a trickled answer.
        control_token: If set, control requests need it as a bearer token.
    """

    shops: dict[str, str] = field(default_factory=lambda: {"tshop00000001": "sandbox001"})
    latency_s: float = 0.0
    slow_s: float = 5.0
    hidden_s: float = 10.0
    trickle_s: float = 0.01
    control_token: str = ""


@dataclass(slots=True)
class _Result:
    """What a call came to, before delivery."""

    body: bytes
    answer: str
    delivery: Delivery = Delivery.NORMAL


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
        self._executing: set[str] = set()
        self._control = Control(ledger, self.faults, self._settings.control_token)

    async def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path.startswith("/_simulator/"):
            return await self._control.handle(request)
        call = request.path.removeprefix("/payment/").removesuffix(".idPass")
        handler = {
            "EntryTran": self._entry_tran,
            "ExecTran": self._exec_tran,
            "AlterTran": self._alter_tran,
            "SearchTrade": self._search_trade,
        }.get(call)
        if handler is None or request.path != f"/payment/{call}.idPass":
            return Reply(b"not found", 404, "text/plain")
        if request.method != "POST":
            return Reply(error_answer(["E31500014"]))
        fields = parse_form(request.body)
        await self._control.arrived(call)
        if self._settings.latency_s:
            await asyncio.sleep(self._settings.latency_s)
        return await self._with_fault(call, fields, handler)

    async def _with_fault(
        self, call: str, fields: dict[str, str], handler: Callable[[dict[str, str], Fault | None], Any]
    ) -> Reply:
        fault = self.faults.strike(call, fields.get("OrderID", ""))
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "hold_before":
            await fault.released.wait()
        if fault is not None and fault.before:
            body = error_answer([fault.code]) if fault.kind == "error" else b""
            result = _Result(body, fault.code or "FAULT", fault.delivery)
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

    def _reply(self, result: _Result) -> Reply:
        if result.delivery is Delivery.ERROR_500:
            return Reply(b"<html>Internal Server Error</html>", 500, "text/html")
        if result.delivery is Delivery.GARBAGE:
            return Reply(b"\xff\x80<!doctype html><p>maintenance", 200, "text/html")
        return Reply(result.body, delivery=result.delivery, trickle_s=self._settings.trickle_s)

    async def _entry_tran(self, fields: dict[str, str], _fault: Fault | None) -> _Result:
        errors = shop_errors(fields, self._settings.shops) + entry_errors(fields)
        if errors:
            return _failed(errors)
        trade = TradeRow(
            shop_id=fields["ShopID"],
            order_id=fields["OrderID"],
            access_id=secrets.token_hex(16),
            access_pass=secrets.token_hex(16),
            job=fields["JobCd"],
            status="UNPROCESSED",
            amount=int(fields.get("Amount") or 0) if fields["JobCd"] != "CHECK" else 0,
            tax=int(fields.get("Tax") or 0),
            item_code=fields.get("ItemCode") or "0000990",
            process_date=_now(),
        )
        if not self._ledger.add(trade):
            return _failed(["E01040010"])
        return _ok({"AccessID": trade.access_id, "AccessPass": trade.access_pass})

    async def _exec_tran(self, fields: dict[str, str], fault: Fault | None) -> _Result:
        errors = access_errors(fields)
        trade = self._ledger.by_access(fields.get("AccessID", ""), fields.get("AccessPass", ""))
        if trade is None or trade.order_id != fields.get("OrderID"):
            errors.append("E01110002")
        errors += card_errors(fields, dt.datetime.now(JST).date())
        errors = errors or method_errors(fields) + client_field_errors(fields)
        if errors or trade is None:
            return _failed(errors)
        if trade.access_id in self._executing:
            return _failed(["E90010001"])
        if trade.status != "UNPROCESSED":
            return _failed(["E11010001"])
        name = test_card_name(fields["CardNo"].encode())
        if name is None:
            return _failed(["E11010099" if luhn_holds(fields["CardNo"]) else "E41170099"])
        self._executing.add(trade.access_id)
        try:
            return await self._execute(trade, fields, name, fault)
        finally:
            self._executing.discard(trade.access_id)

    async def _execute(
        self, trade: TradeRow, fields: dict[str, str], name: str, fault: Fault | None
    ) -> _Result:
        behaviour = BEHAVIOURS[name]
        if behaviour.wait is Wait.SLOW:
            await asyncio.sleep(self._settings.slow_s)
        if behaviour.charges:
            trade = self._charge(trade, fields, name, behaviour, fault)
        if behaviour.code:
            return _delivered(_failed([behaviour.code]), behaviour.delivery)
        if not behaviour.charges:
            return _Result(b"", "LOST", behaviour.delivery)
        answer = {
            "ACS": "0",
            "OrderID": trade.order_id,
            "Forward": trade.forward,
            "Method": trade.method,
            "PayTimes": trade.pay_times,
            "Approve": trade.approve,
            "TranID": trade.tran_id,
            "TranDate": trade.process_date,
        }
        text = "".join(value for key, value in answer.items() if key != "ACS")
        text += self._settings.shops[trade.shop_id]
        digest = hashlib.md5(text.encode("cp932"), usedforsecurity=False).hexdigest()
        answer["CheckString"] = digest[::-1] if behaviour.wrong_check_string else digest
        if fields.get("ClientFieldFlag") == "1":
            for n in (1, 2, 3):
                answer[f"ClientField{n}"] = fields.get(f"ClientField{n}", "")
        return _delivered(_ok(answer), behaviour.delivery)

    def _charge(
        self, trade: TradeRow, fields: dict[str, str], name: str, behaviour: Behaviour, fault: Fault | None
    ) -> TradeRow:
        hidden_s = self._settings.hidden_s if behaviour.hidden else 0.0
        if fault is not None and fault.kind == "hide":
            hidden_s = fault.seconds
        method = fields.get("Method") or "1"
        charged = replace(
            trade,
            status=_STATUS_AFTER[trade.job],
            method=method,
            pay_times=fields.get("PayTimes", "") if method in ("2", "4") else "",
            card=name,
            mask="*" * (len(fields["CardNo"]) - 4) + fields["CardNo"][-4:],
            forward="2a99662",
            approve=f"{secrets.randbelow(10_000_000):07}",
            tran_id=_tran_id(),
            process_date=_now(),
            client_field1=fields.get("ClientField1", ""),
            client_field2=fields.get("ClientField2", ""),
            client_field3=fields.get("ClientField3", ""),
            hidden_until=time.time() + hidden_s if hidden_s else 0.0,
        )
        self._ledger.change(charged, kind=charged.status, amount=trade.amount + trade.tax, at=time.time())
        return charged

    async def _alter_tran(self, fields: dict[str, str], _fault: Fault | None) -> _Result:
        errors = shop_errors(fields, self._settings.shops) + access_errors(fields)
        trade = self._ledger.by_access(fields.get("AccessID", ""), fields.get("AccessPass", ""))
        if trade is None or trade.shop_id != fields.get("ShopID"):
            errors.append("E01110002")
        errors += alter_job_errors(fields)
        if errors or trade is None:
            return _failed(errors)
        job = fields["JobCd"]
        if trade.status == "UNPROCESSED":
            return _failed(["E11010002"])
        if trade.status not in _ALTER_FROM[job]:
            return _failed(["E11010003"])
        if job in ("SALES", "AUTH", "CAPTURE"):
            errors = amount_errors(fields, needed=True)
            if not errors and (int(fields["Amount"]), int(fields.get("Tax") or 0)) != (
                trade.amount,
                trade.tax,
            ):
                errors = ["E01060010"]
            if errors:
                return _failed(errors)
        # AUTH to SALES keeps Approve and TranID (recorded); so do reversals here. A new job takes new ones.
        fresh = job in ("AUTH", "CAPTURE")
        changed = replace(
            trade,
            status=job,
            process_date=_now(),
            approve=f"{secrets.randbelow(10_000_000):07}" if fresh else trade.approve,
            tran_id=_tran_id() if fresh else trade.tran_id,
        )
        self._ledger.change(changed, kind=job, amount=trade.amount + trade.tax, at=time.time())
        return _ok(
            {
                "AccessID": changed.access_id,
                "AccessPass": changed.access_pass,
                "Forward": changed.forward,
                "Approve": changed.approve,
                "TranID": changed.tran_id,
                "TranDate": changed.process_date,
            }
        )

    async def _search_trade(self, fields: dict[str, str], _fault: Fault | None) -> _Result:
        errors = shop_errors(fields, self._settings.shops) + order_id_errors(fields)
        if errors:
            return _failed(errors)
        trade = self._ledger.by_order(fields["ShopID"], fields["OrderID"])
        if trade is None:
            return _failed(["E01110002"])
        shown = trade.status != "UNPROCESSED" and trade.hidden_until <= time.time()

        def if_shown(text: str) -> str:
            return text if shown else ""

        return _ok(
            {
                "OrderID": trade.order_id,
                "Status": trade.status if shown else "UNPROCESSED",
                "ProcessDate": trade.process_date,
                "JobCd": trade.job,
                "AccessID": trade.access_id,
                "AccessPass": trade.access_pass,
                "ItemCode": trade.item_code,
                "Amount": str(trade.amount) if trade.amount else "",
                "Tax": str(trade.tax),
                "SiteID": "",
                "MemberID": "",
                "CardNo": if_shown(trade.mask),
                "Expire": "",
                "Method": if_shown(trade.method),
                "PayTimes": if_shown(trade.pay_times),
                "Forward": if_shown(trade.forward),
                "TranID": if_shown(trade.tran_id),
                "Approve": if_shown(trade.approve),
                "ClientField1": if_shown(trade.client_field1),
                "ClientField2": if_shown(trade.client_field2),
                "ClientField3": if_shown(trade.client_field3),
            }
        )


def _delivered(result: _Result, delivery: Delivery) -> _Result:
    """Return the result with another delivery."""
    return replace(result, delivery=delivery)


def _ok(fields: dict[str, str]) -> _Result:
    return _Result(form_answer(fields), "OK")


def _failed(codes: list[str]) -> _Result:
    return _Result(error_answer(codes), "|".join(codes))


def _now() -> str:
    return dt.datetime.now(JST).strftime("%Y%m%d%H%M%S")


def _tran_id() -> str:
    moment = dt.datetime.now(JST).strftime("%y%m%d%H%M")
    return moment + "1" * 12 + f"{secrets.randbelow(1_000_000):06}"
