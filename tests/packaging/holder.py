"""A process like `sipivr`: hardened, with something in memory, the database open, both sockets listening."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys

sys.path.insert(0, sys.argv[1])

from sipivr import hardening


def main() -> None:
    database, control, media = sys.argv[2:]
    os.umask(0o007)
    canary = bytearray(b"card data would be here " * 100)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS merchant (name TEXT, active INTEGER)")
    connection.execute("INSERT INTO merchant VALUES ('demo', 1)")
    listeners = []
    for path, kind in ((control, socket.SOCK_STREAM), (media, socket.SOCK_SEQPACKET)):
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(path)
        listener.listen()
        listeners.append(listener)
    assert hardening.refuse_dump()
    assert hardening.forbid_core()
    print("ready", flush=True)
    sys.stdin.read()
    assert canary
    if os.environ.get("LEAVE_OPEN"):
        os._exit(0)


if __name__ == "__main__":
    main()
