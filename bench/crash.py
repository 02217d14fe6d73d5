"""Is every customer charged once, whatever breaks? kill -9 and broken connections while real telephones pay.

A real switch (`sipivr init`, `sipivr serve`) and its gateway simulator, with a relay between them that breaks
connections at every class of byte boundary: refused, reset before a byte, in the middle of a request, after it, in
the middle of the answer's head and of its body, after it; for EntryTran, ExecTran and SearchTrade each. `sipivr`,
the simulator and both are killed (SIGKILL) at random moments while their requests are under way, and whoever was cut
off tries the same order again. Some charges are hidden by the gateway until the switch has closed them as not charged.

Then the simulator's ledger, which nobody but the simulator writes, is compared with the switch's, order by order. A
run in which one of the classes was never hit proves nothing about it, and fails. `--rounds` of `--payments` payments
each; in every fourth round something strikes all of them: a kill, refused or reset connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import httpx

from bench._crash_proxy import BOUNDARIES, CALLS, Proxy
from bench._crash_verdict import Verdict, everything, judge, open_payments, rows, search
from bench.harness import Switch, SwitchFailed, free_port, running_switch
from bench.telephone.customer import PROMPT_OVER_MS, CardInHand, Customer
from bench.telephone.phone import PhoneCall, Telephone
from sipivr import config
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, Mode

NUMBER: Final = ("num_crash", "0312345007")
#: Cards of docs/simulator.md that are approved.
CARDS: Final = (
    CardInHand("4111111111111111", "1230", "123"),
    CardInHand("5555555555554444", "1230", "123"),
    CardInHand("3530111333300000", "1230", "123"),
)
#: What strikes whoever is there, and so has rounds of its own: nothing else is broken meanwhile.
KILLS: Final = ("sipivr", "simulator", "both")
STRIKES: Final = (*KILLS, "refused", "connect")
BROKEN: Final = tuple(f"{call} {boundary}" for call in CALLS for boundary in BOUNDARIES)
CLASSES: Final = (*BROKEN, "connect", "refused", "hidden", *(f"kill {kind}" for kind in KILLS))

#: So soon is "unprocessed" believed; so soon are closed payments read again. The product's own times are
# minutes and hours.
FINAL_AFTER_S: Final = 20.0
REREAD_AFTER_S: Final = (10, 25, 45)
HIDDEN_S: Final = 55.0
_CALL_S: Final = 120.0
_STAGGER_S: Final = 0.35
_SETTLE_S: Final = 240.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench crash`."""
    parser.add_argument("--rounds", type=int, default=200, help="of payments; in every fourth all are struck")
    parser.add_argument("--payments", type=int, default=5, help="payments of a round")
    parser.add_argument(
        "--lines", type=int, default=20, help="telephones at once while connections are broken"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Plays the rounds; `correct` is False if a figure is not 0 or a class was never hit."""
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1_000_000)
    random.seed(seed)
    try:
        with tempfile.TemporaryDirectory(prefix="sipivr-crash-") as directory:
            result = asyncio.run(_crash(Path(directory), args))
    except SwitchFailed as error:
        raise SystemExit(f"The switch did not start:\n{error}") from None
    return {**result, "seed": seed}


class Payers:
    """Customers who pay, and what was done to them.

    Args:
        switch: under test.
        phone: with enough lines.
        proxy: between switch and simulator.
    """

    def __init__(self, switch: Switch, phone: Telephone, proxy: Proxy) -> None:
        self.switch = switch
        self.proxy = proxy
        self._phone = phone
        self._cards = cycle(CARDS)
        self.hits: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.confirmed: set[str] = set()

    async def pay(self, order_id: str, fault: str = "") -> None:
        """One customer with one order; whatever it comes to, the call is over afterwards."""
        call: PhoneCall | None = None
        try:
            async with asyncio.timeout(_CALL_S):
                session = await self.switch.create_session(order_id=order_id, number=NUMBER[0])
                call = await self._phone.dial(self.switch.uri(NUMBER[1]), caller=self.switch.caller)
                await call.answered()
                customer = Customer(call, hurried=True)
                await customer.identify(session["identification_number"])
                await customer.enter_card(next(self._cards))
                await call.ears.announcement(PROMPT_OVER_MS)
                await self._arm(order_id, fault)
                await customer.key("1 to agree", "1")
                self.confirmed.add(order_id)
                await call.ended(90)
                self.outcomes["ended"] += 1
        except (TimeoutError, ConnectionError, RuntimeError, httpx.HTTPError, OSError) as error:
            self.outcomes[type(error).__name__] += 1
        finally:
            if call is not None:
                with contextlib.suppress(Exception):
                    call.hang_up()
                with contextlib.suppress(Exception):
                    await call.ended(5)

    async def _arm(self, order_id: str, fault: str) -> None:
        if fault in BROKEN:
            name, boundary = fault.split()
            if name == "SearchTrade":
                # A question is only asked after a charge whose answer was lost.
                self.proxy.arm(order_id, "ExecTran", "after_request")
            self.proxy.arm(order_id, name, boundary)
        elif fault == "hidden":
            self.proxy.arm(order_id, "ExecTran", "after_request")
            described = {"call": "ExecTran", "kind": "hide", "seconds": HIDDEN_S, "order_id": order_id}
            async with httpx.AsyncClient(base_url=self.switch.simulator_url) as client:
                (await client.post("/_simulator/faults", json=described)).raise_for_status()

    async def strike_round(self, orders: list[str], kind: str) -> None:
        """Several pay; once the first request is under way, a random moment later, it strikes."""
        tasks = [asyncio.ensure_future(self._later(n * _STAGGER_S, order)) for n, order in enumerate(orders)]
        if await self.proxy.in_flight(set(orders), 60):
            await asyncio.sleep(random.uniform(0, 0.6))
            if kind == "refused":
                await self.proxy.refuse_for(3.0)
            elif kind == "connect":
                self.proxy.cut_next()
            else:
                await self._kill(orders, kind, tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        # Whoever was cut off calls again for the same order.
        await asyncio.gather(*(self._later(n * _STAGGER_S, order) for n, order in enumerate(orders[:2])))

    async def _kill(self, orders: list[str], kind: str, tasks: Sequence[asyncio.Future[None]]) -> None:
        flying = set(self.proxy.active.values()) & set(orders)
        children = self.switch.children()
        victims = {"sipivr": ["main"], "simulator": ["simulator"], "both": ["main", "simulator"]}[kind]
        for victim in victims:
            if victim in children:
                os.kill(children[victim], signal.SIGKILL)
        self.hits[f"kill {kind}"] += bool(flying)
        await self._restarted({victim: children.get(victim, 0) for victim in victims})
        if kind != "simulator":
            # Nobody is at the other end any more: the customers hang up.
            for task in tasks:
                task.cancel()

    async def _later(self, seconds: float, order_id: str) -> None:
        await asyncio.sleep(seconds)
        await self.pay(order_id)

    async def _restarted(self, old: dict[str, int]) -> None:
        async with asyncio.timeout(120), httpx.AsyncClient(base_url=self.switch.api_url) as probe:
            while True:
                now = self.switch.children()
                if all(now.get(kind, pid) != pid for kind, pid in old.items()):
                    with contextlib.suppress(httpx.HTTPError):
                        if (await probe.get("/readyz")).status_code == httpx.codes.OK:
                            return
                await asyncio.sleep(0.1)


async def _crash(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    port, upstream = free_port(), free_port()
    environment = {
        "SIPIVR_SIMULATOR__LISTEN": f"127.0.0.1:{upstream}",
        "SIPIVR_GATEWAY__FINAL_AFTER_S": str(FINAL_AFTER_S),
        "SIPIVR_GATEWAY__REREAD_AFTER_S": ",".join(map(str, REREAD_AFTER_S)),
    }

    def plant(store: WritableStore) -> None:
        url = f"http://127.0.0.1:{port}"
        write.put_connector(store, SYSTEM, id="con_sandbox", kind="gmo", url=url, mode=Mode.TEST)
        write.put_number(
            store, SYSTEM, id=NUMBER[0], merchant="mer_demo", e164="+81312345007", line_limit=args.lines + 5
        )

    proxy = Proxy(port, upstream, 0.5)
    await proxy.start()
    began = time.monotonic()
    async with running_switch(directory, environment=environment, plant=plant) as switch:
        switch.simulator_url = f"http://127.0.0.1:{upstream}"
        files = config.paths(config.load(switch.settings), directory)
        switch_db, ledger = files.switch_db, files.simulator_ledger
        async with Telephone(lines=args.lines + 5, record=False) as phone:
            payers = Payers(switch, phone, proxy)
            kills = args.rounds // 4
            await _breaking(payers, (args.rounds - kills) * args.payments, args.lines)
            _say(began, f"connections were broken: {dict(proxy.hits)}")
            for number in range(kills):
                orders = [_order(f"k{number}") for _ in range(args.payments)]
                await payers.strike_round(orders, STRIKES[number % len(STRIKES)])
                _say(began, f"strike {number + 1} of {kills}: {STRIKES[number % len(STRIKES)]}")
        verdict = await _settled(switch, switch_db, ledger, began)
        ((refused,),) = rows(switch_db, "SELECT count(*) FROM payment WHERE error_category = 'connect'")
        payers.hits["refused"] += refused
        payers.hits["hidden"] += verdict.late_captures
        found = search(everything(directory), await _answers(switch), {card.number for card in CARDS})
        log_tail = switch.log_tail(30)
    await proxy.stop()
    verdict.pan_bytes_found = len(found)
    hits = proxy.hits + payers.hits
    missed = [name for name in CLASSES if not hits[name]]
    correct = verdict.right and not missed
    _table(verdict, hits, missed, found)
    if not correct:
        print(log_tail)
    return {
        "correct": correct,
        **{name: value for name, value in asdict(verdict).items() if name != "details"},
        "details": verdict.details[:50] + found[:50],
        "hits": {name: hits[name] for name in CLASSES},
        "never_hit": missed,
        "confirmed": len(payers.confirmed),
        "calls": dict(payers.outcomes),
        "seconds": round(time.monotonic() - began),
    }


async def _breaking(payers: Payers, payments: int, lines: int) -> None:
    """So many payments, `lines` at once, each with its own break or none."""
    faults = cycle((*BROKEN, "hidden", ""))
    free = asyncio.Semaphore(lines)

    async def one(order_id: str, fault: str) -> None:
        try:
            await payers.pay(order_id, fault)
        finally:
            free.release()

    tasks = []
    for number in range(payments):
        await free.acquire()
        tasks.append(asyncio.ensure_future(one(_order(f"b{number}"), next(faults))))
        await asyncio.sleep(_STAGGER_S)
    await asyncio.gather(*tasks)


async def _settled(switch: Switch, switch_db: Path, ledger: Path, began: float) -> Verdict:
    """Waits until nothing is open and every late approval has been dealt with, or says what is left."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        verdict = judge(switch_db, ledger)
        if (verdict.right and not open_payments(switch_db)) or time.monotonic() > deadline:
            break
        await asyncio.sleep(2)
    # A charge that shows only now must not be missed either.
    await asyncio.sleep(max(REREAD_AFTER_S))
    _say(began, "settled")
    return judge(switch_db, ledger)


async def _answers(switch: Switch) -> list[bytes]:
    return [
        (await switch.api.get(path)).content
        for path in ("/v1/payments?limit=100", "/v1/events?limit=100", "/metrics")
    ]


def _order(prefix: str) -> str:
    return f"{prefix}x{os.urandom(5).hex()}z"


def _say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)


def _table(verdict: Verdict, hits: Counter[str], missed: list[str], found: list[str]) -> None:
    for name, value in asdict(verdict).items():
        if name != "details":
            print(f"{name:<28} {value}")
    for name in CLASSES:
        print(f"  {name:<28} {hits[name]:>5} times")
    for line in (*verdict.details[:20], *found[:20]):
        print(f"  ! {line}")
    if missed:
        print(f"Never hit, so nothing is proved about it: {', '.join(missed)}. Take more --rounds.")
