"""Inline calls held at once on one core: is all audio there, both ways, and does a tick come late?

The switch runs on the first core with one media worker, telephones and desks on the others. Customer and operator of
each call hum without end, each in a pitch of its own party; when all calls are up, each leg is listened to for as long
as is asked, and what it hears is compared with what the other end of its call hums. Ticks that start more than
20 ms late at the switch are counted, as the switch itself reports them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench._talking import pitch_of, voice
from bench.harness import Switch, running_switch
from bench.telephone.desks import Desks
from bench.telephone.phone import PhoneCall
from media.protocol import Play
from sipivr.seeds import MERCHANT
from sipivr.store import write
from sipivr.store.database import WritableStore
from sipivr.store.records import SYSTEM, NumberUse

NUMBER: Final = "0312349100"
DESK: Final = "desk-lines"
LOW_HZ, HIGH_HZ = 150.0, 230.0
#: A leg that hears the right pitch at a level above this hears the other end.
HEARD: Final = 300
_FIGURE: Final = re.compile(r'^sipivr_switch\{figure="([^"]+)"\} ([-0-9.e+]+)$', re.MULTILINE)


class Quiet(Desks):
    """Nobody listens to each frame: two hundred pairs of ears would be the load."""

    listening = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench lines`."""
    parser.add_argument("--calls", type=int, default=100, help="inline calls at once")
    parser.add_argument("--seconds", type=float, default=20, help="how long all of them are held")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Holds them; exits 1 if audio is missing or a call is lost."""
    with tempfile.TemporaryDirectory(prefix="sipivr-lines-") as directory:
        result = asyncio.run(_run(Path(directory), args.calls, args.seconds))
    for name, value in result.items():
        print(f"{name:28} {value}")
    if result["calls_up"] != args.calls or result["legs_that_hear"] != 2 * args.calls:
        print("Not every leg heard the other end of its call.", file=sys.stderr)
        raise SystemExit(1)
    return result


async def _run(directory: Path, calls: int, seconds: float) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    load = set(cores[1:]) or set(cores)
    os.sched_setaffinity(0, load)
    async with Quiet(lines=2 * calls + 4, record=False) as phone:

        def plant(store: WritableStore) -> None:
            write.put_trunk(
                store,
                SYSTEM,
                id="trk_lines",
                name="Desks",
                networks=("127.0.0.1",),
                merchant=MERCHANT,
                options={"proxy": f"127.0.0.1:{phone.port}"},
            )
            write.put_number(
                store,
                SYSTEM,
                id="num_lines",
                merchant=MERCHANT,
                e164="+81312349100",
                use=NumberUse.INLINE,
                line_limit=calls + 10,
                rules={"destinations": [{"target": phone.uri(DESK), "trunk": "trk_lines"}]},
            )

        environment = {"SIPIVR_MEDIA__WORKERS": "1", "SIPIVR_SIP__MAX_CALLS": str(2 * calls + 50)}
        os.sched_setaffinity(0, {cores[0]})  # inherited by what is started now
        async with running_switch(directory, environment=environment, plant=plant) as switch:
            os.sched_setaffinity(0, load)
            pairs = [await _pair(switch, phone) for _ in range(calls)]
            print(f"{len(pairs)} calls are up", flush=True)
            before = await _figures(switch)
            started = asyncio.get_running_loop().time()
            heard = await _listen(phone, pairs, seconds)
            took = asyncio.get_running_loop().time() - started
            after = await _figures(switch)
            up = sum(customer.up and operator.up for customer, operator in pairs)
            for customer, _ in pairs:
                customer.hang_up()
            return {
                "calls_up": up,
                "legs_that_hear": heard,
                "seconds": round(took, 1),
                "ticks": after["media_ticks"] - before["media_ticks"],
                "late_ticks": after["media_late_ticks"] - before["media_late_ticks"],
                "tick_cost_us": after["media_tick_cost_us"],
                "packets_received": after["media_packets_received"] - before["media_packets_received"],
                "packets_sent": after["media_packets_sent"] - before["media_packets_sent"],
                "telephones_late_ticks": phone.late_ticks,
            }


async def _pair(switch: Switch, phone: Quiet) -> tuple[PhoneCall, PhoneCall]:
    customer = await phone.dial(switch.uri(NUMBER), caller=switch.caller)
    operator = await phone.call_at(DESK, 20)
    await customer.answered(20)
    for call, hertz in ((customer, LOW_HZ), (operator, HIGH_HZ)):
        number = phone.number()
        phone.engine.load_prompt(number, voice(hertz))
        phone.run(
            Play(seq=number, leg=call.media, playlist=number, prompts=(number,), repeat=True), tolerate=False
        )
    return customer, operator


async def _listen(phone: Quiet, pairs: list[tuple[PhoneCall, PhoneCall]], seconds: float) -> int:
    """How many legs hear the other end's pitch, each listened to for some of the time."""
    legs = [(customer, HIGH_HZ) for customer, _ in pairs] + [(operator, LOW_HZ) for _, operator in pairs]
    heard = 0
    each = seconds / (len(legs) / _AT_ONCE)
    for start in range(0, len(legs), _AT_ONCE):
        some = legs[start : start + _AT_ONCE]
        frames: list[list[Any]] = [[] for _ in some]
        for _ in range(max(60, int(each / 0.02))):
            await phone.ticked()
            for (call, _), kept in zip(some, frames, strict=True):
                kept.append(phone.engine.received_pcm(call.media).copy())
        for (_, hertz), kept in zip(some, frames, strict=True):
            samples = np.concatenate(kept)
            loud = np.abs(samples.astype(int)).max() > HEARD
            heard += bool(loud and abs(pitch_of(samples) - pitch_of(voice(hertz))) < 12)
    return heard


#: Legs that are listened to at the same time.
_AT_ONCE: Final = 20


async def _figures(switch: Switch) -> dict[str, int]:
    text = (await switch.api.get(f"{switch.api_url}/metrics", headers={"Authorization": ""})).text
    return {name: int(float(value)) for name, value in _FIGURE.findall(text)}
