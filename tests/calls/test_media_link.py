"""The pipe to a media worker: what is sent is answered, refused or given up, and nothing stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from media.protocol import (
    PROTOCOL_VERSION,
    Acknowledged,
    EventBatch,
    Hello,
    Refused,
    RemoveLeg,
    WorkerStatistics,
    decode_commands,
    encode_events,
)
from sipivr.calls import media_worker
from sipivr.calls.media_link import MediaLink, MediaRefused, MediaWorker
from sipivr.calls.media_load import WorkerLoad
from tests.calls.far_worker import FarWorker

HELLO = Hello(1, 0, 1, ())


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
async def worker(pipe: tuple[socket.socket, socket.socket]) -> MediaWorker:
    return MediaWorker(pipe[0], HELLO, sharing=True, lost=lambda _: None)


async def numbers(theirs: socket.socket) -> list[int]:
    await asyncio.sleep(0)  # commands of one iteration travel together, behind it
    return [command.seq for command in decode_commands(theirs.recv(65536))]


def timers() -> int:
    return sum(not timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


async def test_an_answer_ends_the_commands_timer(
    worker: MediaWorker, pipe: tuple[socket.socket, socket.socket]
) -> None:
    before = timers()
    done = worker.send(RemoveLeg(seq=worker.next_seq(), leg=1))
    refused = worker.send(RemoveLeg(seq=worker.next_seq(), leg=2))
    assert (timers(), worker.pending) == (before + 2, 2)
    first, second = await numbers(pipe[1])
    events = EventBatch(tick=1, events=[Acknowledged(seq=first), Refused(seq=second, reason="no such leg")])
    pipe[1].send(encode_events(events))
    worker.readable()
    await done
    with pytest.raises(MediaRefused, match="no such leg"):
        await refused
    assert (timers(), worker.pending) == (before, 0)


async def test_a_lost_worker_leaves_no_timer(
    worker: MediaWorker, pipe: tuple[socket.socket, socket.socket]
) -> None:
    before = timers()
    done = worker.send(RemoveLeg(seq=worker.next_seq(), leg=1))
    worker.close()
    with pytest.raises(MediaRefused):
        await done
    assert (timers(), worker.pending) == (before, 0)


async def test_a_prompt_is_unloaded_with_its_last_use(worker: MediaWorker) -> None:
    path = Path("/prompt.s16")
    assert worker.prompt(path) == worker.prompt(path)
    worker.release_prompt(path)
    assert (worker.prompts, worker.prompt_uses) == (1, 1)
    worker.release_prompt(path)
    assert (worker.prompts, worker.prompt_uses) == (0, 0)


async def test_a_worker_that_answers_nothing_is_dropped(
    worker: MediaWorker, pipe: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_worker, "COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(MediaRefused):
        await worker.send(RemoveLeg(seq=worker.next_seq(), leg=1))
    await asyncio.sleep(0)
    assert worker.closed and worker.hung


async def test_a_worker_that_answers_other_things_lives(
    worker: MediaWorker, pipe: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_worker, "COMMAND_TIMEOUT_S", 0.05)
    done = worker.send(RemoveLeg(seq=worker.next_seq(), leg=1))
    asyncio.get_running_loop().call_later(
        0.03, lambda: (pipe[1].send(encode_events(EventBatch(1, []))), worker.readable())
    )
    with pytest.raises(MediaRefused):
        await done
    await asyncio.sleep(0)
    assert not worker.closed


def figures(ticks: int, *, cost_us: float, legs: int = 10, late: int = 0) -> WorkerStatistics:
    return WorkerStatistics(
        legs=legs,
        ticks=ticks,
        late_ticks=late,
        tick_cost_us=cost_us,
        packets_received=0,
        packets_sent=0,
        packets_unknown=0,
        events_dropped=0,
    )


def test_a_worker_is_overloaded_until_it_is_well_again() -> None:
    load = WorkerLoad()
    load.note(figures(50, cost_us=16_000))
    assert load.overloaded
    load.note(figures(100, cost_us=13_000))
    assert load.overloaded
    load.note(figures(150, cost_us=11_000))
    assert not load.overloaded
    load.note(figures(200, cost_us=100, late=26))
    assert load.overloaded
    load.note(figures(250, cost_us=100, late=30))
    assert not load.overloaded


def test_figures_over_no_ticks_say_nothing() -> None:
    load = WorkerLoad()
    load.note(figures(50, cost_us=16_000))
    load.note(figures(51, cost_us=0.0))
    assert load.overloaded


def test_legs_not_yet_measured_cost_what_the_measured_ones_do() -> None:
    load = WorkerLoad()
    load.note(figures(50, cost_us=1_000, legs=10))
    assert load.expected_us(12) == pytest.approx(1_200)


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[MediaLink]:
    made = MediaLink(tmp_path / "media.sock", sharing=True)
    made.start()
    yield made
    made.stop()
    FarWorker.all_die()


async def test_the_next_call_goes_where_a_tick_costs_least(link: MediaLink, tmp_path: Path) -> None:
    with pytest.raises(MediaRefused):
        link.least_loaded()
    workers = [
        await FarWorker(link, tmp_path / "media.sock", [], index=index).arrive() for index in (0, 1, 2)
    ]
    for worker, cost_us in zip(workers, (900.0, 300.0, 15_500.0), strict=True):
        worker.load.note(figures(50, cost_us=cost_us, legs=0))
    assert link.least_loaded() is workers[1]
    workers[1].load.note(figures(100, cost_us=300.0, legs=0, late=40))
    assert link.least_loaded() is workers[0]
    assert link.overloaded == 2
    workers[0].load.note(figures(100, cost_us=15_500.0))
    with pytest.raises(MediaRefused, match="overloaded"):
        link.least_loaded()


async def test_a_worker_of_another_version_is_not_taken_in(link: MediaLink, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(str(tmp_path / "media.sock"))
        other.send(encode_events(Hello(PROTOCOL_VERSION + 1, 0, 1, ())))
        other.settimeout(5)
        assert await asyncio.to_thread(other.recv, 100) == b""
    assert not link.workers
