"""Streams from files; see `tests/vectors/rtp/streams/README.md`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from media.dsp.g711 import DECODE
from tests.media.streams import Bench

VECTORS = Path(__file__).parents[1] / "vectors" / "rtp" / "streams"


def load(name: str) -> Bench:
    """A leg that has received a file and played it to its end."""
    bench = Bench()
    last = 0
    for line in (VECTORS / name).read_text().splitlines():
        if line.startswith("#"):
            continue
        tick, *fields = line.split()
        made = b""
        for field in fields:
            digits, _, count = field.partition("*")
            made += bytes.fromhex(digits) * int(count or 1)
        last = int(tick)
        bench.pending.setdefault(last, []).append(made)
    bench.streams.comfort_noise[:] = True
    bench.run(last + 3)
    return bench


def played(bench: Bench, code: int) -> int:
    """How many samples of a steady payload were played."""
    audio = np.concatenate([frame for frame, valid in zip(bench.played, bench.valid, strict=True) if valid])
    return int((audio == DECODE[0][code]).sum())


def test_comfort_noise() -> None:
    bench = load("comfort_noise.txt")
    assert played(bench, 0x8A) == 3 * 160
    assert played(bench, 0x93) == 4 * 160
    assert all(bench.valid[2:])
    noise = np.concatenate(bench.played[5:13]).astype(float)
    assert 15 < np.sqrt(np.mean(noise**2)) < 70, "-60 dBov is 33"
    assert bench.streams.lost(0) == bench.streams.late[0] == bench.streams.refused[0] == 0
    assert bench.streams.playout.concealed[0] == 0
    assert bench.streams.received[0] == 8


def test_transfer() -> None:
    bench = load("transfer.txt")
    assert played(bench, 0x8A) >= 4 * 160
    assert bench.streams.ssrc[0] == 0xBBBB0002
    assert bench.streams.resyncs[0] == 1
    assert bench.streams.lost(0) == 1
    assert bench.streams.counts.duplicates[0] == 1
    assert bench.streams.refused[0] == 0
    # What was lost hides a block of 240 samples, of which whole frames count here.
    assert played(bench, 0x93) >= 4 * 160
