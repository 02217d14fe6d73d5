"""A child for the supervisor's tests: writes what happens to it into a journal, one word list a line."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import socket
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--report", default="READY")
    parser.add_argument("--exit", type=int, default=None)
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--slow-stop", type=float, default=0.0)
    parser.add_argument("--echo", type=int, default=None, help="answer datagrams on this descriptor")
    parser.add_argument(
        "--beats", type=int, nargs=2, default=None, help="descriptor of a pulse, and how often"
    )
    parser.add_argument("--fed", action="store_true", help="become what standard input says")
    options = parser.parse_args()

    def note(*words: object) -> None:
        with options.journal.open("a") as journal:
            journal.write(" ".join(str(word) for word in (options.name, *words)) + "\n")

    def stop(*_: object) -> None:
        note("term")
        if options.ignore_term:
            return
        time.sleep(options.slow_stop)
        note("stopped")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    note("started", os.getpid())
    if options.report:
        os.write(int(os.environ["SIPIVR_READY_FD"]), options.report.encode() + b"\n")
    if options.exit is not None:
        sys.exit(options.exit)
    if options.fed:
        line = sys.stdin.readline()
        if not line:
            note("left")
            return
        order = json.loads(line)
        note("became", order["argv"][3], *order["close"])
    if options.beats is not None:
        pulse = mmap.mmap(options.beats[0], 8)
        for _ in range(options.beats[1]):
            pulse[0] = (pulse[0] + 1) % 256
            time.sleep(0.01)
    if options.echo is not None:
        rtp = socket.socket(fileno=options.echo)
        rtp.setblocking(True)
        while True:
            packet, source = rtp.recvfrom(2048)
            rtp.sendto(packet + str(os.getpid()).encode(), source)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
