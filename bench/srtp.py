"""What SRTP costs: µs a packet to protect and to open, by crypto suite, as the media worker does it."""

from __future__ import annotations

import argparse
import os
import resource
import time
from typing import Any

import numpy as np

from media.protocol import FRAME_SAMPLES, CryptoSuite, SRTPKeys
from media.rtp.packet import HEADER_BYTES, HEADER_OFFSET, SLOT_BYTES, parse
from media.rtp.srtp import KEY_BYTES, LONGEST_TAG, TAG_BYTES, SecureLegs

_PACKET = HEADER_BYTES + FRAME_SAMPLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--legs", type=int, default=500)
    parser.add_argument("--ticks", type=int, default=50)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Protects a packet of each leg in each tick, and opens it; and a forged one."""
    result = {suite.value: _measure(suite, args.legs, args.ticks) for suite in CryptoSuite}
    print("µs a packet, median of the ticks (best)")
    print(f"{'suite':<26}{'protect':>14}{'open':>14}{'refuse':>14}{'kB a leg':>10}")
    for name, row in result.items():
        columns = (
            f"{row[f'{what}_us']:.2f} ({row[f'{what}_best_us']:.2f})"
            for what in ("protect", "open", "refuse")
        )
        print(f"{name:<26}{''.join(f'{c:>14}' for c in columns)}{row['kb_a_leg']:>10.1f}")
    return {"suites": result, "correct": all(row["whole"] for row in result.values())}


def _measure(suite: CryptoSuite, legs: int, ticks: int) -> dict[str, Any]:
    keys = [SRTPKeys(suite, os.urandom(KEY_BYTES[suite]), os.urandom(KEY_BYTES[suite])) for _ in range(legs)]
    near, far = SecureLegs(legs), SecureLegs(legs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for row, own in enumerate(keys):
        near.negotiate(row, own)
        far.negotiate(row, SRTPKeys(suite, own.receive, own.send))
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rows = np.arange(legs)
    rng = np.random.default_rng(1)
    audio = rng.integers(0, 256, (legs, FRAME_SAMPLES), np.uint8)
    packets = np.zeros((legs, _PACKET + LONGEST_TAG + 4), np.uint8)
    packets[:, 0] = 0x80
    packets[:, 11] = 7
    slots = np.zeros((legs, SLOT_BYTES), np.uint8)
    protect_ns, open_ns, refuse_ns = [], [], []
    whole = True
    for tick in range(ticks):
        packets[:, 2], packets[:, 3] = tick >> 8, tick & 0xFF
        packets[:, HEADER_BYTES:_PACKET] = audio
        began = time.thread_time_ns()
        near.protect(packets, rows, _PACKET)
        protect_ns.append(time.thread_time_ns() - began)
        size = _PACKET + TAG_BYTES[suite]
        slots[:, HEADER_OFFSET : HEADER_OFFSET + size] = packets[:, :size]
        forged = slots.copy()
        forged[:, HEADER_OFFSET + 20] ^= 1
        for place, is_forged in ((forged, True), (slots, False)):
            lengths = np.full(legs, size, np.int32)
            columns = parse(place, lengths)
            began = time.thread_time_ns()
            kept, _ = far.open(rows, rows, columns, place, lengths)
            spent = time.thread_time_ns() - began
            if is_forged:
                refuse_ns.append(spent)
                whole &= not len(kept)
            else:
                open_ns.append(spent)
                whole &= len(kept) == legs
        start = HEADER_OFFSET + HEADER_BYTES
        whole &= bool((slots[:, start : start + FRAME_SAMPLES] == audio).all())
    figures = {
        f"{name}_{which}us": round(float(of(times)) / legs / 1000, 2)
        for name, times in (("protect", protect_ns), ("open", open_ns), ("refuse", refuse_ns))
        for which, of in (("", np.median), ("best_", np.min))
    }
    return {
        **figures,
        "kb_a_leg": round(grown_kb / 2 / legs, 1),
        "whole": whole,
    }
