"""Histograms inside the switch's status, whose values are plain integers: how both ends write and read them.

An entry `rtp_mos/switch/le/4.2` counts observations up to 4.2, `rtp_mos/switch/count` all of them, and
`rtp_mos/switch/sum` is their sum in millionths. The middle part says which of several series it is.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_MILLIONTHS: Final = 1_000_000
_PARTS: Final = (3, 4)


class Histogram:
    """Counts of observations by size.

    Args:
        bounds: upper ends of the buckets, rising; what is larger is counted only in `count`.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """One more observation."""
        self._buckets[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def entries(self, name: str, series: str) -> dict[str, int]:
        """This histogram as entries of a status; empty before the first observation."""
        total = sum(self._buckets)
        if not total:
            return {}
        prefix = f"{name}/{series}"
        entries, so_far = {}, 0
        for bound, count in zip(self._bounds, self._buckets, strict=False):
            so_far += count
            entries[f"{prefix}/le/{bound:g}"] = so_far
        return entries | {f"{prefix}/count": total, f"{prefix}/sum": round(self._sum * _MILLIONTHS)}


@dataclass(slots=True)
class Series:
    """A histogram that was read: cumulative counts by upper end, all of them, their sum."""

    buckets: list[tuple[str, int]] = field(default_factory=list)
    count: int = 0
    sum: float = 0.0


def read(status: Mapping[str, object]) -> dict[str, dict[str, Series]]:
    """The histograms of a status by name and series; other entries are passed over."""
    found: dict[str, dict[str, Series]] = {}
    for entry, value in status.items():
        parts = entry.split("/")
        if len(parts) not in _PARTS or not isinstance(value, int):
            continue
        series = found.setdefault(parts[0], {}).setdefault(parts[1], Series())
        match parts[2:]:
            case ["le", bound]:
                series.buckets.append((bound, value))
            case ["count"]:
                series.count = value
            case ["sum"]:
                series.sum = value / _MILLIONTHS
    return found
