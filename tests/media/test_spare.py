"""The warm spare: becomes the worker that it is told to be, or leaves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.protocol import Hello, decode_events
from tests.media.support import remote_of, udp_socket


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    with udp_socket() as one, udp_socket() as other:
        yield [one, other]


def start(sockets: list[socket.socket]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "media.spare"],
        stdin=subprocess.PIPE,
        pass_fds=[sock.fileno() for sock in sockets],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_it_becomes_the_worker_that_it_is_told_to_be(tmp_path: Path, sockets: list[socket.socket]) -> None:
    path = tmp_path / "media.sock"
    mine, others = sockets
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, start(sockets) as spare:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(20)
        argv = [
            *("python", "-m", "media.worker", "--index", "3"),
            *("--control", str(path), "--fds", str(mine.fileno())),
        ]
        assert spare.stdin is not None
        spare.stdin.write(json.dumps({"argv": argv, "close": [others.fileno()]}).encode() + b"\n")
        spare.stdin.flush()
        control, _ = listener.accept()
        with control:
            control.settimeout(20)
            hello = decode_events(control.recv(1 << 18))
            assert isinstance(hello, Hello)
            assert (hello.worker, hello.pid, hello.sockets) == (3, spare.pid, (remote_of(mine),))
            assert Path(f"/proc/{spare.pid}/comm").read_text() == "media-3\n"
        assert spare.wait(10) == 3


def test_it_leaves_with_its_supervisor(sockets: list[socket.socket]) -> None:
    with start(sockets) as spare:
        assert spare.stdin is not None
        spare.stdin.close()
        assert spare.wait(20) == 0
