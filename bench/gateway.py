"""Payments per second through the gateway adapter, and what they do to the loop that also carries SIP.

The adapter as the switch uses it (EntryTran, ExecTran, a connection for each request) against the simulator in
a process of its own, each of whose answers takes `--latency-ms`. So many payments as `--in-flight` says are
always under way. Meanwhile a timer of 5 ms on the same loop says how late it comes: SIP waits no longer than that.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from sipivr.card import Card, ExpiryEntry, PANEntry, SecurityCodeEntry
from sipivr.gateway.gmo import GMOGateway, GMOSettings
from sipivr.gateway.port import Approved, Entry, Job, Order, Secret, ShopAccount

_SHOP: Final = ShopAccount("tshop00000001", Secret("sandbox001"))
_TICK_S: Final = 0.005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench gateway`."""
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--latency-ms", type=float, default=300.0, help="of every answer of the gateway")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures; `correct` if every payment was approved, without a thread for each."""
    with tempfile.TemporaryDirectory(prefix="sipivr-gateway-") as directory:
        result = asyncio.run(_measure(Path(directory), args))
    for name, value in result.items():
        print(f"{name:<24} {value}")
    return result


async def _measure(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    config = directory / "simulator.toml"
    config.write_text(f"latency_s = {args.latency_ms / 1000}\n")
    command = ["-m", "sipivr.simulator", "--listen", "127.0.0.1:0", "--ledger", str(directory / "ledger.db")]
    simulator = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--config", str(config), stdout=asyncio.subprocess.PIPE
    )
    assert simulator.stdout is not None
    url = (await simulator.stdout.readline()).decode().split()[-1]
    gateway = GMOGateway(GMOSettings(url, test_mode=True, max_connections=args.in_flight))
    idle_ms = await _lateness(2.0)
    try:
        load = _Load(gateway, args.payments)
        began, cpu = time.monotonic(), time.process_time()
        watching = asyncio.ensure_future(_lateness(None))
        # Spread over the time of one payment, as customers are; all in step would be bursts that nobody sees.
        step_s = 2 * args.latency_ms / 1000 / args.in_flight
        await asyncio.gather(*(load.work(n * step_s) for n in range(args.in_flight)))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        watching.cancel()
        busy_ms = await watching
    finally:
        await gateway.aclose()
        simulator.terminate()
        await simulator.wait()
    return {
        "correct": load.approved == args.payments and load.threads < 10,
        "payments": load.approved,
        "payments_per_s": round(load.approved / seconds, 1),
        "in_flight": load.most,
        "threads": load.threads,
        "payment_ms_median": round(quantiles(load.took_ms, n=100)[49], 1),
        "payment_ms_p99": round(quantiles(load.took_ms, n=100)[98], 1),
        "cpu_ms_per_payment": round(1000 * cpu / load.approved, 2),
        "loop_late_ms_idle_p99": idle_ms[0],
        "loop_late_ms_idle_max": idle_ms[1],
        "loop_late_ms_p99": busy_ms[0],
        "loop_late_ms_max": busy_ms[1],
    }


class _Load:
    """Pays until so many payments are done."""

    def __init__(self, gateway: GMOGateway, payments: int) -> None:
        self._gateway = gateway
        self._left = payments
        self._flying = 0
        self.most = 0
        self.threads = 0
        self.approved = 0
        self.took_ms: list[float] = []

    async def work(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while self._left > 0:
            self._left -= 1
            self._flying += 1
            self.most = max(self.most, self._flying)
            began = time.monotonic()
            await self._pay(self._left)
            self.took_ms.append(1000 * (time.monotonic() - began))
            self.threads = max(self.threads, threading.active_count())
            self._flying -= 1

    async def _pay(self, number: int) -> None:
        order = Order(f"load{number}x", 1_000, Job.CAPTURE, f"intent-{number}")
        entry = await self._gateway.enter(_SHOP, order)
        assert isinstance(entry, Entry), entry
        with _card() as card:
            outcome = await self._gateway.execute(_SHOP, order, entry, card)
        self.approved += isinstance(outcome, Approved)


async def _lateness(seconds: float | None) -> tuple[float, float]:
    """99th percentile and maximum of a timer's lateness in ms, for so long or until cancelled."""
    late: list[float] = []
    until = time.monotonic() + (seconds or 3_600)
    try:
        while (due := time.monotonic() + _TICK_S) < until:
            await asyncio.sleep(_TICK_S)
            late.append(1000 * (time.monotonic() - due))
    except asyncio.CancelledError:
        if seconds is not None:
            raise
    return round(quantiles(late, n=100)[98], 2), round(max(late), 2)


def _card() -> Card:
    card, number, expiry, code = Card(), PANEntry(), ExpiryEntry(), SecurityCodeEntry(3)
    for entry, digits in ((number, "4111111111111111"), (expiry, "1235"), (code, "123")):
        for digit in digits:
            entry.append(int(digit))
    card.put_pan(number.take())
    card.put_expiry(expiry.take())
    card.put_security_code(code.take())
    return card
