"""Who hears whom among the legs of one call, through which mask, and how that survives their worker.

A connection is directed, from a leg to a leg of the same worker; of a leg to itself it is the three-way bridge
behind a transfer-in call. It is *declared* here before the worker hears of it, and what was declared last is
what a new worker is told. What is not declared does not exist; what is declared and not acknowledged is silent
(invariant 1 of the design):

- on the worker every connection begins as silence and changes by `SetMask` alone;
- after a loss all connections are made anew, silent; then the masked ones get their masks; and only when all of
  those are acknowledged do open ones open. A refusal on the way leaves the rest silent.

One call owns a bridge, on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

from media.protocol import Connect, Disconnect, MaskMode, SetMask
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_worker import MediaRefused, MediaWorker


@dataclass(slots=True)
class _Connection:
    source: MediaLeg
    destination: MediaLeg
    mask: MaskMode


class MediaBridge:
    """See the module."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, int], _Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def mask_of(self, source: MediaLeg, destination: MediaLeg) -> MaskMode | None:
        """What was declared last, None for no connection."""
        found = self._connections.get((source.number, destination.number))
        return found.mask if found is not None else None

    def set(self, source: MediaLeg, destination: MediaLeg, mask: MaskMode) -> asyncio.Future[None]:
        """Makes a connection, or changes its mask.

        Returns:
            A future that ends when the worker has acknowledged that the mask is on, or raises
            `MediaRefused`; without a worker it does so at once, and the mask is set when there is one.
        """
        pair = source.number, destination.number
        connection = self._connections.get(pair)
        if connection is None:
            connection = self._connections[pair] = _Connection(source, destination, mask)
            _connect(connection)
        connection.mask = mask
        return _mask(connection)

    def part(self, source: MediaLeg, destination: MediaLeg) -> None:
        """Ends a connection, if there is one."""
        connection = self._connections.pop((source.number, destination.number), None)
        if connection is not None:
            worker = source.worker
            worker.send(
                Disconnect(seq=worker.next_seq(), source=source.number, destination=destination.number)
            )

    def forget(self, leg: MediaLeg) -> None:
        """A leg is being removed; the worker ends its connections with it."""
        for pair in [pair for pair in self._connections if leg.number in pair]:
            del self._connections[pair]

    def restore(self, worker: MediaWorker, legs: Sequence[MediaLeg]) -> Awaitable[None]:
        """Moves the call's legs and connections into the worker that took over the sockets of the lost one.

        Everything up to the masks is queued before this returns, so that no new call can take a port first.

        Returns:
            Ends when the legs live, the masks are on and the open connections open; raises `MediaRefused`
            if the worker refuses any of it, or is lost as well.

        Raises:
            MediaRefused: the worker's sockets are not those of the lost one.
        """
        answers = [leg.rejoin(worker) for leg in legs]
        for connection in self._connections.values():
            answers.append(_connect(connection))
        answers += [_mask(one) for one in self._connections.values() if one.mask is not MaskMode.OPEN]
        return self._open(answers)

    async def _open(self, answers: Iterable[asyncio.Future[None]]) -> None:
        for answer in answers:
            await answer
        # Read now: a mask may have been declared while we waited, and one that was open may be closed.
        for answer in [_mask(one) for one in self._connections.values() if one.mask is MaskMode.OPEN]:
            await answer


def _connect(connection: _Connection) -> asyncio.Future[None]:
    worker = _worker(connection)
    return worker.send(
        Connect(
            seq=worker.next_seq(),
            source=connection.source.number,
            destination=connection.destination.number,
            mask=MaskMode.SILENCE,
        )
    )


def _mask(connection: _Connection) -> asyncio.Future[None]:
    worker = _worker(connection)
    return worker.send(
        SetMask(
            seq=worker.next_seq(),
            source=connection.source.number,
            destination=connection.destination.number,
            mask=connection.mask,
        )
    )


def _worker(connection: _Connection) -> MediaWorker:
    worker = connection.source.worker
    if connection.destination.worker is not worker:
        raise MediaRefused("the legs of a connection are on different workers")
    return worker
