"""The packets of a tick whose legs and streams are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int32, UInt16, UInt32


class Arrivals(NamedTuple):
    """One entry for each packet; where a leg has several, grouped by leg and sorted by sequence."""

    rows: Index
    packets: Index
    """Rows of the batch."""
    ssrc: UInt32
    sequence: UInt16
    timestamp: UInt32
    size: Int32

    def only(self, chosen: Index | Bool) -> Arrivals:
        """Some of them."""
        return Arrivals(
            self.rows[chosen],
            self.packets[chosen],
            self.ssrc[chosen],
            self.sequence[chosen],
            self.timestamp[chosen],
            self.size[chosen],
        )


def firsts(rows: Index) -> Bool:
    """Where groups begin in grouped rows."""
    first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return first


def bounded(rows: Index, most: int) -> Bool:
    """Which packets are among the first `most` of their legs."""
    if not rows.size or int(np.bincount(rows).max()) <= most:
        return np.ones(len(rows), np.bool_)
    order = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(firsts(rows[order]))
    counts = np.diff(np.append(starts, len(rows)))
    kept = np.empty(len(rows), np.bool_)
    kept[order] = np.arange(len(rows)) - np.repeat(starts, counts) < most
    return kept
