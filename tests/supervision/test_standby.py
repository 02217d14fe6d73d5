"""A spare that takes over, a pulse that stops, deaths that are no fault of the dead."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from sipivr.layout import Kind
from sipivr.supervision import child as child_module
from sipivr.supervision.child import Child, ChildSpec
from sipivr.supervision.pulse import Pulse
from sipivr.supervision.serve import Supervisor
from sipivr.supervision.standby import Standby
from tests.supervision.conftest import Journal, until

Fake = Callable[..., ChildSpec]


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """One for each of two workers."""
    made = [os.memfd_create(f"rtp-{number}") for number in (0, 1)]
    yield made
    for descriptor in made:
        os.close(descriptor)


def workers(fake: Fake, descriptors: list[int]) -> list[ChildSpec]:
    return [
        fake(f"media-{number}", descriptors=(descriptor,)) for number, descriptor in enumerate(descriptors)
    ]


def spare(fake: Fake, descriptors: list[int], *arguments: str) -> ChildSpec:
    return fake("spare", "--fed", *arguments, descriptors=tuple(descriptors), fed=True)


async def test_the_spare_becomes_whoever_dies_and_another_takes_its_place(
    fake: Fake, journal: Journal, descriptors: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RELEASED_PAUSE_S", 0.05)
    media = workers(fake, descriptors)
    supervisor = Supervisor({Kind.MEDIA: media}, spare=spare(fake, descriptors))
    run = asyncio.create_task(supervisor.run())
    assert supervisor.standby is not None
    standby = supervisor.standby.child
    await until(lambda: standby.is_ready)
    for index in (1, 0):
        warm, victim = standby.pid, supervisor.children[Kind.MEDIA][index]
        assert warm is not None and victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda victim=victim, warm=warm: victim.pid == warm)
        await until(lambda warm=warm: standby.is_ready and standby.pid not in (None, warm))
    became = [line.split()[2:] for line in journal.lines() if " became " in line]
    assert became == [["media-1", str(descriptors[0])], ["media-0", str(descriptors[1])]]
    assert journal.words("started").count("media-0") == 1
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0


async def test_without_a_living_spare_a_worker_starts_cold(
    fake: Fake, journal: Journal, descriptors: list[int]
) -> None:
    media = workers(fake, descriptors)[0]
    standby = Standby(spare(fake, descriptors), [media], backoff_s=(0.0, 60.0))
    await standby.start()
    child = Child(media, stand_in=standby)
    await child.start()
    for life in (1, 2):  # the second is followed by a pause
        assert standby.child.pid is not None
        os.kill(standby.child.pid, signal.SIGKILL)
        await until(lambda life=life: standby.child.starts > life or standby.child.pid is None)
        await until(lambda life=life: life == 2 or standby.child.is_ready)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: journal.words("started").count("media-0") == 2)
    assert journal.words("became") == []
    await child.stop()
    await standby.child.stop()


async def test_a_spare_that_cannot_start_costs_nobody_anything(
    fake: Fake, journal: Journal, descriptors: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    broken = fake("spare", "--report", "", "--exit", "1", descriptors=tuple(descriptors), fed=True)
    supervisor = Supervisor({Kind.MEDIA: workers(fake, descriptors)}, spare=broken, backoff_s=(0.0,))
    run = asyncio.create_task(supervisor.run())
    await until(lambda: "start cold" in caplog.text)
    assert all(child.is_ready for child in supervisor.children[Kind.MEDIA])
    supervisor.ask_to_stop()
    assert await asyncio.wait_for(run, 10) == 0


async def test_a_child_whose_pulse_stands_still_is_killed(
    fake: Fake, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "PULSE_EVERY_S", 0.05)
    pulse = Pulse("media-0")
    spec = fake(
        "media-0",
        *("--beats", str(pulse.descriptor), "20"),
        descriptors=(pulse.descriptor,),
        pulse=pulse.read,
    )
    child = Child(spec, backoff_s=(0.0,))
    await child.start()
    await until(lambda: child.hung == 1 and child.starts == 2)
    await child.stop()
    pulse.close()


async def test_a_child_that_does_not_beat_yet_is_left_alone(fake: Fake, journal: Journal) -> None:
    """It waits for the switch to be there; how long it may is another matter."""
    pulse = Pulse("media-0")
    child = Child(fake("media-0", descriptors=(pulse.descriptor,), pulse=pulse.read))
    await child.start()
    await asyncio.sleep((child_module.PULSES_MISSED + 2) * child_module.PULSE_EVERY_S)
    assert (child.hung, child.starts) == (0, 1)
    await child.stop()
    pulse.close()


async def test_the_end_of_the_switch_does_not_make_its_workers_wait_longer(
    fake: Fake, journal: Journal
) -> None:
    spec = fake("media-0", "--exit", "3", excused=frozenset({3}))
    child = Child(spec, backoff_s=(0.0, 0.01, 60.0))
    await child.start()
    await until(lambda: child.starts >= 5)
    await child.stop()
