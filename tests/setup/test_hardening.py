"""What a process does to itself, seen from itself and from its like."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sipivr import hardening
from tests.spare_users import API, MEDIA, interpreter, needs_root

HARDENED = """
import json, os, resource, sys
from sipivr import hardening
answer = hardening.harden(lock_memory=True)
hardening.gain_no_privileges()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "answer": list(answer),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "locked_kb": int(status["VmLck"].split()[0]),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "may_lock": hardening.may_lock_pages(),
}))
"""


def test_hardened_process() -> None:
    done = subprocess.run([sys.executable, "-c", HARDENED], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    not_dumpable, no_core, locked = found["answer"]
    assert not_dumpable
    assert no_core
    assert found["core"] == [0, 0]
    assert found["no_new_privileges"] == "1"
    assert locked is found["may_lock"]
    if locked:
        assert found["locked_kb"] > 0


LIMITED = """
import os, resource
from sipivr import hardening
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.geteuid() == 0:
    os.setgid(64999); os.setuid(64999)
print(hardening.may_lock_pages(), hardening.lock_pages())
"""


def test_nothing_is_locked_under_a_limit() -> None:
    """MCL_FUTURE under a limit would make a later malloc fail in the middle of a call."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_own_user_is_a_trusted_peer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        connection, _ = listener.accept()
        with connection:
            assert hardening.peer_is_trusted(connection, path)


CONNECT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1]); peer.recv(1)
"""


@needs_root
@pytest.mark.parametrize(("mode", "user", "trusted"), [(0o660, API, True), (0o606, MEDIA, False)])
def test_group_of_the_socket_is_trusted_only_when_it_may_write(
    shared_directory: Path, mode: int, user: int, trusted: bool
) -> None:
    path = shared_directory / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chown(path, 0, API)
        path.chmod(mode)
        listener.listen()
        listener.settimeout(10)
        peer = subprocess.Popen([interpreter(), "-c", CONNECT, str(path)], user=user, group=user)
        connection, _ = listener.accept()
        with connection:
            assert hardening.peer_is_trusted(connection, path) is trusted
        peer.wait(10)
