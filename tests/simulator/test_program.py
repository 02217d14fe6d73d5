"""The simulator as a program: start, stop, restart with its ledger, refusals."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import start_simulator, stop_simulator
from tests.gateway.numbers import NUMBERS

SHOP = {"ShopID": "tshop00000001", "ShopPass": "sandbox001"}


def enter(client: httpx.Client, order_id: str) -> dict[str, str]:
    fields = {**SHOP, "OrderID": order_id, "JobCd": "CAPTURE", "Amount": "500"}
    answer = client.post("/payment/EntryTran.idPass", data=fields)
    return dict(piece.split("=", 1) for piece in answer.text.split("&"))


def test_ledger_outlives_the_program_and_a_kill(tmp_path: Path) -> None:
    first = start_simulator(tmp_path)
    access = enter(first.client, "o1")
    card = {"CardNo": NUMBERS["visa-approved"], "Expire": "3012"}
    first.client.post("/payment/ExecTran.idPass", data={**access, "OrderID": "o1", **card})
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(10)
    stop_simulator(first)
    second = start_simulator(tmp_path)
    assert len(second.charges("o1")) == 1
    assert stop_simulator(second) == 0


async def test_sigterm_finishes_what_is_begun(tmp_path: Path) -> None:
    simulator = start_simulator(tmp_path)
    access = enter(simulator.client, "o1")
    fields = {**access, "OrderID": "o1", "CardNo": NUMBERS["slow"], "Expire": "3012"}
    async with httpx.AsyncClient(base_url=simulator.url, trust_env=False) as client:
        running = asyncio.create_task(client.post("/payment/ExecTran.idPass", data=fields))
        await asyncio.to_thread(simulator.client.get, "/_simulator/wait?call=ExecTran")
        simulator.process.terminate()
        assert "Approve=" in (await running).text
    assert await asyncio.to_thread(stop_simulator, simulator, told=True) == 0


@pytest.mark.parametrize(
    ("listen", "config", "said"),
    [
        ("0.0.0.0:0", "", "control_token"),
        ("127.0.0.1:0", "nonsense = 1", "nonsense"),
        ("127.0.0.1:0", "= =", "config.toml"),
    ],
)
def test_refuses_to_start(tmp_path: Path, listen: str, config: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(config)
    command = [sys.executable, "-m", "sipivr.simulator", "--listen", listen]
    command += ["--ledger", str(tmp_path / "l.db"), "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70_000,
    ],
)
def test_nonsense_on_the_socket_harms_nobody(tmp_path: Path, octets: bytes) -> None:
    simulator = start_simulator(tmp_path)
    port = int(simulator.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        try:
            sock.sendall(octets)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        except ConnectionError:
            pass
    assert enter(simulator.client, "o1")["AccessID"]
    assert stop_simulator(simulator) == 0
