"""One child process: started, watched, started again when it dies, stopped.

States of a child, owned by `Child.supervise`:

    starting ──report or probe──► ready ──exit──► waiting ──delay──► starting
       │ FAILED, never ready                        │
       ▼                                            ▼ stop asked for, in any state
     failed                                       stopped

A child that dies is started again after a delay that doubles from none to 30 s and is forgotten when the
child has lived a minute. Only before it was ever ready can a child fail for good: what once worked is
tried for ever. A child with a pulse that stands still is killed, and so starts again; one with a stand-in
(sipivr.supervision.standby) becomes that process instead of starting cold.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sipivr import config, hardening
from sipivr.readiness import EXIT_CANNOT_START, MAX_REPORT_BYTES

logger = logging.getLogger(__name__)

BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_AFTER_S: Final = 60.0
RELEASED_PAUSE_S: Final = 1.0
PROBE_EVERY_S: Final = 0.05
#: A pulse is felt so often; this many times without a beat, and the child hangs. Counted in looks, not by
#: the clock: when the whole machine stood still, nobody hung.
PULSE_EVERY_S: Final = 0.25
PULSES_MISSED: Final = 4
#: A child that has died so often without ever being ready will not be.
FIRST_TRIES: Final = 3
STANDARD_ERROR: Final = 2


class StartFailedError(Exception):
    """A child cannot be started; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What the supervisor knows about one process.

    Attributes:
        name: in logs: `sipivr`, `media-0`, `api`.
        argv: program and arguments.
        stop_rank: children with the lowest rank are stopped first.
        descriptors: file descriptors that every incarnation inherits, under the same numbers.
        environment: variables besides our own.
        user: whom it runs as; None: ourselves.
        probe: asked until it says yes, for a child that does not report readiness by itself.
        ready_within_s: a child that is not ready by then is killed and started again.
        stop_within_s: from SIGTERM to SIGKILL.
        pulse: a number that changes for as long as the child works; None: not watched.
        excused: exit statuses of a child that another one's end has ended; they add nothing to the delay.
        fed: the child takes an order on its standard input.
    """

    name: str
    argv: tuple[str, ...]
    stop_rank: int
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    probe: Callable[[], Awaitable[bool]] | None = None
    ready_within_s: float = 60.0
    stop_within_s: float = 10.0
    pulse: Callable[[], int] | None = None
    excused: frozenset[int] = frozenset()
    fed: bool = False


class StandIn(Protocol):
    """Has processes that can become a child faster than a new one starts."""

    async def take(self, spec: ChildSpec) -> Process | None:
        """A running process that is this child from now on, None if there is none."""


class Report:
    """The read end of the pipe on which one incarnation reports (sipivr.readiness)."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._text = b""
        self.line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def _read(self) -> None:
        part = os.read(self._reader, MAX_REPORT_BYTES)
        self._text += part
        line, newline, _ = self._text.partition(b"\n")
        if newline or len(self._text) >= MAX_REPORT_BYTES:
            self._finish(line.decode("utf-8", "replace"))
        elif not part:
            asyncio.get_running_loop().remove_reader(self._reader)

    def _finish(self, line: str) -> None:
        asyncio.get_running_loop().remove_reader(self._reader)
        if not self.line.done():
            self.line.set_result(line)

    def close_writer(self) -> None:
        """Ours, once the child has its own."""
        os.close(self.writer)

    def close(self) -> None:
        """Stops listening."""
        asyncio.get_running_loop().remove_reader(self._reader)
        self.line.cancel()
        os.close(self._reader)


