"""What a process does to itself before it holds a card: no core file, no debugger, no swap, no orphan.

Each function says by its answer whether the kernel agreed; what is refused is reported, not fatal, because
a developer's machine may not allow it (docs/isolation.md says which part holds where).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import stat
import struct
from pathlib import Path
from typing import Final, NamedTuple

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_CAP_IPC_LOCK: Final = 14

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Hardened(NamedTuple):
    """What the kernel agreed to."""

    not_dumpable: bool
    no_core: bool
    memory_locked: bool


def harden(*, lock_memory: bool) -> Hardened:
    """All of it, for a process that is about to hold card data."""
    return Hardened(refuse_dump(), forbid_core(), lock_memory and lock_pages())


def refuse_dump() -> bool:
    """prctl(PR_SET_DUMPABLE, 0): no core, no ptrace by the same user, `/proc/PID/mem` belongs to root.

    A change of user or `execve` resets it, so a process calls this itself, last.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return int(_libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 0


def forbid_core() -> bool:
    """No core file from this process or its children, even when a handler pipes cores elsewhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def may_lock_pages() -> bool:
    """True when locking cannot make a later allocation fail: no limit, or the right to exceed it."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False


def lock_pages() -> bool:
    """mlockall(2) for all pages now and later, locked when first touched; False when not permitted.

    Under a limit nothing is locked: MCL_FUTURE would turn the limit into failing allocations.
    """
    if not may_lock_pages():
        return False
    flags = _MCL_CURRENT | _MCL_FUTURE
    return bool(_libc.mlockall(flags | _MCL_ONFAULT) == 0 or _libc.mlockall(flags) == 0)


def gain_no_privileges() -> bool:
    """prctl(PR_SET_NO_NEW_PRIVS): no set-user-id program regains what was given up."""
    return int(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) == 0


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when `parent`, who forked it, ends; called between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def raise_file_limit() -> int:
    """Open files up to the hard limit; returns the limit now in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def peer_is_trusted(connection: socket.socket, listener: Path) -> bool:
    """Whether the process at the other end of a Unix socket may speak to us (SO_PEERCRED, unix(7)).

    It may when it is our own user, or when the socket file is shared with its group and that group is not
    ours: in a packaged layout it is exactly one other kind of process (docs/isolation.md).
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, group = struct.unpack("3i", credentials)
    status = listener.stat()
    shared = bool(status.st_mode & stat.S_IWGRP) and status.st_gid != os.getegid()
    return user == os.geteuid() or (shared and group == status.st_gid)
