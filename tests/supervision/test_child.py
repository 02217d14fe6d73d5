"""One child: readiness, death, restart, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sipivr.supervision import sockets
from sipivr.supervision.child import Child, ChildSpec, StartFailedError
from tests.supervision.conftest import Journal, until

Fake = Callable[..., ChildSpec]


async def test_report_carries_addresses(fake: Fake) -> None:
    child = Child(fake("sipivr", "--report", "READY sip=udp:127.0.0.1:5060 calls=512"))
    await child.start()
    assert child.addresses == {"sip": "udp:127.0.0.1:5060", "calls": "512"}
    await child.stop()
    assert child.pid is None


async def test_killed_child_starts_again_with_its_sockets(fake: Fake, journal: Journal) -> None:
    rtp, rtcp = sockets._bind_pair("127.0.0.1", 0)
    rtcp.close()
    child = Child(fake("media-0", "--echo", str(rtp.fileno()), descriptors=(rtp.fileno(),)))
    await child.start()
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    answered = set()
    for life in (1, 2):
        await until(lambda: child.is_ready)
        peer.sendto(b"", rtp.getsockname())
        answered.add(int(await asyncio.wait_for(loop.sock_recv(peer, 100), 5)))
        if life == 1:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: len(journal.pids("media-0")) == 2)
            await until(lambda: child.is_ready)
    assert answered == set(journal.pids("media-0"))
    await child.stop()
    peer.close()
    rtp.close()


async def test_packets_wait_in_the_socket_for_the_next_incarnation(fake: Fake, journal: Journal) -> None:
    rtp, rtcp = sockets._bind_pair("127.0.0.1", 0)
    rtcp.close()
    child = Child(fake("media-0", "--echo", str(rtp.fileno()), descriptors=(rtp.fileno(),)))
    await child.start()
    assert child.pid is not None
    stopped = child.pid
    os.kill(stopped, signal.SIGSTOP)
    await until(lambda: _state(stopped) == "T")
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(5)
    peer.sendto(b"", rtp.getsockname())
    os.kill(child.pid, signal.SIGKILL)
    answer = await asyncio.to_thread(peer.recv, 100)
    assert int(answer) == journal.pids("media-0")[1]
    await child.stop()
    peer.close()
    rtp.close()


async def test_failed_report_is_the_sentence(fake: Fake) -> None:
    child = Child(fake("sipivr", "--report", "FAILED UDP port 5060 is taken.", "--exit", "78"))
    with pytest.raises(StartFailedError, match=r"^sipivr: UDP port 5060 is taken\.$"):
        await child.start()


async def test_gives_up_on_a_child_that_never_was_ready(fake: Fake, journal: Journal) -> None:
    child = Child(fake("api", "--report", "", "--exit", "1"), backoff_s=(0.0,))
    with pytest.raises(StartFailedError, match=r"api cannot start \(exit status 1\)"):
        await child.start()
    assert len(journal.pids("api")) == 3


async def test_backoff_delays_the_second_restart(fake: Fake, journal: Journal) -> None:
    child = Child(fake("api"), backoff_s=(0.0, 60.0))
    await child.start()
    for life in (1, 2):
        await until(lambda: child.is_ready)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda life=life: (not child.is_ready and child.pid is None) or child.starts > life)
    await asyncio.sleep(0.2)
    assert child.starts == 2
    await asyncio.wait_for(child.stop(), 5)
    assert child.starts == 2


async def test_unresponsive_child_is_killed_and_started_again(fake: Fake, journal: Journal) -> None:
    child = Child(fake("api", "--report", "", ready_within_s=0.3), backoff_s=(0.0,))
    with pytest.raises(StartFailedError, match="SIGKILL"):
        await child.start()
    assert len(journal.pids("api")) == 3


async def test_stop_kills_what_ignores_the_signal(fake: Fake, journal: Journal) -> None:
    child = Child(fake("api", "--ignore-term", stop_within_s=0.3))
    await child.start()
    await asyncio.wait_for(child.stop(), 5)
    assert journal.words("term") == ["api"]
    assert journal.words("stopped") == []


SHORT_LIVED_PARENT = """
import asyncio, os, signal, sys
from sipivr.supervision.child import Child, ChildSpec

async def main():
    await Child(ChildSpec(name="media-0", argv=tuple(sys.argv[1:]), stop_rank=0)).start()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_child_dies_with_its_parent(fake: Fake, journal: Journal) -> None:
    """A supervisor that is killed leaves nobody behind (PR_SET_PDEATHSIG)."""
    arguments = (sys.executable, "-c", SHORT_LIVED_PARENT, *fake("media-0").argv)
    parent = await asyncio.create_subprocess_exec(*arguments)
    assert await asyncio.wait_for(parent.wait(), 20) == -signal.SIGKILL
    (pid,) = journal.pids("media-0")
    await until(lambda: not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    try:
        return _state(pid) != "Z"
    except FileNotFoundError:
        return False


def _state(pid: int) -> str:
    """One letter, proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
