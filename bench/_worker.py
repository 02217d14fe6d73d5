"""A live media worker for benches: its process, its sockets, and the control side with its events."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from media.hardening import tune_socket
from media.protocol import (
    Acknowledged,
    AnyCommand,
    AnyEvent,
    EventBatch,
    LegStatistics,
    QueryStatistics,
    Refused,
    Shutdown,
    WorkerStatistics,
    decode_events,
    encode_commands,
)

_TIMEOUT_S: Final = 20.0
_BATCH: Final = 100


class Arrived(NamedTuple):
    """An event and when it came, on the clock of `time.monotonic`."""

    at_s: float
    event: AnyEvent


def open_sockets(count: int) -> list[socket.socket]:
    """UDP sockets on loopback with a worker's buffers, never blocking."""
    sockets: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        tune_socket(sock)
        sockets.append(sock)
    return sockets


def rss_kb(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
    return 0


class LiveWorker:
    """The control side of one worker. Made by `live_worker`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = process
        self.events: list[Arrived] = []
        self._control = control
        self._seq = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def read(self, seconds: float) -> None:
        """Collects events for a while; returns early when the worker is gone."""
        end = time.monotonic() + seconds
        while True:
            if not select.select([self._control], [], [], max(0.0, end - time.monotonic()))[0]:
                return
            packet = self._control.recv(1 << 20)
            if not packet:
                return
            message = decode_events(packet)
            if isinstance(message, EventBatch):
                now = time.monotonic()
                self.events += [Arrived(now, event) for event in message.events]

    def command(self, commands: Sequence[AnyCommand]) -> list[Refused]:
        """Sends commands, in order, and waits for every answer; `seq` is filled in.

        Returns:
            The refusals.

        Raises:
            RuntimeError: an answer did not come.
        """
        refusals: list[Refused] = []
        for start in range(0, len(commands), _BATCH):
            batch: list[AnyCommand] = []
            for command in commands[start : start + _BATCH]:
                self._seq += 1
                batch.append(msgspec.structs.replace(command, seq=self._seq))
            waiting = {command.seq for command in batch}
            self._control.send(encode_commands(batch))
            end = time.monotonic() + _TIMEOUT_S
            seen = len(self.events)
            while waiting and time.monotonic() < end and self.alive:
                self.read(0.02)
                for arrived in self.events[seen:]:
                    if isinstance(arrived.event, Acknowledged | Refused):
                        waiting.discard(arrived.event.seq)
                seen = len(self.events)
            refusals += [each.event for each in self.events if isinstance(each.event, Refused)]
            self.take(lambda event: isinstance(event, Acknowledged | Refused))
            if waiting:
                raise RuntimeError(f"{len(waiting)} commands were not answered")
        return refusals

    def take(self, met: Callable[[AnyEvent], bool]) -> list[Arrived]:
        """The events that meet a condition; they are not kept."""
        found = [each for each in self.events if met(each.event)]
        self.events = [each for each in self.events if not met(each.event)]
        return found

    def statistics(self) -> tuple[WorkerStatistics, dict[int, LegStatistics]]:
        """The counters now, of the worker and of each leg by its number."""
        self.command([QueryStatistics(seq=0)])
        found = self.take(lambda event: isinstance(event, WorkerStatistics | LegStatistics))
        whole = [each.event for each in found if isinstance(each.event, WorkerStatistics)]
        if not whole:
            raise RuntimeError("the statistics did not come")
        legs = {each.event.leg: each.event for each in found if isinstance(each.event, LegStatistics)}
        return whole[-1], legs


@contextlib.contextmanager
def live_worker(
    sockets: Sequence[socket.socket], *options: str, pass_fds: Sequence[int] = ()
) -> Iterator[LiveWorker]:
    """A worker with these sockets, ready for commands; gone at the end.

    Args:
        sockets: for RTP, bound.
        options: further ones of its command line.
        pass_fds: descriptors that `options` name.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        path = Path(directory) / "control"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(_TIMEOUT_S)
        files = [sock.fileno() for sock in sockets]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "media.worker", "--index", "0", "--control", str(path)),
                *("--fds", ",".join(map(str, files)), *options),
            ],
            pass_fds=(*files, *pass_fds),
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        control, _ = listener.accept()
        stack.enter_context(control)
        control.settimeout(_TIMEOUT_S)
        control.recv(1 << 18)
        worker = LiveWorker(process, control)
        yield worker
        if worker.alive:
            worker.command([Shutdown(seq=0)])
            process.wait(_TIMEOUT_S)
