"""Trades at the simulator: EntryTran, ExecTran, AlterTran, ChangeTran, SearchTrade."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sipivr.simulator.cards import BEHAVIOURS, Behaviour, Wait
from sipivr.simulator.faults import Fault
from sipivr.simulator.ledger import Ledger, TradeRow
from sipivr.simulator.protocol import (
    access_errors,
    alter_job_errors,
    amount_errors,
    card_errors,
    change_job_errors,
    client_field_errors,
    entry_errors,
    method_errors,
    order_id_errors,
    shop_errors,
)
from sipivr.simulator.results import Clock, Result, access_word, approval, delivered, failed, ok
from sipivr.simulator.settings import SimulatorSettings
from sipivr.simulator.wallet import Presented, Wallet

_STATUS_AFTER: Final = {"CHECK": "CHECK", "AUTH": "AUTH", "CAPTURE": "CAPTURE", "SAUTH": "SAUTH"}
_ALTER_FROM: Final = {
    "SALES": ("AUTH",),
    "VOID": ("AUTH", "CAPTURE", "SALES", "SAUTH"),
    "RETURN": ("CAPTURE", "SALES"),
    "RETURNX": ("CAPTURE", "SALES"),
    "AUTH": ("VOID",),
    "CAPTURE": ("VOID",),
}
#: ChangeTran names the job that the trade stands as.
_CHANGE_FROM: Final = {"AUTH": ("AUTH",), "CAPTURE": ("CAPTURE", "SALES"), "SAUTH": ("SAUTH",)}
_DAYS: Final = 180


class Trading:
    """Answers the calls on trades.

    Args:
        ledger: Where trades are.
        wallet: Knows cards by number, token or registration.
        settings: The simulator's.
        clock: Its time.
    """

    def __init__(self, ledger: Ledger, wallet: Wallet, settings: SimulatorSettings, clock: Clock) -> None:
        self._ledger = ledger
        self._wallet = wallet
        self._settings = settings
        self._clock = clock
        self._executing: set[str] = set()

    async def entry_tran(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """EntryTran: a trade that nothing has been done with yet."""
        errors = shop_errors(fields, self._settings.shops) + entry_errors(fields)
        if errors:
            return failed(errors)
        trade = TradeRow(
            shop_id=fields["ShopID"],
            order_id=fields["OrderID"],
            access_id=access_word(),
            access_pass=access_word(),
            job=fields["JobCd"],
            status="UNPROCESSED",
            amount=int(fields.get("Amount") or 0) if fields["JobCd"] != "CHECK" else 0,
            tax=int(fields.get("Tax") or 0),
            item_code=fields.get("ItemCode") or "0000990",
            process_date=self._clock.stamp(),
        )
        if not self._ledger.add(trade):
            return failed(["E01040010"])
        return ok({"AccessID": trade.access_id, "AccessPass": trade.access_pass})

    async def exec_tran(self, fields: dict[str, str], fault: Fault | None) -> Result:
        """ExecTran: charge a card that was keyed, a token or a registered card."""
        errors = access_errors(fields)
        trade = self._ledger.by_access(fields.get("AccessID", ""), fields.get("AccessPass", ""))
        if trade is None or trade.order_id != fields.get("OrderID"):
            errors.append("E01110002")
        card: Presented | None = None
        if fields.get("Token"):
            errors += self._wallet.token_errors(fields["Token"])
        elif fields.get("MemberID"):
            found, card = self._wallet.registered(fields)
            errors += found
        else:
            errors += card_errors(fields, self._clock.now().date())
        errors = errors or method_errors(fields) + client_field_errors(fields)
        if errors or trade is None:
            return failed(errors)
        if trade.access_id in self._executing:
            return failed(["E90010001"])
        if trade.status != "UNPROCESSED":
            return failed(["E11010001"])
        if fields.get("Token"):
            card = self._wallet.redeem(fields["Token"])
        elif card is None:
            card = self._wallet.keyed(fields)
        if card.refused:
            return failed([card.refused])
        self._executing.add(trade.access_id)
        try:
            return await self._execute(trade, fields, card, fault)
        finally:
            self._executing.discard(trade.access_id)

    async def _execute(
        self, trade: TradeRow, fields: Mapping[str, str], card: Presented, fault: Fault | None
    ) -> Result:
        behaviour = BEHAVIOURS[card.name]
        if card.name == "raw-pan-refused" and not card.raw:
            behaviour = BEHAVIOURS["visa-approved"]
        if behaviour.wait is Wait.SLOW:
            await asyncio.sleep(self._settings.slow_s)
        if behaviour.charges:
            trade = self._charge(trade, fields, card, behaviour, fault)
        if behaviour.code:
            return delivered(failed([behaviour.code]), behaviour.delivery)
        if not behaviour.charges:
            return Result(b"", "LOST", behaviour.delivery)
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
        return delivered(ok(answer), behaviour.delivery)

    def _charge(
        self,
        trade: TradeRow,
        fields: Mapping[str, str],
        card: Presented,
        behaviour: Behaviour,
        fault: Fault | None,
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
            card=card.name,
            mask=card.mask,
            expire=card.expire,
            site_id=card.site_id,
            member_id=card.member_id,
            forward="2a99662",
            approve=approval(),
            tran_id=self._clock.tran_id(),
            process_date=self._clock.stamp(),
            client_field1=fields.get("ClientField1", ""),
            client_field2=fields.get("ClientField2", ""),
            client_field3=fields.get("ClientField3", ""),
            hidden_until=self._clock.time() + hidden_s if hidden_s else 0.0,
        )
        self._ledger.change(
            charged, kind=charged.status, amount=trade.amount + trade.tax, at=self._clock.time()
        )
        return charged

    async def alter_tran(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """AlterTran: settle, void, refund, and a voided trade again."""
        errors = shop_errors(fields, self._settings.shops) + access_errors(fields)
        trade = self._ledger.by_access(fields.get("AccessID", ""), fields.get("AccessPass", ""))
        if trade is None or trade.shop_id != fields.get("ShopID"):
            errors.append("E01110002")
        errors += alter_job_errors(fields)
        if errors or trade is None:
            return failed(errors)
        job = fields["JobCd"]
        if trade.status == "UNPROCESSED":
            return failed(["E11010002"])
        if trade.status not in _ALTER_FROM[job]:
            return failed(["E11010003"])
        refused = self._calendar(trade, job)
        if refused:
            return failed([refused])
        if job in ("SALES", "AUTH", "CAPTURE"):
            errors = amount_errors(fields, needed=True)
            if not errors and (int(fields["Amount"]), int(fields.get("Tax") or 0)) != (
                trade.amount,
                trade.tax,
            ):
                errors = ["E01060010"]
            if errors:
                return failed(errors)
        # AUTH to SALES keeps Approve and TranID (recorded); so do reversals here. A new job takes new ones.
        return self._altered(trade, job, job, trade.amount, trade.tax, fresh=job in ("AUTH", "CAPTURE"))

    async def change_tran(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """ChangeTran: another amount, a new Approve and TranID."""
        errors = shop_errors(fields, self._settings.shops) + access_errors(fields)
        trade = self._ledger.by_access(fields.get("AccessID", ""), fields.get("AccessPass", ""))
        if trade is None or trade.shop_id != fields.get("ShopID"):
            errors.append("E01110002")
        errors += change_job_errors(fields) + amount_errors(fields, needed=True)
        if errors or trade is None:
            return failed(errors)
        if trade.status == "UNPROCESSED":
            return failed(["E11010002"])
        if trade.status not in _CHANGE_FROM[fields["JobCd"]]:
            return failed(["E11010003"])
        if self._age_days(trade) > _DAYS:
            return failed(["E11010010"])
        amount, tax = int(fields["Amount"]), int(fields.get("Tax") or 0)
        return self._altered(trade, trade.status, "CHANGE", amount, tax, fresh=True)

    def _altered(
        self, trade: TradeRow, status: str, kind: str, amount: int, tax: int, *, fresh: bool
    ) -> Result:
        changed = replace(
            trade,
            status=status,
            amount=amount,
            tax=tax,
            process_date=self._clock.stamp(),
            approve=approval() if fresh else trade.approve,
            tran_id=self._clock.tran_id() if fresh else trade.tran_id,
        )
        self._ledger.change(changed, kind=kind, amount=amount + tax, at=self._clock.time())
        return ok(
            {
                "AccessID": changed.access_id,
                "AccessPass": changed.access_pass,
                "Forward": changed.forward,
                "Approve": changed.approve,
                "TranID": changed.tran_id,
                "TranDate": changed.process_date,
            }
        )

    def _calendar(self, trade: TradeRow, job: str) -> str:
        """The code of a job that the calendar forbids: a sale is voided on its day, refunded in its month with
        RETURN, later with RETURNX; nothing is altered after 180 days.
        """
        if self._age_days(trade) > _DAYS:
            return "E11010010"
        if job == "VOID" and trade.status == "AUTH":
            return ""
        today = self._clock.stamp()
        right = {
            "VOID": trade.process_date[:8] == today[:8],
            "RETURN": trade.process_date[:6] == today[:6],
            "RETURNX": trade.process_date[:6] != today[:6],
        }
        return "" if right.get(job, True) else "E11010003"

    def _age_days(self, trade: TradeRow) -> int:
        return (
            self._clock.now().replace(tzinfo=None) - dt.datetime.strptime(trade.process_date, "%Y%m%d%H%M%S")
        ).days

    async def search_trade(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """SearchTrade."""
        errors = shop_errors(fields, self._settings.shops) + order_id_errors(fields)
        if errors:
            return failed(errors)
        trade = self._ledger.by_order(fields["ShopID"], fields["OrderID"])
        if trade is None:
            return failed(["E01110002"])
        shown = trade.status != "UNPROCESSED" and trade.hidden_until <= self._clock.time()

        def if_shown(text: str) -> str:
            return text if shown else ""

        return ok(
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
                "SiteID": trade.site_id,
                "MemberID": trade.member_id,
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
