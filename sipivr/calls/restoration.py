"""A call's way back when its media worker has died.

    lost ──a worker with the lost one's sockets──► moving ──acknowledged──► renewing keys ──answered──► restored
      ▲                                              │                            │
      └─────────── that one is lost as well ─────────┴────────────────────────────┘      refused ──► failed

Legs in clear need no new keys. A leg with SRTP is silent and deaf on its new worker until its peer has answered
a re-INVITE that carries a fresh key (the new worker does not know how far the old one had used the keys: a
second start under one key is a two-time pad, RFC 3711 §9.1).

Nobody waits here for ever: who is told neither `restored` nor `failed` ends the call by a timer of its own (the
dialogue's `media_s`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from sipivr.calls.media_bridge import MediaBridge
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaLink, MediaRefused, MediaWorker
from sipivr.ua.ports import SIPLeg

log = logging.getLogger(__name__)


class Restoration:
    """Of one call.

    Args:
        link: the workers; keeps the figures.
        bridge: the call's connections.
        background: runs what nobody waits for.
        restored: called each time when everything of the call is as it was declared.
        failed: called when a living worker, or a peer, refuses.
    """

    def __init__(
        self,
        link: MediaLink,
        bridge: MediaBridge,
        *,
        background: Callable[[Awaitable[None]], None],
        restored: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._link = link
        self._bridge = bridge
        self._background = background
        self._restored = restored
        self._failed = failed
        self._worker: MediaWorker | None = None
        self._renewing: set[int] = set()

    def worker_arrived(self, worker: MediaWorker, legs: Sequence[tuple[MediaLeg, SIPLeg | None]]) -> None:
        """A worker has connected: if the call's was lost and this is its successor, the call moves in."""
        media = [leg for leg, _ in legs]
        if not media or not media[0].lost or worker.index != media[0].worker.index:
            return
        self._worker, self._renewing = worker, set()
        try:
            moved = self._bridge.restore(worker, media)
        except MediaRefused as error:
            self._fail(worker, str(error))
            return
        self._background(self._move(worker, moved, legs))

    def reanswered(self, leg: MediaLeg, updated: Awaitable[None]) -> None:
        """A peer has answered an offer of ours and the worker is being told: perhaps the one with the fresh key."""
        if leg.number in self._renewing and self._worker is not None:
            self._background(self._renew(self._worker, leg, updated))

    def reoffer_failed(self, leg: MediaLeg, status: int) -> None:
        """A peer has refused an offer of ours."""
        if leg.number in self._renewing and self._worker is not None:
            self._fail(self._worker, f"the peer refused a fresh key with {status}")

    async def _move(
        self, worker: MediaWorker, moved: Awaitable[None], legs: Sequence[tuple[MediaLeg, SIPLeg | None]]
    ) -> None:
        if not await self._done(worker, moved):
            return
        offers = [(leg, sip, leg.new_keys_offer()) for leg, sip in legs if sip is not None]
        self._renewing = {leg.number for leg, _, offer in offers if offer is not None}
        for _, sip, offer in offers:
            if offer is not None:
                sip.reinvite(offer)
        self._settle(worker)

    async def _renew(self, worker: MediaWorker, leg: MediaLeg, updated: Awaitable[None]) -> None:
        if await self._done(worker, updated):
            self._renewing.discard(leg.number)
            self._settle(worker)

    async def _done(self, worker: MediaWorker, work: Awaitable[None]) -> bool:
        """Whether the worker has done it, lives, and is still the one that counts."""
        try:
            await work
        except MediaRefused as error:
            if not worker.closed:  # else the next one has its turn
                self._fail(worker, str(error))
            return False
        return not worker.closed and self._worker is worker

    def _settle(self, worker: MediaWorker) -> None:
        if not self._renewing:
            self._worker = None
            self._link.restored(worker, whole=True)
            self._restored()

    def _fail(self, worker: MediaWorker, reason: str) -> None:
        self._worker, self._renewing = None, set()
        self._link.restored(worker, whole=False)
        self._failed(reason)
