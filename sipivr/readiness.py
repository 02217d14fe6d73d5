"""How a process tells the supervisor that it is ready, or that it never will be.

The supervisor leaves the number of a pipe's write end in `SIPIVR_READY_FD`. The process writes one line:

- `READY name=value name=value` once it serves; the pairs go into the banner (`sip=udp:127.0.0.1:5060`);
- `FAILED a sentence` before it ends, when starting it again would end in the same way.

A process that writes neither is watched by what the supervisor knows of it (its port accepts, or it is
alive). Processes that may not import this package (media) write the same line themselves.
"""

from __future__ import annotations

import os
import socket
from typing import Final, NoReturn

from sipivr import config

#: sysexits.h EX_CONFIG: what a process exits with after FAILED.
EXIT_CANNOT_START: Final = 78
MAX_REPORT_BYTES: Final = 4096


def ready(**addresses: str) -> None:
    """Reports that this process serves; each address appears in the banner. Without a supervisor: nothing."""
    pairs = "".join(f" {name}={_one_word(value)}" for name, value in addresses.items())
    _report(f"READY{pairs}")


def cannot_start(sentence: str) -> NoReturn:
    """Reports why this process cannot serve, and ends it.

    Raises:
        SystemExit: always, with `EXIT_CANNOT_START`.
    """
    _report("FAILED " + " ".join(sentence.split()))
    raise SystemExit(EXIT_CANNOT_START)


def notify_systemd(state: str) -> None:
    """One datagram to systemd's notification socket (sd_notify(3)), when systemd started us."""
    address = config.notify_socket()
    if address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.sendall(state.encode())


def _one_word(value: str) -> str:
    return "".join(value.split()) or "-"


def _report(line: str) -> None:
    descriptor = config.ready_descriptor()
    if descriptor is None:
        return
    try:
        os.write(descriptor, line.encode()[: MAX_REPORT_BYTES - 1] + b"\n")
        os.close(descriptor)
    except OSError:
        return  # reported already, or the supervisor is gone: its death signal will follow
