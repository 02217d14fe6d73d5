"""Sockets, packets and a control side for tests of the media plane."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AddLeg,
    AnyCommand,
    AnyEvent,
    Codec,
    EventBatch,
    Hello,
    KeyPressed,
    Refused,
    Remote,
    decode_events,
    encode_commands,
)

E = TypeVar("E")


def udp_socket(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def remote_of(sock: socket.socket) -> Remote:
    return Remote(*sock.getsockname()[:2])


def add(engine: Engine, leg: int, remote: Remote | None, **changes: object) -> AnyEvent:
    command = AddLeg(seq=leg, leg=leg, socket=0, codec=Codec.PCMU, remote=remote, event_payload_type=101)
    return engine.execute(msgspec.structs.replace(command, **changes))[0]


def keys_of(events: list[AnyEvent], leg: int | None = None) -> list[int]:
    return [e.key for e in events if isinstance(e, KeyPressed) and leg in (None, e.leg)]


def of_type(events: list[AnyEvent], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@contextlib.contextmanager
def loopback_pair(*, portable: bool = False) -> Iterator[tuple[Engine, Engine]]:
    """Two engines with leg 1 each, joined over real sockets."""
    with udp_socket() as first, udp_socket() as second:
        engines = [
            Engine([sock], rng=np.random.default_rng(seed), portable=portable, capacity=8)
            for seed, sock in enumerate((first, second))
        ]
        for engine, peer in zip(engines, (second, first), strict=True):
            assert isinstance(add(engine, 1, remote_of(peer)), Acknowledged)
        yield engines[0], engines[1]


class WorkerProcess:
    """A worker as a process of its own, and the control side that it talks to."""

    def __init__(
        self,
        directory: Path,
        sockets: list[socket.socket],
        *options: str,
        report_sockets: list[socket.socket] | None = None,
    ) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = directory / "media.sock"
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(20)
        files = [sock.fileno() for sock in sockets]
        report_files = [sock.fileno() for sock in report_sockets or []]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", "media.worker", "--index", "0"),
                *("--control", str(path), "--fds", ",".join(map(str, files)), *options),
                *("--report-fds", ",".join(map(str, report_files))),
            ],
            pass_fds=(*files, *report_files),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self.control, _ = self._listener.accept()
        self.control.settimeout(20)
        hello = decode_events(self.control.recv(1 << 20))
        assert isinstance(hello, Hello)
        self.hello = hello
        self.events: list[AnyEvent] = []
        self._seq = 0

    def next_batch(self, timeout_s: float = 20.0) -> EventBatch | None:
        if not select.select([self.control], [], [], timeout_s)[0]:
            return None
        packet = self.control.recv(1 << 20)
        if not packet:
            return None
        batch = decode_events(packet)
        assert isinstance(batch, EventBatch)
        self.events += batch.events
        return batch

    def wait_for(self, met: Callable[[AnyEvent], bool], timeout_s: float = 20.0) -> AnyEvent:
        for event in self.events:
            if met(event):
                return event
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            batch = self.next_batch(end - time.monotonic())
            for event in batch.events if batch else []:
                if met(event):
                    return event
        raise AssertionError("the event did not come")

    def command(self, command: AnyCommand) -> AnyEvent:
        """Sends one command and returns its answer; `seq` is filled in."""
        self._seq += 1
        seq = self._seq
        self.control.send(encode_commands([msgspec.structs.replace(command, seq=seq)]))
        return self.wait_for(lambda e: isinstance(e, Acknowledged | Refused) and e.seq == seq)

    def close(self) -> None:
        self.control.close()
        self._listener.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
