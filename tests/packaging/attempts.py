"""What a broken-in process would try. Run as another user with `attempt NAME ARGUMENT`; prints what happened.

Standard library only: it runs under Debian's Python, as a user who cannot read our environment.
"""

# ruff: noqa: PTH101, PTH108, PTH118, PTH123, PTH208  (plain calls, one for each thing that is tried)

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sqlite3
import sys

PTRACE_ATTACH = 16
PTRACE_DETACH = 17

libc = ctypes.CDLL(None, use_errno=True)


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def memory_file(pid: str) -> None:
    with open(f"/proc/{pid}/mem", "rb"):
        pass


def memory_call(pid: str) -> None:
    target = ctypes.create_string_buffer(16)
    ours = Vector(ctypes.addressof(target), 16)
    theirs = Vector(0x400000, 16)
    check(libc.process_vm_readv(int(pid), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0))


def trace(pid: str) -> None:
    check(libc.ptrace(PTRACE_ATTACH, int(pid), None, None))
    os.waitpid(int(pid), 0)
    libc.ptrace(PTRACE_DETACH, int(pid), None, None)


def environment(pid: str) -> None:
    with open(f"/proc/{pid}/environ", "rb") as file:
        file.read()


def descriptors(pid: str) -> None:
    os.listdir(f"/proc/{pid}/fd")


def kill(pid: str) -> None:
    os.kill(int(pid), signal.SIGQUIT)


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read()


def append(path: str) -> None:
    with open(path, "ab"):
        pass


def create(directory: str) -> None:
    with open(os.path.join(directory, "intruder"), "xb"):
        pass


def remove(path: str) -> None:
    os.unlink(path)


def become_readable(path: str) -> None:
    os.chmod(path, 0o666)


def connect_stream(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(path)


def connect_packet(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(path)


def select_rows(path: str) -> None:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    print(connection.execute("SELECT count(*) FROM merchant").fetchone()[0])


def insert_row(path: str) -> None:
    connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True)
    connection.execute("UPDATE merchant SET active = 0")
    connection.commit()


def main() -> None:
    name, argument = sys.argv[1:]
    try:
        globals()[name](argument)
    except (OSError, sqlite3.Error) as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
