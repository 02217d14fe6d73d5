"""Each kind of process under its own user: what `api` and `media` can and cannot do to `sipivr`.

Every refusal here is tried, by a process of another user, against a real hardened process and a real
database in the layout of a package (sipivr.layout, docs/isolation.md). `scripts/prove-packaging` runs the
same in a fresh Debian root with the users of docker/create-users.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sipivr import layout
from sipivr.config import Paths, Settings, paths
from tests.spare_users import ACCOUNTS, API, MEDIA, SWITCH, interpreter, needs_root

pytestmark = needs_root
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@dataclass
class Node:
    paths: Paths
    process: subprocess.Popen[str]

    @property
    def pid(self) -> str:
        return str(self.process.pid)

    def stop(self) -> None:
        self.process.communicate("", timeout=10)


def start(where: Paths, *, leave_open: bool = False) -> Node:
    process = subprocess.Popen(
        [
            *(interpreter(), str(where.state_dir.parent / "holder.py"), str(where.state_dir.parent)),
            *(str(where.switch_db), str(where.control_socket), str(where.media_socket)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=SWITCH,
        group=SWITCH,
        extra_groups=[],
        env={"LEAVE_OPEN": "1"} if leave_open else {},
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.communicate()
        pytest.fail("the holder did not start")
    return Node(where, process)


@pytest.fixture
def where(shared_directory: Path) -> Paths:
    """A node's directories with keys, in a place that every user can reach; the clone may not be one."""
    found = paths(Settings(), shared_directory)
    layout.make_directories(found, ACCOUNTS)
    found.keys.write_text("secret")
    found.keys.chmod(0o600)
    os.chown(found.keys, SWITCH, SWITCH)
    package = shared_directory / "sipivr"
    package.mkdir()
    for source in ("__init__.py", "hardening.py"):
        (package / source).write_text((REPOSITORY / "sipivr" / source).read_text())
    for source in ("holder.py", "attempts.py"):
        (shared_directory / source).write_text((HERE / source).read_text())
    return found


@pytest.fixture
def node(where: Paths) -> Iterator[Node]:
    running = start(where)
    yield running
    running.stop()


def attempt(user: int, node_paths: Paths, name: str, argument: object) -> str:
    """What happened: empty when nothing was refused."""
    done = subprocess.run(
        [interpreter(), str(node_paths.state_dir.parent / "attempts.py"), name, str(argument)],
        user=user,
        group=user,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip() if done.returncode else ""


PROCESS_ATTEMPTS = ["memory_file", "memory_call", "trace", "environment", "descriptors"]


@pytest.mark.parametrize("name", [*PROCESS_ATTEMPTS, "kill"])
@pytest.mark.parametrize("user", [API, MEDIA])
def test_process_is_closed_to_other_users(node: Node, user: int, name: str) -> None:
    assert "ermi" in attempt(user, node.paths, name, node.pid)
    assert node.process.poll() is None


@pytest.mark.parametrize("name", PROCESS_ATTEMPTS)
def test_process_is_closed_to_its_own_user(node: Node, name: str) -> None:
    """Not dumpable: a debugger started by the same user is refused too."""
    assert "ermi" in attempt(SWITCH, node.paths, name, node.pid)


def test_no_attempt_is_refused_for_a_reason_of_its_own(node: Node) -> None:
    """The same attempts against a process that is not hardened succeed: the refusals above mean something."""
    soft = subprocess.Popen(
        [interpreter(), "-c", "print('ready', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=SWITCH,
        group=SWITCH,
        extra_groups=[],
    )
    assert soft.stdout is not None
    soft.stdout.readline()
    found = {name: attempt(SWITCH, node.paths, name, soft.pid) for name in PROCESS_ATTEMPTS}
    found.pop("memory_call")  # the address it reads may hold nothing there: EFAULT is success too
    assert not any(found.values()), found
    soft.communicate("\n", timeout=10)


@pytest.mark.parametrize("user", [API, MEDIA])
@pytest.mark.parametrize("name", ["read", "append", "remove", "become_readable"])
def test_key_file_is_closed(node: Node, user: int, name: str) -> None:
    assert "Permission denied" in attempt(user, node.paths, name, node.paths.keys)


def test_api_reads_the_database_and_cannot_write_it(node: Node) -> None:
    database = node.paths.switch_db
    assert attempt(API, node.paths, "select_rows", database) == ""
    assert "readonly database" in attempt(API, node.paths, "insert_row", database)
    for file in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
        assert attempt(API, node.paths, "read", file) == ""
        for name in ("append", "remove", "become_readable"):
            assert "not permitted" in (found := attempt(API, node.paths, name, file)) or "denied" in found
    assert "denied" in attempt(API, node.paths, "create", database.parent)


def test_media_cannot_even_read_the_database(node: Node) -> None:
    assert "unable to open" in attempt(MEDIA, node.paths, "select_rows", node.paths.switch_db)


def test_each_socket_is_for_one_kind(node: Node) -> None:
    assert attempt(API, node.paths, "connect_stream", node.paths.control_socket) == ""
    assert attempt(MEDIA, node.paths, "connect_packet", node.paths.media_socket) == ""
    assert "denied" in attempt(MEDIA, node.paths, "connect_stream", node.paths.control_socket)
    assert "denied" in attempt(API, node.paths, "connect_packet", node.paths.media_socket)


def test_nobody_reads_the_databases_of_api(node: Node) -> None:
    for user in (SWITCH, MEDIA):
        assert "denied" in attempt(user, node.paths, "create", node.paths.api_db.parent)


def test_api_reads_while_the_switch_is_down(where: Paths) -> None:
    """The supervisor leaves without closing its connection; -wal and -shm stay, and so do reads."""
    start(where, leave_open=True).stop()
    assert Path(f"{where.switch_db}-wal").exists()
    assert attempt(API, where, "select_rows", where.switch_db) == ""


def test_clean_close_would_lock_api_out(where: Paths) -> None:
    """Why the supervisor must not close it: this is what a clean close of the last connection does."""
    start(where).stop()
    assert not Path(f"{where.switch_db}-wal").exists()
    assert attempt(API, where, "select_rows", where.switch_db)
