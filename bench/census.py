"""What a running switch and a telephone hold: counted before and after calls, it says what those left behind.

A census has figures of every process of the switch as the kernel counts them (open files, threads, memory),
of `sipivr` and the media workers as they count themselves (legs, timers, tasks, prompts … by way of
`/metrics`), and of the telephone. Most figures must return to what they were; faults must not have become
more; memory is not a matter of counting and is judged by its growth (see `bench.soak`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.harness import Switch
from bench.telephone.phone import Telephone

#: Of `sipivr_switch{figure=…}`: must return to what they were.
HELD: Final = (
    "calls",
    "settling",
    "lines_taken",
    "charges_running",
    "charge_listeners",
    "background",
    "progress_shown",
    "ladders",
    "legs",
    "media_commands_pending",
    "prompts",
    "prompt_uses",
    "sip_calls",
    "sip_calls_buried",
    "media_legs",
    "media_prompts",
    "media_playing",
    "media_connections",
    "store_queued",
    "tasks",
    "timers",
    "open_files",
)
#: Must not have become more: something failed meanwhile, whatever was left behind.
FAULTS: Final = (
    "ua_faults",
    "store_failures",
    "media_events_dropped",
    "ladder_messages_dropped",
    "count_call_faults",
    "count_ua_faults",
    "count_media_faults",
    "count_media_lost",
    "count_records_lost",
    "count_background_faults",
    "count_housekeeping_failures",
)
#: Of `sipivr_objects{kind=…,state=…}`.
HELD_ROWS: Final = ("call running", "session claimed", "payment_unsettled")

_FIGURE: Final = re.compile(r'^sipivr_switch\{figure="([^"]+)"\} ([-0-9.e+]+)$', re.MULTILINE)
_ROWS: Final = re.compile(r'^sipivr_objects\{kind="([^"]+)",state="([^"]+)"\} ([-0-9.e+]+)$', re.MULTILINE)
_STREAMS: Final = re.compile(r"^sipivr_api_streams ([-0-9.e+]+)$", re.MULTILINE)
_SIZE: Final = re.compile(r"^(\w+):\s+(\d+)", re.MULTILINE)

_LOOK_AGAIN_S: Final = 0.4
#: Looks before the calls; the lowest of each figure counts, so that no passing one hides something later.
_FIRST_LOOKS: Final = 5
#: What an idle switch has none of. Media workers are asked every 5 s.
_NONE: Final = ("switch calls", "switch settling", "switch legs", "switch media_legs", "switch background")
_IDLE_WITHIN_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Census:
    """Everything counted at one moment.

    Attributes:
        held: figures that must return, by name (`main open files`, `switch timers`, `telephone legs` …).
        faults: figures that must not grow.
        memory_kb: resident memory that belongs to the process alone, by process.
        processes: their ids; another id is another process.
    """

    held: Mapping[str, int]
    faults: Mapping[str, int]
    memory_kb: Mapping[str, int]
    processes: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """For the last line."""
        return {"held": dict(self.held), "faults": dict(self.faults), "memory_kb": dict(self.memory_kb)}


async def take(switch: Switch, phone: Telephone) -> Census:
    """Counts now."""
    text = (await switch.api.get(f"{switch.api_url}/metrics", headers={"Authorization": ""})).text
    figures = {name: int(float(value)) for name, value in _FIGURE.findall(text)}
    held = {f"switch {name}": figures[name] for name in HELD if name in figures}
    for kind, state, value in _ROWS.findall(text):
        for name in (kind, f"{kind} {state}"):
            if name in HELD_ROWS:
                held[f"rows {name}"] = held.get(f"rows {name}", 0) + int(float(value))
    if streams := _STREAMS.search(text):
        held["api streams"] = int(float(streams[1]))
    statistics = phone.agent.statistics()
    held |= {
        "telephone lines busy": phone.lines - phone.lines_free,
        "telephone legs": len(phone.engine.legs),
        "telephone prompts": len(phone.engine.prompts),
        "telephone playing": len(phone.engine.players),
        "telephone connections": len(phone.engine.connections),
        "telephone SIP calls": statistics.calls + statistics.buried,
        "telephone tasks": len(asyncio.all_tasks()),
    }
    processes = {"supervisor": switch.pid, **switch.children()}
    memory: dict[str, int] = {}
    for name, pid in processes.items():
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            sizes = {key: int(value) for key, value in _SIZE.findall((process / "status").read_text())}
            memory[name] = sizes["RssAnon"] + sizes.get("RssShmem", 0)
            held[f"{name} threads"] = sizes["Threads"]
        # Root alone may look into a process that is not dumpable; `sipivr` counts its own (`open_files`).
        with contextlib.suppress(PermissionError):
            held[f"{name} open files"] = sum(1 for _ in (process / "fd").iterdir())
    faults = {name: figures.get(name, 0) for name in FAULTS}
    faults["telephone faults"] = len(phone.faults)
    return Census(held, faults, memory, processes)


async def before(switch: Switch, phone: Telephone) -> Census:
    """A census of a switch at rest."""
    found = await take(switch, phone)
    held, memory = dict(found.held), dict(found.memory_kb)
    looks, end = 1, time.monotonic() + _IDLE_WITHIN_S
    while looks < _FIRST_LOOKS or (any(held.get(name, 1) for name in _NONE) and time.monotonic() < end):
        looks += 1
        await asyncio.sleep(_LOOK_AGAIN_S)
        found = await take(switch, phone)
        held = {name: min(value, held.get(name, value)) for name, value in found.held.items()}
        memory = dict(found.memory_kb)
    return Census(held, found.faults, memory, found.processes)


async def at_rest(
    switch: Switch, phone: Telephone, was: Census, *, timeout_s: float = 45.0
) -> tuple[Census, list[str]]:
    """Looks until each figure has been back where it was, at most for so long.

    Returns:
        The last census, with the lowest that each figure has been; and what was left behind.
    """
    end = time.monotonic() + timeout_s
    found = await take(switch, phone)
    held = dict(found.held)
    while more(was.held, held) and time.monotonic() < end:
        await asyncio.sleep(_LOOK_AGAIN_S)
        found = await take(switch, phone)
        held = {name: min(value, held.get(name, value)) for name, value in found.held.items()}
    last = Census(held, found.faults, found.memory_kb, found.processes)
    left = more(was.held, held) + more(was.faults, last.faults)
    left += [
        f"{name} was started again" for name, pid in was.processes.items() if last.processes.get(name) != pid
    ]
    return last, left


def more(was: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Which figures are higher than they were, as sentences."""
    return [
        f"{name}: {was.get(name, 0)} before, {value} after"
        for name, value in now.items()
        if value > was.get(name, 0)
    ]
