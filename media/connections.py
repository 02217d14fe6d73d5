"""Who is heard where, and through which mask.

Connections are kept by (source row, destination row) and, for the tick, in layers: columns over the destination
rows, each with at most one source and its mask. Most destinations have one source, so most engines have one
layer. A change writes one entry and has the layer's rows sorted by mode again in the next tick, which costs the
same few microseconds however many connections there are.

A row is silence unless its mode says otherwise. Masked rows are written from the noise alone, a mode that is
not known is silence, and a connection of a leg with itself is a three-way bridge: its own audio is never
returned, whatever the mask.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from media.arrays import Index, Int16, UInt8
from media.dsp import mask
from media.protocol import MaskMode


@dataclasses.dataclass(slots=True)
class _Connection:
    mode: int
    layer: int


class _Order(NamedTuple):
    """The rows of a layer by what they get."""

    open_sources: Index
    open_destinations: Index
    noisy: Index
    unknown: list[int]


class _Layer:
    """One source for each destination row, at most."""

    def __init__(self, capacity: int) -> None:
        self.modes: UInt8 = np.full(capacity, mask.SILENCE, np.uint8)
        self.sources: Index = np.zeros(capacity, np.intp)
        self.taken: set[int] = set()
        self._order: _Order | None = None

    def set(self, destination: int, source: int, mode: int) -> None:
        """Source and mode of a row."""
        # Whatever the mask: a leg is never given its own audio.
        self.modes[destination] = mask.SILENCE if source == destination and mode == mask.OPEN else mode
        self.sources[destination] = source
        self.taken.add(destination)
        self._order = None

    def clear(self, destination: int) -> None:
        """Nothing is heard on a row."""
        self.modes[destination] = mask.SILENCE
        self.taken.discard(destination)
        self._order = None

    def order(self) -> _Order:
        """The rows by mode."""
        if self._order is None:
            open_rows = np.flatnonzero(self.modes == mask.OPEN)
            self._order = _Order(
                self.sources[open_rows],
                open_rows,
                np.flatnonzero(self.modes == mask.COMFORT_NOISE),
                np.flatnonzero(self.modes > mask.OPEN).tolist(),
            )
        return self._order


class Connections:
    """All connections of an engine.

    Args:
        capacity: rows that there can be.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._all: dict[tuple[int, int], _Connection] = {}
        self._of_row: dict[int, set[tuple[int, int]]] = {}
        self._layers: list[_Layer] = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return pair in self._all

    def set(self, source: int, destination: int, mode: MaskMode) -> None:
        """Makes or changes a connection; a mode that is not known is silence."""
        pair = source, destination
        code = mask.CODES.get(mode, mask.SILENCE)
        before = self._all.get(pair)
        layer = self._free_layer(destination) if before is None else before.layer
        self._all[pair] = _Connection(code, layer)
        for row in pair:
            self._of_row.setdefault(row, set()).add(pair)
        self._layers[layer].set(destination, source, code)

    def _free_layer(self, destination: int) -> int:
        for number, layer in enumerate(self._layers):
            if destination not in layer.taken:
                return number
        self._layers.append(_Layer(self._capacity))
        return len(self._layers) - 1

    def remove(self, source: int, destination: int) -> None:
        """Ends a connection."""
        pair = source, destination
        self._layers[self._all.pop(pair).layer].clear(destination)
        for row in set(pair):
            self._of_row[row].discard(pair)
            if not self._of_row[row]:
                del self._of_row[row]

    def remove_leg(self, row: int) -> None:
        """Ends all connections from and to a leg."""
        for pair in list(self._of_row.get(row, ())):
            self.remove(*pair)

    def silence_masked(self, row: int | None = None) -> None:
        """After a fault: every masked connection (of a source) is silence until its mask is set again."""
        for (source, destination), connection in self._all.items():
            if (row is None or source == row) and connection.mode != mask.OPEN:
                connection.mode = mask.SILENCE
                self._layers[connection.layer].set(destination, source, mask.SILENCE)

    def mix(self, out: Int16, pcm: Int16, noise: Int16, rng: np.random.Generator) -> list[int]:
        """Adds every source, after its mask, to its destination.

        Args:
            out: `(legs, samples)`, silent; changed in place.
            pcm: `(legs, samples)` received audio.
            noise: stock of comfort noise.
            rng: picks the noise.

        Returns:
            Destinations with a mask in a state that is not known; they got silence.
        """
        faults: list[int] = []
        for number, layer in enumerate(self._layers):
            order = layer.order()
            for rows, frames, picks in (
                (order.open_destinations, pcm, order.open_sources),
                (order.noisy, noise, rng.integers(0, len(noise), len(order.noisy))),
            ):
                if rows.size:
                    audio = frames.take(picks, axis=0)
                    out[rows] = audio if number == 0 else mask.mix(out[rows], audio)
            faults += order.unknown
        return faults
