"""Who is heard where, and through which mask.

Connections are kept by (source row, destination row) and compiled, when they change, into layers: in a layer
every destination occurs once, so that a layer is mixed with three row gathers. Most destinations have one
source, so most engines have one layer.

A connection of a leg with itself is a three-way bridge: its own audio is never returned, whatever the mask.
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
    faulted: bool = False


class _Layer(NamedTuple):
    modes: UInt8
    sources: Index
    destinations: Index


class Connections:
    """All connections of an engine."""

    def __init__(self) -> None:
        self._all: dict[tuple[int, int], _Connection] = {}
        self._layers: list[_Layer] | None = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return pair in self._all

    def set(self, source: int, destination: int, mode: MaskMode) -> None:
        """Makes or changes a connection; a mode that is not known is silence."""
        self._all[source, destination] = _Connection(mask.CODES.get(mode, mask.SILENCE))
        self._layers = None

    def remove(self, source: int, destination: int) -> None:
        """Ends a connection."""
        del self._all[source, destination]
        self._layers = None

    def remove_leg(self, row: int) -> None:
        """Ends all connections from and to a leg."""
        gone = [pair for pair in self._all if row in pair]
        for pair in gone:
            del self._all[pair]
        if gone:
            self._layers = None

    def silence_masked(self, row: int | None = None) -> None:
        """After a fault: every masked connection (of a source) is silence until its mask is set again."""
        for (source, _), connection in self._all.items():
            if (row is None or source == row) and connection.mode != mask.OPEN:
                connection.mode = mask.SILENCE
                connection.faulted = True
        self._layers = None

    def _compile(self) -> list[_Layer]:
        depth: dict[int, int] = {}
        members: list[list[tuple[int, int, int]]] = []
        for (source, destination), connection in self._all.items():
            layer = depth.get(destination, 0)
            depth[destination] = layer + 1
            if layer == len(members):
                members.append([])
            own = source == destination and connection.mode == mask.OPEN
            members[layer].append((mask.SILENCE if own else connection.mode, source, destination))
        layers: list[_Layer] = []
        for member in members:
            modes, sources, destinations = zip(*member, strict=True)
            layers.append(
                _Layer(np.array(modes, np.uint8), np.array(sources, np.intp), np.array(destinations, np.intp))
            )
        return layers

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
        if self._layers is None:
            self._layers = self._compile()
        faults: list[int] = []
        for number, (modes, sources, destinations) in enumerate(self._layers):
            picks = rng.integers(0, len(noise), len(modes))
            audio, unknown = mask.apply(modes, pcm, sources, noise, picks)
            out[destinations] = audio if number == 0 else mask.mix(out[destinations], audio)
            if unknown.any():
                faults += destinations[unknown].tolist()
        return faults
