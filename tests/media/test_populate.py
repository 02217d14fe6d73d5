"""Memory that is there before calls are."""

from __future__ import annotations

import numpy as np

from media.arrays import populate
from media.engine import Engine
from media.hardening import keep_heap
from media.rtp.stream import NO_TYPE


def test_every_column_is_touched_and_none_is_changed() -> None:
    engine = Engine([], capacity=64)
    streams = engine.streams
    streams.ring.codes[3, 5] = 7
    touched = populate(engine)
    assert touched > streams.ring.codes.nbytes
    assert (streams.payload_type == NO_TYPE).all()
    assert (streams.ring.codes[3, 5] == 7).all()
    assert streams.ring.codes.sum() == 7 * streams.ring.codes.shape[-1]


def test_loops_and_foreign_objects_are_no_trap() -> None:
    engine = Engine([], capacity=8)
    engine.own = engine  # type: ignore[attr-defined]
    engine.rate = np.float64(3)  # type: ignore[attr-defined]
    first = populate(engine)
    assert first == populate(engine)


def test_the_heap_is_kept_where_glibc_is() -> None:
    assert keep_heap(1 << 20)