class Child:
    """Keeps one process alive until told to stop."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        after: Child | None = None,
        backoff_s: tuple[float, ...] = BACKOFF_S,
        stand_in: StandIn | None = None,
    ) -> None:
        """Args: `after` is whom this child connects to: no start is tried while that one is not ready."""
        self.spec = spec
        self._after = after
        self._stand_in = stand_in
        self.addresses: dict[str, str] = {}
        self.starts = 0
        self.hung = 0
        self._backoff_s = backoff_s
        self._deaths = 0
        self._process: Process | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._released = asyncio.Event()
        self._spawning = asyncio.Lock()
        self._ever_ready = False
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running incarnation's process id."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    @property
    def is_ready(self) -> bool:
        """Whether the running incarnation serves."""
        return self._ready.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    async def start(self) -> None:
        """Starts the child and waits until it is ready for the first time.

        Raises:
            StartFailedError: it said that it cannot start, or it was not ready in time.
        """
        self._task = asyncio.create_task(self.supervise(), name=f"supervise {self.spec.name}")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task  # a fault of ours surfaces here
            raise StartFailedError(self._failure or f"{self.spec.name} was stopped before it was ready.")

    async def supervise(self) -> None:
        """The child's whole life."""
        while True:
            await self._wait_for_predecessor()
            began = time.monotonic()
            async with self._spawning:  # a stop that comes meanwhile finds the process
                if self._stopping.is_set():
                    return
                report = Report()
                try:
                    process = await self._stood_in() or await self._spawn(report.writer)
                    self._process = process
                except OSError as error:
                    report.close()
                    self._failure = f"{self.spec.name} cannot be started: {error}."
                    return
                finally:
                    report.close_writer()
            self.starts += 1
            try:
                await self._live(process, report)
            finally:
                report.close()
                self._ready.clear()
            if self._failure and not self._stopping.is_set():
                return
            await self._pause(self._delay(process.returncode, time.monotonic() - began))

    def release(self) -> Process | None:
        """Gives the running process away, if there is one, and starts another after a while."""
        process = self._process
        if process is None or process.returncode is not None or self._stopping.is_set():
            return None
        self._process = None
        self._released.set()
        return process

    async def stop(self) -> None:
        """SIGTERM, patience, SIGKILL; returns when the process is gone."""
        self._stopping.set()
        async with self._spawning:
            process = self._process
        if process is not None and process.returncode is None:
            self._signal(process, signal.SIGTERM)
            hurry = asyncio.create_task(self._hurry.wait())
            gone = asyncio.create_task(process.wait())
            ends: set[asyncio.Future[Any]] = {gone, hurry}
            await asyncio.wait(ends, timeout=self.spec.stop_within_s, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not gone.done():
                logger.warning("%s did not stop in time: killed", self.spec.name)
                self._signal(process, signal.SIGKILL)
            await gone
        if self._task is not None:
            await self._task

    def hurry(self) -> None:
        """No more patience: a stop that waits kills now."""
        self._hurry.set()

    async def _stood_in(self) -> Process | None:
        return await self._stand_in.take(self.spec) if self._stand_in is not None and self.starts else None

    async def _spawn(self, ready_descriptor: int) -> Process:
        spec = self.spec
        environment = config.child_environment(
            **spec.environment, **{config.READY_VARIABLE: str(ready_descriptor)}
        )
        parent = os.getpid()
        return await asyncio.create_subprocess_exec(
            *spec.argv,
            stdin=asyncio.subprocess.PIPE if spec.fed else asyncio.subprocess.DEVNULL,
            stdout=STANDARD_ERROR,  # standard output is the banner's
            stderr=None,
            env=environment,
            pass_fds=(*spec.descriptors, ready_descriptor),
            start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor alone, which stops in order
            umask=0o027,
            preexec_fn=functools.partial(hardening.die_with_parent, parent),
            user=spec.user.uid if spec.user else None,
            group=spec.user.gid if spec.user else None,
            extra_groups=[] if spec.user else None,
        )

    async def _live(self, process: Process, report: Report) -> None:
        """From spawn to exit of one incarnation, or to its release."""
        gone = asyncio.create_task(process.wait())
        probe = asyncio.create_task(self._probe())
        pulse = asyncio.create_task(self._feel_pulse(process))
        released = asyncio.create_task(self._released.wait())
        try:
            signs: set[asyncio.Future[Any]] = {gone, probe, report.line, released}
            await asyncio.wait(
                signs,
                timeout=self.spec.ready_within_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done() and not report.line.done():
                await asyncio.sleep(0)  # what it wrote last is in the pipe: one turn of the loop reads it
            if report.line.done():
                self._heed(report.line.result())
            elif probe.done() and not gone.done():
                self._become_ready()
            elif not gone.done() and not released.done():
                logger.error("%s was not ready after %g s: killed", self.spec.name, self.spec.ready_within_s)
                self._signal(process, signal.SIGKILL)
            if self._ready.is_set():
                logger.info("%s is ready", self.spec.name, extra={"pid": process.pid})
            ends: set[asyncio.Future[Any]] = {gone, released}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._released.is_set():
                self._released.clear()
                return
            code = gone.result()
        finally:
            for task in (probe, gone, pulse, released):
                task.cancel()
        self._note_end(code)

    def _heed(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "READY":
            self.addresses = dict(pair.split("=", 1) for pair in rest.split() if "=" in pair)
            self._become_ready()
        elif word == "FAILED" and not self._ever_ready:
            self._failure = f"{self.spec.name}: {rest}"
        else:
            logger.warning("%s reports: %s", self.spec.name, line)

    def _become_ready(self) -> None:
        self._ready.set()
        self._ever_ready = True

    def _note_end(self, code: int) -> None:
        expected = self._after is not None and self._after._stopping.is_set()
        if self._stopping.is_set() or expected:
            logger.info("%s has stopped", self.spec.name)
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        hopeless = code == EXIT_CANNOT_START or self.starts >= FIRST_TRIES
        if hopeless and not self._ever_ready and not self._failure:
            self._failure = f"{self.spec.name} cannot start ({how}); its log says why."
        logger.warning("%s ended: %s", self.spec.name, how, extra={"starts": self.starts})

    async def _wait_for_predecessor(self) -> None:
        if self._after is None or self._after.is_ready:
            return
        waits = [asyncio.create_task(event.wait()) for event in (self._after._ready, self._stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _delay(self, code: int | None, lived_s: float) -> float:
        """Seconds until the next start."""
        if code is None:  # given away: whoever has it needs the processor now
            return RELEASED_PAUSE_S
        if code in self.spec.excused:
            return self._backoff_s[min(1, len(self._backoff_s) - 1)]
        self._deaths = 0 if lived_s >= STABLE_AFTER_S else self._deaths
        delay = self._backoff_s[min(self._deaths, len(self._backoff_s) - 1)]
        self._deaths += 1
        return delay

    async def _pause(self, delay: float) -> None:
        if self._stopping.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)

    async def _probe(self) -> None:
        """Returns once the child's probe says yes; never without a probe."""
        if self.spec.probe is None:
            await asyncio.Event().wait()
            return
        while not await self.spec.probe():  # noqa: ASYNC110 - another process's state makes no event here
            await asyncio.sleep(PROBE_EVERY_S)

    async def _feel_pulse(self, process: Process) -> None:
        """Kills a child that beat once and has stopped; before the first beat it is still starting."""
        pulse = self.spec.pulse
        if pulse is None:
            return
        last, still, beating = pulse(), 0, False
        while still < PULSES_MISSED:
            await asyncio.sleep(PULSE_EVERY_S)
            now = pulse()
            beating = beating or now != last
            still = 0 if now != last or not beating else still + 1
            last = now
        self.hung += 1
        logger.error("%s hangs: killed", self.spec.name, extra={"pid": process.pid})
        self._signal(process, signal.SIGKILL)

    @staticmethod
    def _signal(process: Process, number: signal.Signals) -> None:
        """To the process; SIGKILL to its whole session, so that no grandchild remains."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
