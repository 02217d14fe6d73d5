"""The worker's end of the control socket, and the time that commands get."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from media.control import ClosedError, ControlChannel, MalformedError
from media.protocol import QueryStatistics, encode_commands

LONG_AGO = 0.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, ControlChannel]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, ControlChannel(theirs)


def batch(*numbers: int) -> bytes:
    return encode_commands([QueryStatistics(seq=number) for number in numbers])


def taken(channel: ControlChannel, end_s: float) -> list[int]:
    return [command.seq for command in channel.commands(end_s)]


def test_all_that_came_while_there_is_time(ends: tuple[socket.socket, ControlChannel]) -> None:
    ours, channel = ends
    ours.send(batch(1, 2, 3))
    ours.send(batch(4))
    assert taken(channel, time.monotonic() + 60) == [1, 2, 3, 4]
    assert taken(channel, time.monotonic() + 60) == []


def test_without_time_one_at_a_time_and_in_order(ends: tuple[socket.socket, ControlChannel]) -> None:
    """A thousand commands at once hold up no audio, and none of them is lost or overtaken."""
    ours, channel = ends
    ours.send(batch(1, 2))
    ours.send(batch(3))
    assert [taken(channel, LONG_AGO) for _ in range(4)] == [[1], [2], [3], []]


def test_unread_messages_stay_in_the_socket(ends: tuple[socket.socket, ControlChannel]) -> None:
    """While we have no time the sender is held up; nothing piles up on our side."""
    ours, channel = ends
    ours.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(batch(sent, sent))
            sent += 1
    assert taken(channel, LONG_AGO) == [0]
    assert taken(channel, LONG_AGO) == [0]
    ours.send(batch(sent))  # only now is there room, for one
    with pytest.raises(BlockingIOError):
        ours.send(batch(sent))
    assert taken(channel, time.monotonic() + 60)[-1] == sent


def test_what_came_before_the_end_is_obeyed(ends: tuple[socket.socket, ControlChannel]) -> None:
    ours, channel = ends
    ours.send(batch(1))
    ours.send(b"\xc1")
    commands = channel.commands(time.monotonic() + 60)
    assert next(commands).seq == 1
    with pytest.raises(MalformedError):
        next(commands)
    ours.send(batch(2))
    ours.close()
    commands = channel.commands(time.monotonic() + 60)
    assert next(commands).seq == 2
    with pytest.raises(ClosedError):
        next(commands)
