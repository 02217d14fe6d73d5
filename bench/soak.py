"""Many calls in a row and many at once; then nothing of them may be left in any process of the switch.

Calls as they come: hung up within the greeting, with a wrong identification number, while the card number is
keyed, before the answer, refused (unknown or disabled number, caller not allowed); every 25th pays. Then
several at once pay. Before and after, once everything is at rest, a census is taken (`bench.census`); memory is
looked at after every round of calls.

The first calls of a process warm it up: pjsip keeps the pools of as many transactions as were ever alive at once
(each lives 32 s after its call), SQLite fills its page caches up to 2 MB each, allocators find their size. Measured
with quick calls, growth falls from 6 MB to 0.1 MB per hundred within the first five hundred and stays there. So
quick calls are played first, until that is over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import census
from bench.harness import Switch, SwitchFailed, running_switch
from bench.telephone.customer import Customer
from bench.telephone.phone import PhoneCall, Telephone
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM

ROOMY: Final = ("num_soak", "0312345005")
OFF: Final = ("num_soak_off", "0312345006")

#: One of every 25 pays, one is left during the card number (both take long), the others are short.
PATTERN: Final = (
    "pays",
    *("greeting", "canceled", "disabled_number", "wrong_number", "caller_not_allowed", "greeting") * 2,
    "canceled",
    "card_number",
    *("greeting", "unknown_number", "wrong_number", "canceled", "disabled_number") * 2,
)
#: Kinds that take a person's time.
SLOW: Final = ("pays", "card_number", "wrong_number")
#: Growth of a process within a round of `ROUND_CALLS` that counts as memory left behind.
ALLOWED_KB: Final = 1024
ROUND_CALLS: Final = 100
_PATIENCE_S: Final = 90.0
#: Progress is shown this often.
SAY_EVERY_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench soak`."""
    parser.add_argument("--calls", type=int, default=200, help="calls in a row")
    parser.add_argument("--warm-up", type=int, default=500, help="quick calls before the first census")
    parser.add_argument("--at-once", type=int, default=20, help="then so many at once, all of which pay")
    parser.add_argument(
        "--without", nargs="*", choices=sorted(set(PATTERN)), default=(), help="kinds of calls to leave out"
    )
    parser.add_argument("--round", type=int, default=ROUND_CALLS, help="calls between looks at the memory")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Plays the calls; `left_behind` is empty when all is well."""
    try:
        with tempfile.TemporaryDirectory(prefix="sipivr-soak-") as directory:
            return asyncio.run(_soak(Path(directory), args))
    except SwitchFailed as error:
        raise SystemExit(f"The switch did not start:\n{error}") from None


class Callers:
    """Plays calls of every kind and counts how they ended.

    Args:
        switch: under test.
        phone: with enough lines.
        number: id and digits of a number with as many lines.
        off: digits of a number that is disabled.
    """

    def __init__(self, switch: Switch, phone: Telephone, number: tuple[str, str], off: str) -> None:
        self._switch = switch
        self._phone = phone
        self._number_id, self._number = number
        self._off = off
        self._said = time.monotonic()
        self.outcomes: Counter[str] = Counter()
        self.surprises: list[str] = []

    @property
    def played(self) -> int:
        """Calls so far."""
        return sum(self.outcomes.values())

    async def in_a_row(self, count: int, start: int = 0, skip: Sequence[str] = ()) -> None:
        """So many calls of the pattern, one after the other, from its `start`th on and without some kinds."""
        pattern = [kind for kind in PATTERN if kind not in skip]
        for kind in itertools.islice(itertools.cycle(pattern), start, start + count):
            await self.play(kind)

    async def at_once(self, count: int, kind: str = "pays") -> None:
        """So many calls of one kind at the same time."""
        await asyncio.gather(*(self.play(kind) for _ in range(count)))

    async def play(self, kind: str) -> None:
        """One call; whatever it comes to, it is over when this returns."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                ended = await getattr(self, f"_{kind}")()
        except (ConnectionError, TimeoutError, RuntimeError) as error:
            ended = "failed"
            self.surprises.append(f"a call of kind {kind}: {type(error).__name__} {error}")
        self.outcomes[f"{kind}: {ended}"] += 1
        if time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            print(f"  {self.played} calls so far", flush=True)

    async def _dial(self, number: str = "", caller: str = "") -> PhoneCall:
        return await self._phone.dial(
            self._switch.uri(number or self._number), caller=caller or self._switch.caller
        )

    async def _up(self) -> PhoneCall:
        call = await self._dial()
        await call.answered()
        return call

    async def _left(self, call: PhoneCall) -> str:
        call.hang_up()
        await call.ended(10)
        return "hung up"

    async def _greeting(self) -> str:
        call = await self._up()
        await call.ears.speech()
        return await self._left(call)

    async def _canceled(self) -> str:
        call = await self._dial()
        call.hang_up()
        cause = await call.ended(10)
        return "canceled" if cause.status == 487 else "hung up"

    async def _refused(self, status: int, number: str = "", caller: str = "") -> str:
        cause = await (await self._dial(number, caller)).ended(10)
        if cause.status != status:
            self.surprises.append(f"{cause.status} where {status} was expected")
        return f"refused with {cause.status}"

    async def _disabled_number(self) -> str:
        return await self._refused(404, self._off)

    async def _unknown_number(self) -> str:
        return await self._refused(404, "0399999999")

    async def _caller_not_allowed(self) -> str:
        return await self._refused(403, caller="0398765432")

    async def _wrong_number(self) -> str:
        call = await self._up()
        customer = Customer(call, hurried=True)
        await customer.identify("00000000")
        await customer.prompted()
        return await self._left(call)

    async def _card_number(self) -> str:
        call = await self._up()
        customer = await self._identified(call)
        await customer.prompted(to_its_end=True)
        await customer.key("half of a card number", "41111111")
        return await self._left(call)

    async def _identified(self, call: PhoneCall) -> Customer:
        session = await self._switch.create_session(number=self._number_id)
        customer = Customer(call, hurried=True)
        await customer.identify(session["identification_number"])
        return customer

    async def _identifies(self) -> str:
        call = await self._up()
        await (await self._identified(call)).prompted()
        return await self._left(call)

    async def _pays(self) -> str:
        call = await self._up()
        session = await self._switch.create_session(number=self._number_id)
        await Customer(call, hurried=True).pay(session["identification_number"])
        cause = await call.ended(60)
        if not cause.by_remote:
            self.surprises.append("a paid call was not ended by the switch")
        status = str((await self._switch.get(f"/v1/payment_sessions/{session['id']}"))["status"])
        if status != "paid":
            self.surprises.append(f"a session is {status}, not paid")
        return status


