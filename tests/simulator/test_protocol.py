"""The simulator by itself: recorded answers, limits, states, and what its ledger holds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sipivr.simulator.app import Simulator, SimulatorSettings
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.server import Server
from tests.gateway.numbers import NUMBERS

SHOP = {"ShopID": "tshop00000001", "ShopPass": "sandbox001"}
CARD = {"CardNo": NUMBERS["visa-approved"], "Expire": "3012", "SecurityCode": "739"}


class Wire:
    def __init__(self, client: httpx.AsyncClient, ledger_path: Path) -> None:
        self.client = client
        self.ledger_path = ledger_path

    async def raw(self, call: str, **fields: str) -> str:
        answer = await self.client.post(f"/payment/{call}.idPass", data=fields)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain;charset=Windows-31J"
        return answer.content.decode("cp932")

    async def ask(self, call: str, **fields: str) -> dict[str, str]:
        pairs = (piece.partition("=") for piece in (await self.raw(call, **fields)).split("&"))
        return {name: value for name, _, value in pairs}

    async def enter(self, order_id: str, job: str = "AUTH", **more: str) -> dict[str, str]:
        answer = await self.ask("EntryTran", **SHOP, OrderID=order_id, JobCd=job, Amount="1000", **more)
        return {"AccessID": answer["AccessID"], "AccessPass": answer["AccessPass"]}

    async def pay(self, order_id: str, job: str = "AUTH") -> dict[str, str]:
        access = await self.enter(order_id, job)
        return access | await self.ask("ExecTran", **access, OrderID=order_id, Method="1", **CARD)

    async def ledger(self) -> dict[str, Any]:
        got: dict[str, Any] = (await self.client.get("/_simulator/ledger")).json()
        return got


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    server = Server(Simulator(ledger, SimulatorSettings(trickle_s=0.0, hidden_s=60.0)).handle)
    host, port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield Wire(client, path)
    await server.stop()
    ledger.close()


async def test_recorded_errors(wire: Wire) -> None:
    answer = await wire.raw("EntryTran", **SHOP, OrderID="null", JobCd="null", Amount="null")
    assert answer == "ErrCode=E01|E01&ErrInfo=E01050002|E01060006"
    nulls = ("AccessID", "AccessPass", "OrderID", "Method", "PayTimes", "CardNo", "Expire")
    answer = await wire.raw("ExecTran", **dict.fromkeys(nulls, "null"))
    codes = "E01090008|E01100008|E01110002|E01170011|E01170006|E01180006"
    assert answer == f"ErrCode=E01|E01|E01|E01|E01|E01&ErrInfo={codes}"
    answer = await wire.raw(
        "AlterTran", **SHOP, AccessID="null", AccessPass="null", JobCd="SALES", Amount="null"
    )
    assert answer == "ErrCode=E01|E01|E01&ErrInfo=E01090008|E01100008|E01110002"


async def test_recorded_search_of_an_unprocessed_trade(wire: Wire) -> None:
    await wire.enter("1362106772")
    answer = await wire.raw("SearchTrade", **SHOP, OrderID="1362106772")
    assert re.fullmatch(
        r"OrderID=1362106772&Status=UNPROCESSED&ProcessDate=\d{14}&JobCd=AUTH&AccessID=[0-9a-f]{32}"
        r"&AccessPass=[0-9a-f]{32}&ItemCode=0000990&Amount=1000&Tax=0&SiteID=&MemberID=&CardNo=&Expire=&Method="
        r"&PayTimes=&Forward=&TranID=&Approve=&ClientField1=&ClientField2=&ClientField3=",
        answer,
    )


async def test_search_shows_the_mask(wire: Wire) -> None:
    paid = await wire.pay("o1")
    found = await wire.ask("SearchTrade", **SHOP, OrderID="o1")
    assert found["CardNo"] == "************1111"
    assert (found["Status"], found["Approve"], found["TranID"]) == ("AUTH", paid["Approve"], paid["TranID"])


async def test_auth_to_sales_keeps_approve_and_tran_id(wire: Wire) -> None:
    paid = await wire.pay("o1")
    access = {name: paid[name] for name in ("AccessID", "AccessPass")}
    sold = await wire.ask("AlterTran", **SHOP, **access, JobCd="SALES", Amount="1000")
    assert (sold["Approve"], sold["TranID"]) == (paid["Approve"], paid["TranID"])
    again = await wire.ask("AlterTran", **SHOP, **access, JobCd="SALES", Amount="1000")
    assert again["ErrInfo"] == "E11010003"
    assert (await wire.ask("AlterTran", **SHOP, **access, JobCd="RETURN"))["Approve"] == paid["Approve"]
    assert [charge["kind"] for charge in (await wire.ledger())["charges"]] == ["AUTH", "SALES", "RETURN"]


@pytest.mark.parametrize(
    ("job", "fields", "code"),
    [
        ("AUTH", {"JobCd": "SALES", "Amount": "999"}, "E01060010"),
        ("AUTH", {"JobCd": "SALES"}, "E01060001"),
        ("AUTH", {"JobCd": "CHECK"}, "E01050002"),
        ("AUTH", {}, "E01050001"),
        ("AUTH", {"JobCd": "RETURN"}, "E11010003"),
        ("CAPTURE", {"JobCd": "SALES", "Amount": "1000"}, "E11010003"),
    ],
)
async def test_alter_refuses(wire: Wire, job: str, fields: dict[str, str], code: str) -> None:
    paid = await wire.pay("o1", job)
    access = {name: paid[name] for name in ("AccessID", "AccessPass")}
    assert (await wire.ask("AlterTran", **SHOP, **access, **fields))["ErrInfo"] == code


async def test_alter_of_an_unprocessed_trade_and_void(wire: Wire) -> None:
    access = await wire.enter("o1")
    assert (await wire.ask("AlterTran", **SHOP, **access, JobCd="VOID"))["ErrInfo"] == "E11010002"
    await wire.ask("ExecTran", **access, OrderID="o1", Method="1", **CARD)
    assert "Approve" in await wire.ask("AlterTran", **SHOP, **access, JobCd="VOID")
    assert (await wire.ask("SearchTrade", **SHOP, OrderID="o1"))["Status"] == "VOID"


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"ShopID": ""}, "E01010001"),
        ({"ShopID": "x" * 14}, "E01010008"),
        ({"ShopPass": ""}, "E01020001"),
        ({"ShopPass": "x" * 11}, "E01020008"),
        ({"ShopPass": "wrong"}, "E01030002"),
        ({"OrderID": ""}, "E01040001"),
        ({"OrderID": "x" * 28}, "E01040003"),
        ({"OrderID": "a_b"}, "E01040013"),
        ({"OrderID": "注文"}, "E01040013"),
        ({"JobCd": ""}, "E01050001"),
        ({"Amount": ""}, "E01060001"),
        ({"Amount": "0"}, "E01060001"),
        ({"Amount": "100000000"}, "E01060005"),
        ({"Amount": "-1"}, "E01060006"),
        ({"Amount": "１"}, "E01060006"),
        ({"Tax": "x"}, "E01070006"),
        ({"Tax": "12345678"}, "E01070005"),
        ({"Amount": "99999999", "Tax": "1"}, "E01490005"),
    ],
)
async def test_entry_refuses(wire: Wire, fields: dict[str, str], codes: str) -> None:
    asked = {**SHOP, "OrderID": "o1", "JobCd": "AUTH", "Amount": "1000", **fields}
    # The forms of this protocol are Shift_JIS.
    encoded = b"&".join(name.encode() + b"=" + _percent(value) for name, value in asked.items())
    answer = await wire.client.post("/payment/EntryTran.idPass", content=encoded)
    assert answer.text.partition("ErrInfo=")[2] == codes


def _percent(value: str) -> bytes:
    return b"".join(b"%%%02X" % octet for octet in value.encode("cp932"))


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"AccessID": ""}, "E01090001|E01110002"),
        ({"AccessPass": "0" * 32}, "E01110002"),
        ({"OrderID": "o2"}, "E01110002"),
        ({"CardNo": ""}, "E01170001"),
        ({"CardNo": "4" * 17}, "E01170003"),
        ({"CardNo": "4" * 9}, "E01170011"),
        ({"CardNo": "4111x11111111111"}, "E01170006"),
        ({"CardNo": "4111111111111112"}, "E41170099"),
        ({"CardNo": "4242424242424242"}, "E11010099"),
        ({"Expire": ""}, "E01180001"),
        ({"Expire": "301"}, "E01180003"),
        ({"Expire": "30x2"}, "E01180006"),
        ({"Expire": "3013"}, "E01180008"),
        ({"Expire": "2001"}, "E01180011"),
        ({"SecurityCode": "12"}, "E01460008"),
        ({"SecurityCode": "12345"}, "E01460008"),
        ({"Method": "9"}, "E01260002"),
        ({"Method": "2"}, "E01270001"),
        ({"Method": "2", "PayTimes": "x"}, "E01270006"),
        ({"Method": "2", "PayTimes": "123"}, "E01270005"),
        ({"ClientField1": "x" * 101}, "E01320012"),
        ({"ClientFieldFlag": "2"}, "E01400007"),
    ],
)
async def test_exec_refuses(wire: Wire, fields: dict[str, str], codes: str) -> None:
    access = await wire.enter("o1")
    asked = {**access, "OrderID": "o1", "Method": "1", **CARD, **fields}
    assert (await wire.ask("ExecTran", **asked))["ErrInfo"] == codes
    assert (await wire.ledger())["charges"] == []


async def test_order_ids_and_processed_trades(wire: Wire) -> None:
    access = await wire.enter("o1")
    again = await wire.ask("EntryTran", **SHOP, OrderID="o1", JobCd="AUTH", Amount="1000")
    assert again == {"ErrCode": "E01", "ErrInfo": "E01040010"}
    assert "Approve" in await wire.ask("ExecTran", **access, OrderID="o1", **CARD)
    assert (await wire.ask("ExecTran", **access, OrderID="o1", **CARD))["ErrInfo"] == "E11010001"
    assert len((await wire.ledger())["charges"]) == 1


async def test_the_ledger_s_files_hold_no_number(wire: Wire) -> None:
    for number, (name, pan) in enumerate(NUMBERS.items()):
        if name in ("slow", "lost-answer-charged", "lost-request", "duplicate-answer"):
            continue
        access = await wire.enter(f"o{number}")
        await wire.client.post(
            "/payment/ExecTran.idPass", data={**access, "OrderID": f"o{number}", **CARD, "CardNo": pan}
        )
    ledger = await wire.ledger()
    assert {"visa-approved", "timeout-charged"} <= {trade["card"] for trade in ledger["trades"]}
    stored = b"".join(file.read_bytes() for file in wire.ledger_path.parent.iterdir())
    assert b"visa-approved" in stored
    assert not [name for name, pan in NUMBERS.items() if pan.encode() in stored or pan in str(ledger)]
    assert b"access_pass" not in str(ledger).encode()


async def test_other_requests(wire: Wire) -> None:
    assert (await wire.client.get("/payment/EntryTran.idPass")).text.endswith("E31500014")
    assert (await wire.client.post("/payment/Nothing.idPass")).status_code == 404
    assert (await wire.client.post("/")).status_code == 404


async def test_control(wire: Wire) -> None:
    client = wire.client
    fault = {"call": "SearchTrade", "kind": "error", "code": "E91099999", "times": 2}
    assert (await client.post("/_simulator/faults", json=fault)).status_code == 201
    for _ in range(2):
        assert (await wire.ask("SearchTrade", **SHOP, OrderID="x"))["ErrInfo"] == "E91099999"
    assert (await wire.ask("SearchTrade", **SHOP, OrderID="x"))["ErrInfo"] == "E01110002"
    for bad in ({}, [], {"call": "X", "kind": "nothing"}, {**fault, "times": "x"}, {**fault, "more": 1}):
        answer = await client.post("/_simulator/faults", json=bad)
        assert (answer.status_code, "error" in answer.json()) == (400, True)
    assert (await client.post("/_simulator/faults", content=b"\xff")).status_code == 400
    await client.post("/_simulator/faults", json=fault)
    assert len((await client.get("/_simulator/faults")).json()) == 1
    assert (await client.delete("/_simulator/faults")).json() == []
    assert (await client.get("/_simulator/wait?call=SearchTrade&count=3")).json() == {"arrived": 3}
    assert (await client.get("/_simulator/wait?call=ExecTran&seconds=0.01")).status_code == 408
    assert (await client.get("/_simulator/wait")).status_code == 400
    assert (await client.get("/_simulator/other")).status_code == 404


async def test_hidden_trade(wire: Wire) -> None:
    fault = {"call": "ExecTran", "kind": "hide", "seconds": 60}
    await wire.client.post("/_simulator/faults", json=fault)
    assert "Approve" in await wire.pay("o1")
    assert (await wire.ask("SearchTrade", **SHOP, OrderID="o1"))["Status"] == "UNPROCESSED"
    assert len((await wire.ledger())["charges"]) == 1


async def test_control_token(tmp_path: Path) -> None:
    ledger = Ledger(":memory:")
    server = Server(Simulator(ledger, SimulatorSettings(control_token="key")).handle)
    host, port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        assert (await client.get("/_simulator/ledger")).status_code == 401
        headers = {"Authorization": "Bearer key"}
        assert (await client.get("/_simulator/ledger", headers=headers)).status_code == 200
        assert (
            await client.get("/_simulator/ledger", headers={"Authorization": b"Bearer \xe9"})
        ).status_code == 401
    await server.stop()
    ledger.close()


async def test_members_and_cards_have_limits(wire: Wire) -> None:
    site = {"SiteID": "tsite00000001", "SitePass": "sandsite01"}
    for fields, code in (
        ({"SiteID": ""}, "E01190001"),
        ({"SiteID": "x" * 14}, "E01190008"),
        ({"SitePass": ""}, "E01200001"),
        ({"SitePass": "x" * 21}, "E01200008"),
        ({"MemberID": ""}, "E01220001"),
        ({"MemberID": "x" * 61}, "E01220005"),
        ({"MemberID": "a b"}, "E01220008"),
        ({"MemberName": "x" * 51}, "E01310007"),
    ):
        asked = {**site, "MemberID": "m", **fields}
        assert (await wire.ask("SaveMember", **asked))["ErrInfo"] == code
    await wire.ask("SaveMember", **site, MemberID="m")
    for fields, code in (
        ({"CardNo": ""}, "E01170001"),
        ({"Expire": "3013"}, "E01180008"),
        ({"HolderName": "x" * 51}, "E01650012"),
        ({"CardName": "x" * 11}, "E01640010"),
        ({"CardSeq": "x"}, "E01230006"),
        ({"CardSeq": "3"}, "E01240002"),
        ({"Token": "none"}, "EX1000304"),
    ):
        asked = {**site, "MemberID": "m", **CARD, **fields}
        assert (await wire.ask("SaveCard", **asked))["ErrInfo"] == code
    saved = await wire.raw("SaveCard", **site, MemberID="m", SeqMode="0", **CARD)
    assert saved == "CardSeq=0&CardNo=*************111&Forward=2a99662"
    assert (await wire.ask("SearchCard", **site, MemberID="m", SeqMode="0"))["CardNo"] == "*************111"
    assert (await wire.ask("DeleteCard", **site, MemberID="m", SeqMode="0"))["ErrInfo"] == "E01230001"


async def test_amount_is_changed_where_the_job_is_right(wire: Wire) -> None:
    paid = await wire.pay("o1", "CAPTURE")
    access = {name: paid[name] for name in ("AccessID", "AccessPass")}
    for fields, code in (
        ({"JobCd": "AUTH", "Amount": "5"}, "E11010003"),
        ({"JobCd": "SALES", "Amount": "5"}, "E01050002"),
        ({"Amount": "5"}, "E01050001"),
        ({"JobCd": "CAPTURE"}, "E01060001"),
        ({"JobCd": "CAPTURE", "Amount": "123456789"}, "E01060005"),
    ):
        assert (await wire.ask("ChangeTran", **SHOP, **access, **fields))["ErrInfo"] == code
    changed = await wire.ask("ChangeTran", **SHOP, **access, JobCd="CAPTURE", Amount="5")
    assert changed["TranID"] != paid["TranID"]
    found = await wire.ask("SearchTrade", **SHOP, OrderID="o1")
    assert (found["Amount"], found["Status"]) == ("5", "CAPTURE")


async def test_the_ledger_as_a_page(wire: Wire) -> None:
    assert "まだありません" in (await wire.client.get("/_simulator")).text
    await wire.pay("o1")
    page = (await wire.client.get("/_simulator/")).text
    assert "visa-approved" in page
    assert "************1111" in page
    assert NUMBERS["visa-approved"] not in page


async def test_no_id_can_spell_a_test_card(wire: Wire) -> None:
    # An id is ten digits of time, twelve nines and six digits of chance.
    assert not [number for number in NUMBERS.values() if "9999" in number]
    paid = await wire.pay("o1")
    assert re.fullmatch(r"[0-9]{10}9{12}[0-9]{6}", paid["TranID"])
    assert not re.search(r"[0-9]{13}", paid["AccessID"] + "-" + paid["AccessPass"])
