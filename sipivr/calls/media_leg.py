"""One leg on a media worker: its number, its port, and the commands that concern it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from media.protocol import (
    AddLeg,
    Codec,
    Connect,
    Direction,
    Disconnect,
    DTMFMode,
    MaskMode,
    Play,
    QueryStatistics,
    Remote,
    RemoveLeg,
    SetMask,
    StopPlaying,
    UpdateLeg,
)
from sipivr.calls.media_link import LegEvents, MediaLink, MediaWorker
from sipivr.ua.negotiation import MediaTerms, NegotiatedAudio, Negotiator
from sipivr.ua.sdp import SessionDescription


class MediaLeg:
    """A leg, from the choice of its port to its removal. One loop thread owns it.

    Args:
        link: the workers.
        owner: is told what happens on the leg.
        remote: the peer's RTP address as its offer says, None while there is no offer.
        terms: what the leg's trunk allows.
        advertised: address that SDP names instead of the socket's own, "" for none.
        symmetric: latch to the first source (trunks behind NAT).
        dtmf: which ways of keys count.

    Raises:
        MediaRefused: no worker is connected.
        PortsExhausted: no port can take the leg.
    """

    def __init__(
        self,
        link: MediaLink,
        owner: LegEvents,
        *,
        remote: Remote | None,
        terms: MediaTerms,
        advertised: str,
        symmetric: bool,
        dtmf: DTMFMode,
    ) -> None:
        self.number = link.next_leg()
        self.worker: MediaWorker = link.least_loaded()
        self._symmetric = symmetric
        self._dtmf = dtmf
        self._remote = remote
        self._playing: dict[int, tuple[Path, ...]] = {}
        self._socket = self.worker.ports.take(self.number, remote, source_known=not symmetric)
        local = self.worker.ports.sockets[self._socket]
        self.negotiator = Negotiator(advertised or local.address, local.port, terms)
        self._added = False
        self._bridged = False
        self._agreed: NegotiatedAudio | None = None
        self._owner = owner
        self.worker.adopt(self.number, owner)

    def answer(self, offer: SessionDescription) -> tuple[SessionDescription, NegotiatedAudio]:
        """Our answer to an offer and what it agrees on.

        Raises:
            SDPError: nothing in common.
        """
        return self.negotiator.answer(offer)

    def add(self, agreed: NegotiatedAudio | None) -> asyncio.Future[None]:
        """Tells the worker of the leg; `None` while our offer is not answered: silent and deaf."""
        self._added = True
        self._agreed = agreed
        return self.worker.send(
            AddLeg(
                seq=self.worker.next_seq(),
                leg=self.number,
                socket=self._socket,
                codec=Codec(agreed.codec.value) if agreed else Codec.PCMU,
                remote=Remote(agreed.remote_address, agreed.remote_port) if agreed else None,
                event_payload_type=agreed.event_payload_type if agreed else None,
                ptime_ms=agreed.ptime_ms if agreed else 20,
                direction=Direction(agreed.direction.value) if agreed else Direction.INACTIVE,
                symmetric=self._symmetric,
                dtmf=self._dtmf,
            )
        )

    def update(self, agreed: NegotiatedAudio) -> asyncio.Future[None]:
        """Tells the worker what a re-INVITE or a late answer changed."""
        self._added, self._agreed = True, agreed
        self._remote = remote = Remote(agreed.remote_address, agreed.remote_port)
        if not self._symmetric:
            self.worker.ports.move(self.number, self._socket, remote)
        return self.worker.send(
            UpdateLeg(
                seq=self.worker.next_seq(),
                leg=self.number,
                codec=Codec(agreed.codec.value),
                remote=remote,
                event_payload_type=agreed.event_payload_type,
                ptime_ms=agreed.ptime_ms,
                direction=Direction(agreed.direction.value),
                symmetric=self._symmetric,
                dtmf=self._dtmf,
            )
        )

    def may_move_to(self, remote: Remote) -> bool:
        """Whether a peer that moves to `remote` may stay on this port (port-sharing rule one)."""
        return self._symmetric or self.worker.ports.may_move(self.number, self._socket, remote)

    def open_bridge_mask(self, mask: MaskMode) -> asyncio.Future[None]:
        """Plays `mask` into the three-way bridge behind this leg; `MaskApplied` says when it is on."""
        if not self._bridged:
            self._bridged = True
            self.worker.send(
                Connect(
                    seq=self.worker.next_seq(),
                    source=self.number,
                    destination=self.number,
                    mask=MaskMode.SILENCE,
                )
            )
        return self.worker.send(
            SetMask(seq=self.worker.next_seq(), source=self.number, destination=self.number, mask=mask)
        )

    def close_bridge_mask(self) -> None:
        """Nothing is played into the three-way bridge any more."""
        if self._bridged:
            self._bridged = False
            self.worker.send(
                Disconnect(seq=self.worker.next_seq(), source=self.number, destination=self.number)
            )

    def play(
        self, playlist: int, prompts: Sequence[Path], *, barge_in: bool, repeat: bool
    ) -> asyncio.Future[None]:
        """Replaces what the leg hears; ends in one PlayFinished with `playlist`."""
        numbers = tuple(self.worker.prompt(path) for path in prompts)
        self._playing[playlist] = tuple(prompts)
        return self.worker.send(
            Play(
                seq=self.worker.next_seq(),
                leg=self.number,
                playlist=playlist,
                prompts=numbers,
                barge_in=barge_in,
                repeat=repeat,
            )
        )

    def stop_playing(self) -> asyncio.Future[None]:
        """Stops the playlist, if any."""
        return self.worker.send(StopPlaying(seq=self.worker.next_seq(), leg=self.number))

    def play_finished(self, playlist: int) -> None:
        """The worker holds this playlist no more; its prompts may be unloaded."""
        for path in self._playing.pop(playlist, ()):
            self.worker.release_prompt(path)

    @property
    def lost(self) -> bool:
        """Whether the leg's worker is gone."""
        return self.worker.closed

    async def revive(self, worker: MediaWorker) -> None:
        """Moves into the worker that took over the sockets of the lost one; nothing plays, nothing is masked.

        Raises:
            MediaRefused: the new worker does not take the leg.
        """
        self.worker = worker
        self._bridged = False
        self._playing.clear()
        self._socket = worker.ports.retake(
            self.number, self._socket, self._remote if not self._symmetric else None
        )
        worker.adopt(self.number, self._owner)
        if self._added:
            await self.add(self._agreed)

    def remove(self) -> None:
        """Forgets the leg at the worker, after a last word of its statistics; then its port is free again."""
        worker = self.worker
        if not self._added or worker.closed:
            self._forget(worker)
            return
        worker.send(QueryStatistics(seq=worker.next_seq(), leg=self.number))
        removed = worker.send(RemoveLeg(seq=worker.next_seq(), leg=self.number))
        removed.add_done_callback(lambda _: self._forget(worker))
        # Behind RemoveLeg: a prompt is not unloaded while a playlist holds it.
        for playlist in list(self._playing):
            self.play_finished(playlist)

    def _forget(self, worker: MediaWorker) -> None:
        worker.abandon(self.number)
        worker.ports.release(self.number, self._socket)
