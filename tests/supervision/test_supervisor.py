"""The whole household: order of start and stop, signals, what reaches the operator."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from sipivr.layout import Kind
from sipivr.supervision.child import ChildSpec
from sipivr.supervision.serve import Supervisor
from tests.supervision.conftest import Journal, until

Fake = Callable[..., ChildSpec]


def household(fake: Fake, **switch: object) -> dict[Kind, list[ChildSpec]]:
    return {
        Kind.SIMULATOR: [fake("simulator", rank=3)],
        Kind.SWITCH: [fake("sipivr", *switch.pop("arguments", ()), rank=1, **switch)],  # type: ignore[misc]
        Kind.MEDIA: [fake("media-0", rank=2), fake("media-1", rank=2)],
        Kind.API: [fake("api", rank=0)],
    }


async def test_starts_and_stops_in_order(fake: Fake, journal: Journal) -> None:
    announced: list[object] = []
    supervisor = Supervisor(household(fake), announce=announced.append)
    run = asyncio.create_task(supervisor.run())
    await until(lambda: bool(announced))
    started = journal.words("started")
    assert started[:2] == ["simulator", "sipivr"]
    assert sorted(started[2:]) == ["api", "media-0", "media-1"]
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(run, 10) == 0
    stopped = journal.words("stopped")
    assert stopped[:2] == ["api", "sipivr"]
    assert sorted(stopped[2:4]) == ["media-0", "media-1"]
    assert stopped[4:] == ["simulator"]


async def test_media_is_kept_alive_while_calls_drain(fake: Fake, journal: Journal) -> None:
    supervisor = Supervisor(household(fake, arguments=("--slow-stop", "1.5")))
    run = asyncio.create_task(supervisor.run())
    media = supervisor.children[Kind.MEDIA][0]
    await until(lambda: media.is_ready and all(child.is_ready for child in supervisor.children[Kind.API]))
    supervisor.ask_to_stop()
    await until(lambda: "sipivr" in journal.words("term"))
    assert media.pid is not None
    os.kill(media.pid, signal.SIGKILL)
    await until(lambda: len(journal.pids("media-0")) == 2)
    assert "sipivr" not in journal.words("stopped")
    assert await asyncio.wait_for(run, 10) == 0


async def test_second_signal_does_not_wait_for_calls(fake: Fake, journal: Journal) -> None:
    supervisor = Supervisor(household(fake, arguments=("--ignore-term",), stop_within_s=600.0))
    run = asyncio.create_task(supervisor.run())
    await until(lambda: all(child.is_ready for members in supervisor.children.values() for child in members))
    supervisor.ask_to_stop()
    await until(lambda: "sipivr" in journal.words("term"))
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0


async def test_failed_start_stops_what_runs(
    fake: Fake, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    house = household(fake)
    house[Kind.SWITCH] = [fake("sipivr", "--report", "FAILED the key file is gone.", "--exit", "78", rank=1)]
    assert await asyncio.wait_for(Supervisor(house).run(), 10) == 1
    assert "sipivr: the key file is gone." in caplog.text
    assert journal.words("started") == ["simulator", "sipivr"]
    assert journal.words("stopped") == ["simulator"]


async def test_stop_during_start(fake: Fake, journal: Journal) -> None:
    house = household(fake)
    house[Kind.SWITCH] = [fake("sipivr", "--report", "", rank=1)]
    supervisor = Supervisor(house)
    run = asyncio.create_task(supervisor.run())
    await until(lambda: "sipivr" in journal.words("started"))
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0
    assert journal.words("stopped") == ["sipivr", "simulator"]


async def test_media_waits_for_the_switch_to_be_back(fake: Fake, journal: Journal) -> None:
    supervisor = Supervisor(household(fake), backoff_s=(0.0, 1.0))
    run = asyncio.create_task(supervisor.run())
    await until(lambda: all(child.is_ready for members in supervisor.children.values() for child in members))
    switch, media = supervisor.children[Kind.SWITCH][0], supervisor.children[Kind.MEDIA][0]
    for life in (1, 2):  # the second death of the switch is followed by a pause
        assert switch.pid is not None
        os.kill(switch.pid, signal.SIGKILL)
        await until(lambda life=life: switch.starts > life or not switch.is_ready)
        if life == 1:
            await until(lambda: switch.starts == 2 and switch.is_ready)
    assert media.pid is not None
    os.kill(media.pid, signal.SIGKILL)
    await until(lambda: media.starts == 2 and media.is_ready)
    words = [line.split()[0] for line in journal.lines() if line.split()[1] == "started"]
    assert words[-2:] == ["sipivr", "media-0"]
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0


async def test_death_of_one_child_leaves_the_others(fake: Fake, journal: Journal) -> None:
    supervisor = Supervisor(household(fake))
    run = asyncio.create_task(supervisor.run())
    await until(lambda: all(child.is_ready for members in supervisor.children.values() for child in members))
    switch = supervisor.children[Kind.SWITCH][0]
    assert switch.pid is not None
    os.kill(switch.pid, signal.SIGKILL)
    await until(lambda: switch.starts == 2 and switch.is_ready)
    assert [child.starts for child in supervisor.children[Kind.MEDIA]] == [1, 1]
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0
