"""Packets of another length than a tick's: 10, 30, 40, 50 or 60 ms where that was negotiated (`a=ptime`).

A tick makes 20 ms of every leg. A leg of 10 ms sends them as two packets; the longer ones hold frames back until
a packet is full, so that 30 ms are sent in two ticks of three. How far a leg's packet has come follows from the
tick's number and the leg's phase alone: legs of one length and phase are a group that is copied in whole columns,
and phases differ from row to row, so that the packets of many legs do not all fall into the same tick.

A packet with audio of a tick in which telephone-event took the audio's place is not sent; an event begins where a
packet does (`is_boundary`), so that no audio before it is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Bool, Index, Int32, UInt8
from media.protocol import FRAME_SAMPLES

#: 60 ms.
LONGEST_SAMPLES: Final = 480
_HALF_FRAME: Final = FRAME_SAMPLES // 2


class Packets(NamedTuple):
    """Payloads that are due, all rows different."""

    rows: Index
    ahead: Int32
    """Samples from the first of this tick to the packet's first; negative where audio was held back."""


class _Group(NamedTuple):
    samples: int
    phase: int

    def held(self, tick: int) -> int:
        """Samples held back when a tick begins."""
        return (tick + self.phase) * FRAME_SAMPLES % self.samples


class Pacing:
    """The legs whose packets are not a tick long."""

    def __init__(self, capacity: int) -> None:
        # Untouched pages cost nothing, and most legs never touch theirs.
        self._held: UInt8 = np.zeros((capacity, LONGEST_SAMPLES), np.uint8)
        self._spoilt: Bool = np.zeros(capacity, np.bool_)
        self._group_of: dict[int, _Group] = {}
        self._groups: dict[_Group, Index] = {}

    def __len__(self) -> int:
        return len(self._group_of)

    def samples(self, row: int) -> int:
        """How many a leg's packets hold."""
        group = self._group_of.get(row)
        return FRAME_SAMPLES if group is None else group.samples

    def add(self, row: int, samples: int, silence: int) -> None:
        """A leg's packets hold so many samples from now on; what is held of it is silence."""
        self.remove(row)
        period = samples // math.gcd(samples, FRAME_SAMPLES)
        group = self._group_of[row] = _Group(samples, row % period)
        self._groups[group] = np.append(self._groups.get(group, np.zeros(0, np.intp)), row)
        self._held[row] = silence

    def remove(self, row: int) -> None:
        """A leg's packets are a tick long again; its audio is overwritten."""
        group = self._group_of.pop(row, None)
        if group is None:
            return
        rows = self._groups[group]
        self._groups[group] = rows[rows != row]
        if not self._groups[group].size:
            del self._groups[group]
        self._held[row] = 0
        self._spoilt[row] = False

    def is_boundary(self, row: int, tick: int) -> bool:
        """Whether a packet of the leg begins with this tick."""
        group = self._group_of.get(row)
        return group is None or group.held(tick) == 0

    def fill(self, tick: int, codes: UInt8, paused: Bool, payloads: UInt8) -> Iterator[Packets]:
        """Takes a tick's audio in, and writes what is full where it is sent from.

        Args:
            tick: number of this tick.
            codes: `(legs, FRAME_SAMPLES)` of this tick.
            paused: `(legs,)` whose audio is replaced in this tick.
            payloads: `(legs, LONGEST_SAMPLES)` to write to.

        Yields:
            Packets to send before the next are asked for: a leg of 10 ms has two, one after the other.
        """
        first: list[Packets] = []
        second: list[Packets] = []
        for group, rows in self._groups.items():
            held, samples = group.held(tick), group.samples
            spoilt = self._spoilt[rows] | paused[rows]
            if held + FRAME_SAMPLES < samples:
                self._held[rows, held : held + FRAME_SAMPLES] = codes[rows]
                self._spoilt[rows] = spoilt
                continue
            good = rows[~spoilt]
            taken = min(samples - held, FRAME_SAMPLES)
            payloads[good, :held] = self._held[good, :held]
            payloads[good, held:samples] = codes[good, :taken]
            first.append(_packets(good, -held))
            if samples == _HALF_FRAME:
                second.append(_packets(good, taken))
                taken += samples
            rest = FRAME_SAMPLES - taken
            self._held[rows, :rest] = codes[rows, taken:]
            self._spoilt[rows] = paused[rows] if rest else False
        if first:
            yield _merged(first)
        for packets in second:
            payloads[packets.rows, :_HALF_FRAME] = codes[packets.rows, _HALF_FRAME:]
        if second:
            yield _merged(second)


def _packets(rows: Index, ahead: int) -> Packets:
    return Packets(rows, np.full(len(rows), ahead, np.int32))


def _merged(groups: list[Packets]) -> Packets:
    return Packets(*(np.concatenate(columns) for columns in zip(*groups, strict=True)))
