"""Which processes a node has, from its settings: command lines, order, sockets, users."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from sipivr.config import ConfigError, Paths, Settings, host_and_port
from sipivr.layout import USERS, Kind
from sipivr.supervision.child import ChildSpec, User
from sipivr.supervision.pulse import Pulse
from sipivr.supervision.sockets import WorkerSockets

#: Stop order: nobody new from the web, then calls drain, then their audio, then the gateway that they ask.
STOP_RANKS: Final = {Kind.API: 0, Kind.SWITCH: 1, Kind.MEDIA: 2, Kind.SIMULATOR: 3}
#: Start order: what others connect to first; kinds of one step start together.
START_STEPS: Final = ((Kind.SIMULATOR,), (Kind.SWITCH,), (Kind.MEDIA, Kind.API))
#: Threads in BLAS made a tick ten times slower (design: media).
ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: Workers are pinned to cores only where the switch and the kernel keep some of their own.
PIN_FROM_CORES: Final = 4
#: The first start makes a hundred prompts: half a minute on an idle machine, more on a busy one.
FIRST_PROMPTS_S: Final = 600.0
#: A worker that has lived this long has its sockets and has connected, or is about to.
ALIVE_AFTER_S: Final = 0.3
#: A worker whose control connection closed, or that found none (media.worker): the switch was away.
SWITCH_AWAY: Final = frozenset({3, 4})
SPARE_NAME: Final = "media-spare"


def worker_count(settings: Settings) -> int:
    """`media.workers`, or one for each core but one."""
    return settings.media.workers or max(1, len(os.sched_getaffinity(0)) - 1)


def user_of(kind: Kind) -> User:
    """The account that a kind runs as in a packaged layout.

    Raises:
        ConfigError: it does not exist.
    """
    try:
        account = pwd.getpwnam(USERS[kind])
    except KeyError:
        raise ConfigError(
            f"The user {USERS[kind]} does not exist: docker/create-users makes the users of a package."
        ) from None
    return User(account.pw_name, account.pw_uid, account.pw_gid)


def household(
    settings: Settings,
    config: Path,
    paths: Paths,
    workers: Sequence[WorkerSockets],
    *,
    users: bool = False,
) -> dict[Kind, list[ChildSpec]]:
    """Every process of this node, by kind.

    Args:
        settings: the node's settings.
        config: the settings file, which the processes read again.
        paths: the node's files.
        workers: the RTP and RTCP sockets of each media worker.
        users: whether each kind runs under its own user (needs root).
    """

    def spec(kind: Kind, name: str, *arguments: str, **more: object) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-m", *arguments),
            stop_rank=STOP_RANKS[kind],
            user=user_of(kind) if users else None,
            **more,  # type: ignore[arg-type]  # the keywords are those below
        )

    house: dict[Kind, list[ChildSpec]] = {
        Kind.SWITCH: [
            spec(
                Kind.SWITCH,
                "sipivr",
                *("sipivr.bootstrap", "--config", str(config)),
                ready_within_s=FIRST_PROMPTS_S,
                stop_within_s=settings.calls.drain_s + 15.0,
            )
        ],
        Kind.MEDIA: [
            spec(
                Kind.MEDIA,
                f"media-{index}",
                *("media.worker", "--index", str(index), "--control", str(paths.media_socket)),
                *("--fds", ",".join(str(one.fileno()) for one in sockets.rtp)),
                *("--report-fds", ",".join(str(one.fileno()) for one in sockets.rtcp)),
                *("--pulse-fd", str(pulse.descriptor)),
                *("--rtp-timeout-s", str(settings.rtp.timeout_s)),
                *("--latch-window-s", str(settings.rtp.latch_window_s), "--dscp", str(settings.rtp.dscp)),
                *("--max-legs", str(settings.media.max_legs)),
                *_affinity(index, len(workers)),
                descriptors=(*sockets.descriptors, pulse.descriptor),
                environment=ONE_THREAD,
                probe=alive,
                pulse=pulse.read,
                excused=SWITCH_AWAY,
            )
            for index, sockets in enumerate(workers)
            for pulse in (Pulse(f"media-{index}"),)
        ],
        Kind.API: [
            spec(
                Kind.API,
                "api",
                *("api", "serve", "--config", str(config)),
                probe=accepts(*host_and_port(settings.api.listen)),
            )
        ],
        Kind.SIMULATOR: [],
    }
    if settings.simulator.enabled:
        listen = settings.simulator.listen
        house[Kind.SIMULATOR].append(
            spec(
                Kind.SIMULATOR,
                "simulator",
                *("sipivr.simulator", "--listen", listen, "--ledger", str(paths.simulator_ledger)),
                probe=accepts(*host_and_port(listen)),
            )
        )
    return house


def spare_of(workers: Sequence[ChildSpec]) -> ChildSpec | None:
    """A process that can become any of these workers; None without workers."""
    if not workers:
        return None
    pulse = Pulse(SPARE_NAME)
    return ChildSpec(
        name=SPARE_NAME,
        argv=(sys.executable, "-m", "media.spare", "--pulse-fd", str(pulse.descriptor)),
        stop_rank=STOP_RANKS[Kind.MEDIA],
        descriptors=(*sorted({fd for worker in workers for fd in worker.descriptors}), pulse.descriptor),
        environment=ONE_THREAD,
        user=workers[0].user,
        probe=moves(pulse.read),
        fed=True,
    )


def accepts(host: str, port: int) -> Callable[[], Awaitable[bool]]:
    """A probe: somebody listens there."""

    async def probe() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return probe


def moves(count: Callable[[], int]) -> Callable[[], Awaitable[bool]]:
    """A probe: a number has changed since it last had, or since now."""
    last = count()

    async def probe() -> bool:
        nonlocal last
        before, last = last, count()
        return last != before

    return probe


async def alive() -> bool:
    """A probe for a process without a port: it has not died at once."""
    await asyncio.sleep(ALIVE_AFTER_S)
    return True


def _affinity(index: int, workers: int) -> tuple[str, ...]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < PIN_FROM_CORES or workers >= len(cores):
        return ()
    return ("--affinity", str(cores[-1 - index]))
