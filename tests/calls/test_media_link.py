"""The pipe to a media worker: what is sent is answered, refused or given up, and nothing stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.protocol import Acknowledged, EventBatch, Hello, Refused, RemoveLeg, decode_commands, encode_events
from sipivr.calls.media_link import MediaRefused, MediaWorker

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