def plant(store: WritableStore, lines: int) -> None:
    """Numbers for the callers."""
    merchant = "mer_demo"
    write.put_number(store, SYSTEM, id=ROOMY[0], merchant=merchant, e164="+81312345005", line_limit=lines)
    write.put_number(store, SYSTEM, id=OFF[0], merchant=merchant, e164="+81312345006", active=False)


async def _soak(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    lines = args.at_once + 2
    async with (
        running_switch(directory, plant=lambda store: plant(store, lines)) as switch,
        Telephone(lines=lines, record=False) as phone,
    ):
        callers = Callers(switch, phone, ROOMY, OFF[1])
        print("warm-up", flush=True)
        for kind in dict.fromkeys(PATTERN):
            await callers.play(kind)
        await callers.in_a_row(args.warm_up, skip=SLOW)
        await callers.at_once(args.at_once)
        was = await census.before(switch, phone)
        warm, began = callers.played, time.monotonic()
        callers.outcomes.clear()
        rounds = [was.memory_kb]
        for start in range(0, args.calls, args.round):
            await callers.in_a_row(min(args.round, args.calls - start), start, args.without)
            # Everything is over before the memory is looked at: a round's last call is not its growth.
            rounds.append((await census.at_rest(switch, phone, was))[0].memory_kb)
            print(_memory_line(callers.played, rounds), flush=True)
        in_a_row = time.monotonic() - began
        await callers.at_once(args.at_once)
        at_once = time.monotonic() - began - in_a_row
        now, left = await census.at_rest(switch, phone, was)
        rounds.append(now.memory_kb)
        print(_memory_line(callers.played, rounds), flush=True)
        growth = memory_growth(rounds)
        if args.calls >= 2 * args.round:
            left += [
                f"{process}: {kb} kB more in the last {args.round} calls in a row"
                for process, kb in growth[-2].items()
                if kb > ALLOWED_KB
            ]
        left += callers.surprises
        if left:
            lines_said = switch.log_tail(5_000).splitlines()
            print("\n".join(line for line in lines_said if " INFO " not in line)[-5_000:])
    result = {
        "correct": not left,
        "calls": callers.played,
        "warm_up_calls": warm,
        "outcomes": dict(callers.outcomes),
        "left_behind": left,
        "memory_growth_kb": growth,
        "memory_growth_mb": {
            process: round((kb - was.memory_kb[process]) / 1024, 2) for process, kb in now.memory_kb.items()
        },
        "in_a_row_s": round(in_a_row, 1),
        "at_once_s": round(at_once, 1),
        "before": was.as_json(),
        "after": now.as_json(),
    }
    _table(was, now, result)
    return result


def memory_growth(rounds: list[Mapping[str, int]]) -> list[dict[str, int]]:
    """Growth of each process from look to look, in kB."""
    return [
        {process: kb - first.get(process, kb) for process, kb in second.items()}
        for first, second in itertools.pairwise(rounds)
    ]


def _memory_line(played: int, rounds: list[Mapping[str, int]]) -> str:
    grown = "  ".join(f"{process} {kb:+d}" for process, kb in memory_growth(rounds)[-1].items())
    return f"{played:5d} calls; memory since the last look, kB: {grown}"


def _table(was: census.Census, now: census.Census, result: Mapping[str, Any]) -> None:
    print(f"\n{'held':<32} {'before':>8} {'after':>8}")
    for name, value in now.held.items():
        print(f"{name:<32} {was.held.get(name, 0):>8} {value:>8}")
    for process, kb in now.memory_kb.items():
        print(f"{process + ' memory, kB':<32} {was.memory_kb.get(process, 0):>8} {kb:>8}")
    print(f"\n{result['calls']} calls: {result['outcomes']}")
    print("left behind: " + ("; ".join(result["left_behind"]) or "nothing"))
