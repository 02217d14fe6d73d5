"""Who is heard where, and through which mask.

Connections are kept by (source row, destination row) and, for the tick, in layers: columns over the destination
rows, each with at most one source and its mask. Most destinations have one source, so most engines have one
layer. A change writes one entry and has the layer's rows sorted by mode again in the next tick, which costs the
same few microseconds however many connections there are.

A row is silence unless its mode says otherwise. Masked rows are written by `media.masks`, a mode that is
not known is silence, and a connection of a leg with itself is a three-way bridge: its own audio is never
returned, whatever the mask.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

import numpy as np

from media.arrays import Index, Int16, UInt8
from media.dsp import mask
from media.masks import STATEFUL, Heard, MaskBank, Stocks
from media.protocol import MaskMode

#: Modes that pass audio or follow a voice; a leg's own bridge knows none of these.
_OF_OTHERS: Final = (mask.OPEN, mask.CLAMP, mask.SCRAMBLE)
_NONE: Final[Index] = np.zeros(0, np.intp)


@dataclasses.dataclass(slots=True)
class _Connection:
    mode: int
    layer: int


class _Order(NamedTuple):
    """The rows of a layer by what they get."""

    open_sources: Index
    open_destinations: Index
    noisy: Index
    stateful: list[tuple[int, Index, Index]]
    """Mode, destinations and sources of those whose masks have a state."""
    unknown: list[int]


class _Layer:
    """One source for each destination row, at most."""

    def __init__(self, capacity: int) -> None:
        self.modes: UInt8 = np.full(capacity, mask.SILENCE, np.uint8)
        self.sources: Index = np.zeros(capacity, np.intp)
        self.taken: set[int] = set()
        self.bank = MaskBank(capacity)
        self._order: _Order | None = None

    def set(self, destination: int, source: int, mode: int) -> None:
        """Source and mode of a row."""
        # Whatever the mask: a leg is never given its own audio, and a decoy is for the source's own bridge.
        wrong = mode in _OF_OTHERS if source == destination else mode == mask.DECOY
        self.modes[destination] = mask.SILENCE if wrong else mode
        self.sources[destination] = source
        self.taken.add(destination)
        self._order = None

    def clear(self, destination: int) -> None:
        """Nothing is heard on a row."""
        self.modes[destination] = mask.SILENCE
        self.bank.clear(destination)
        self.taken.discard(destination)
        self._order = None

    def order(self) -> _Order:
        """The rows by mode."""
        if self._order is None:
            modes = self.modes
            open_rows = np.flatnonzero(modes == mask.OPEN)
            stateful = [(mode, np.flatnonzero(modes == mode)) for mode in STATEFUL]
            self._order = _Order(
                self.sources[open_rows],
                open_rows,
                np.flatnonzero(modes == mask.COMFORT_NOISE),
                [(mode, rows, self.sources[rows]) for mode, rows in stateful if rows.size],
                np.flatnonzero(modes > mask.LARGEST_CODE).tolist(),
            )
        return self._order


class Connections:
    """All connections of an engine.

    Args:
        capacity: rows that there can be.
        rng: draws what a mask begins with.
    """

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self._capacity = capacity
        self._rng = rng
        self._all: dict[tuple[int, int], _Connection] = {}
        self._of_row: dict[int, set[tuple[int, int]]] = {}
        self._layers: list[_Layer] = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return pair in self._all

    def set(self, source: int, destination: int, mode: MaskMode, *, beeping: bool = False) -> None:
        """Makes or changes a connection; a mode that is not known is silence.

        `beeping`: whether `TONE` may tell that keys come.
        """
        pair = source, destination
        code = mask.CODES.get(mode, mask.SILENCE)
        before = self._all.get(pair)
        number = self._free_layer(destination) if before is None else before.layer
        layer = self._layers[number]
        self._all[pair] = _Connection(code, number)
        for row in pair:
            self._of_row.setdefault(row, set()).add(pair)
        if before is not None and before.mode == code:
            layer.bank.again(destination, code, beeping=beeping)
        else:
            layer.bank.start(destination, code, self._rng, beeping=beeping)
        layer.set(destination, source, code)

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
                self._layers[connection.layer].bank.clear(destination)

    def restart(self, row: int) -> None:
        """A leg's stream begins anew (another source, law or hold): nothing of the old one is let out later."""
        for pair in self._of_row.get(row, ()):
            connection = self._all[pair]
            if pair[0] == row and connection.mode == mask.CLAMP:
                self._layers[connection.layer].bank.start(pair[1], connection.mode, self._rng, beeping=False)

    def decoyed(self) -> Index:
        """Destinations that a decoy plays to; the same array until something changes."""
        playing = [
            rows for layer in self._layers for mode, rows, _ in layer.order().stateful if mode == mask.DECOY
        ]
        if len(playing) > 1:
            return np.concatenate(playing)
        return playing[0] if playing else _NONE

    def mix(self, out: Int16, heard: Heard, stocks: Stocks) -> list[int]:
        """Adds every source, after its mask, to its destination.

        Args:
            out: `(legs, samples)`, silent; changed in place.
            heard: what came from the legs.
            stocks: what masks draw from.

        Returns:
            Destinations with a mask in a state that is not known; they got silence.
        """
        faults: list[int] = []
        for number, layer in enumerate(self._layers):
            order = layer.order()
            if order.open_destinations.size:
                audio = heard.pcm.take(order.open_sources, axis=0)
                _lay(out, order.open_destinations, audio, number)
            if order.noisy.size:
                _lay(out, order.noisy, stocks.comfort(len(order.noisy), self._rng), number)
            for mode, rows, sources in order.stateful:
                _lay(out, rows, layer.bank.frames(mode, rows, sources, heard, stocks, self._rng), number)
            faults += order.unknown
        return faults


def _lay(out: Int16, rows: Index, audio: Int16, layer: int) -> None:
    out[rows] = audio if layer == 0 else mask.mix(out[rows], audio)
