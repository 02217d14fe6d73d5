"""A warm spare for media workers: `python -m media.spare`.

Two states. *Waiting*: everything is imported, the code has run once over loopback, and the process holds the
descriptors of every worker. *Serving*: the supervisor has written one line to its standard input (a JSON object:
`argv`, the command line of the worker that died, and `close`, the descriptors that are the others'), and it is
that worker from then on. It saves the dead worker's calls what a fresh process takes to start. When standard
input ends without a line the supervisor is gone, and the spare goes as well.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import socket
import sys
from typing import Final

import msgspec
import numpy as np

from media import worker
from media.engine import Engine
from media.hardening import harden_process, keep_heap, name_process
from media.protocol import (
    FRAME_SAMPLES,
    AddLeg,
    AnyCommand,
    Codec,
    Connect,
    EventBatch,
    MaskMode,
    Play,
    QueryStatistics,
    Remote,
    RemoveLeg,
    SetMask,
    Shutdown,
    decode_commands,
    encode_commands,
    encode_events,
)

WORKER_MODULE: Final = "media.worker"
_WARM_TICKS: Final = 12
_PULSE_BYTES: Final = 8
_MOST_LINE_BYTES: Final = 1 << 20

log = logging.getLogger("media.spare")


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the supervisor writes.

    Attributes:
        argv: command line of the worker to become.
        close: inherited descriptors that it does not need.
    """

    argv: tuple[str, ...]
    close: tuple[int, ...] = ()


def warm() -> None:
    """Runs what a worker runs, once, between two loopback sockets of our own."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        engine = Engine([one, other])
        engine.load_prompt(1, np.zeros(2 * FRAME_SAMPLES, np.int16))
        commands: list[AnyCommand] = [
            AddLeg(
                seq=0,
                leg=leg,
                socket=leg,
                codec=(Codec.PCMU, Codec.PCMA)[leg],
                remote=Remote(*peer.getsockname()),
                event_payload_type=101,
            )
            for leg, peer in enumerate((other, one))
        ]
        commands += [
            Connect(seq=0, source=0, destination=1),
            Connect(seq=0, source=1, destination=0),
            SetMask(seq=0, source=0, destination=1, mask=MaskMode.COMFORT_NOISE),
            SetMask(seq=0, source=1, destination=0, mask=MaskMode.OPEN),
            Play(seq=0, leg=0, playlist=1, prompts=(1,)),
            QueryStatistics(seq=0),
        ]
        for command in decode_commands(encode_commands(commands)):
            encode_events(EventBatch(0, engine.execute(command)))
        for _ in range(_WARM_TICKS):
            encode_events(EventBatch(0, engine.tick()))
        for leg in (0, 1):
            engine.execute(RemoveLeg(seq=0, leg=leg))
        engine.execute(Shutdown(seq=0))


def _beat(descriptor: int) -> None:
    """Says that the spare is warm: the number in the shared memory changes."""
    before = int.from_bytes(os.pread(descriptor, _PULSE_BYTES, 0), sys.byteorder)
    os.pwrite(descriptor, (before + 1).to_bytes(_PULSE_BYTES, sys.byteorder), 0)
    os.close(descriptor)


def main() -> int:
    """Waits for the order and becomes that worker; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m media.spare", description="A warm spare.")
    parser.add_argument("--pulse-fd", type=int, help="shared memory whose number changes once it is warm")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s media[spare] %(levelname)s %(message)s")
    name_process("media-spare")
    harden_process()
    keep_heap(0)  # before: what the rehearsal's engine leaves is there for the worker's
    try:
        warm()
    except OSError as error:
        log.warning("cannot warm up: %s", error.strerror)
    gc.collect()
    gc.freeze()  # what is there now is never collected: the worker's own first collection is short
    if options.pulse_fd is not None:
        _beat(options.pulse_fd)
    line = sys.stdin.buffer.readline(_MOST_LINE_BYTES)
    if not line:
        return 0
    order = msgspec.json.decode(line, type=Order)
    for descriptor in order.close:
        os.close(descriptor)
    arguments = order.argv[order.argv.index(WORKER_MODULE) + 1 :]
    return worker.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
