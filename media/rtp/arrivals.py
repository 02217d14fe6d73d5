"""The packets of a tick whose legs and streams are known."""

from __future__ import annotations

from typing import NamedTuple

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
