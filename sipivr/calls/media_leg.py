"""One leg on a media worker: its number, its port, and the commands that concern it.

The port follows the peer's address (`media_ports`). A peer that moves onto an address that stands on its port
already, or a symmetric leg that would be the second to wait there, gets another port of ours: an answer names
it, an offer cannot, for the address comes after it. There the port is kept as long as the answer fits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from media.protocol import (
    AddLeg,
    Codec,
    Direction,
    DTMFMode,
    HearKey,
    Play,
    QueryStatistics,
    Remote,
    RemoveLeg,
    StopPlaying,
    UpdateLeg,
)
from sipivr.calls.media_link import LegEvents, MediaLink, MediaRefused, MediaWorker
from sipivr.calls.media_ports import PortsExhausted, Seat
from sipivr.calls.srtp import media_keys
from sipivr.ua.negotiation import MediaTerms, NegotiatedAudio, Negotiator
from sipivr.ua.sdp import UNSPECIFIED, NotAcceptable, SDPError, SessionDescription


@dataclass(frozen=True, slots=True)
class _Playlist:
    prompts: tuple[Path, ...]
    barge_in: bool
    repeat: bool


class MediaLeg:
    """A leg, from the choice of its port to its removal. One loop thread owns it.

    Args:
        link: the workers.
        owner: is told what happens on the leg; None: `own` names it, before anything can happen there.
        remote: the peer's RTP address as its offer says, None while there is no offer.
        terms: what the leg's trunk allows.
        advertised: addresses that SDP names instead of the socket's own, by family: at most one IPv4 and one IPv6.
        symmetric: latch to the first source (trunks behind NAT).
        signalled: the IP address that the peer's SIP comes from.
        dtmf: which ways of keys count.
        beside: another leg of the same call, whose worker this one goes to; None: the least loaded one.

    Raises:
        MediaRefused: no worker is connected, or all are overloaded.
        PortsExhausted: no port can take the leg.
        FamilyMissing: no port is of the family of `remote`.
    """

    def __init__(
        self,
        link: MediaLink,
        owner: LegEvents | None,
        *,
        remote: Remote | None,
        terms: MediaTerms,
        advertised: Sequence[str],
        symmetric: bool,
        dtmf: DTMFMode,
        signalled: str | None = None,
        beside: MediaLeg | None = None,
    ) -> None:
        self.number = link.next_leg()
        self.worker: MediaWorker = beside.worker if beside is not None else link.least_loaded()
        if self.worker.closed:
            raise MediaRefused("the call's media worker is gone")
        self._symmetric = symmetric
        self._dtmf = dtmf
        self._signalled = signalled
        self._advertised = {":" in address: address for address in advertised}
        self._remote = None if remote is None or remote.address in UNSPECIFIED else remote
        self._seat = self._seat_of(self._remote)
        self._playing: dict[int, _Playlist] = {}
        self._socket = self.worker.ports.choose(self.number, self._seat)
        self.worker.ports.seat(self.number, self._socket, self._seat)
        self.negotiator = Negotiator(*self._announced(self._socket), terms)
        self._moved = False
        self._moving: asyncio.Future[None] | None = None
        self._added = False
        self._agreed: NegotiatedAudio | None = None
        self._owner = owner
        if owner is not None:
            self.worker.adopt(self.number, owner)

    def own(self, owner: LegEvents) -> None:
        """Who is told what happens on the leg."""
        self._owner = owner
        self.worker.adopt(self.number, owner)

    def answer(self, offer: SessionDescription) -> tuple[SessionDescription, NegotiatedAudio]:
        """Our answer to an offer and what it agrees on; it names another port of ours where it has to.

        Raises:
            SDPError: nothing in common; nothing has changed.
            PortsExhausted: no port can take the leg with the peer's new address; nothing has changed.
        """
        remote = self._known(*self.negotiator.peer(offer))
        seat = self._seat if remote == self._remote else self._seat_of(remote)
        index = self.worker.ports.choose(self.number, seat, self._socket)
        self.negotiator.move(*self._announced(index))
        try:
            sdp, agreed = self.negotiator.answer(offer)
        except SDPError:
            self.negotiator.move(*self._announced(self._socket))
            raise
        self._sit(index, remote, seat)
        return sdp, agreed

    def accept(self, answer: SessionDescription) -> NegotiatedAudio:
        """Reads the peer's answer to an offer of ours, which named our port: the peer has to fit there.

        Raises:
            SDPError: the answer is none, or the address in it belongs to another leg on that port: what comes
                from there would be taken for the other's.
        """
        agreed = self.negotiator.accept(answer)
        remote = self._known(agreed.remote_address, agreed.remote_port)
        seat = self._seat if remote == self._remote else self._seat_of(remote)
        try:
            fits = self.worker.ports.choose(self.number, seat, self._socket) == self._socket
        except PortsExhausted:
            fits = False
        if not fits:
            raise NotAcceptable("The answer's address is that of another leg on the port that we offered.")
        self._sit(self._socket, remote, seat)
        return agreed

    def latched(self, source: Remote) -> None:
        """The worker has found where the packets of this symmetric leg come from."""
        if self._moving is not None and not self._moving.done():
            return  # it had not read yet that the peer is elsewhere now
        self._seat = Seat(source, waits=False)
        self.worker.ports.settle(self.number, self._socket, source)

    def _known(self, address: str, port: int) -> Remote | None:
        """The peer's address; where RFC 2543's hold names none, it stays what it was."""
        return self._remote if address in UNSPECIFIED else Remote(address, port)

    def _seat_of(self, remote: Remote | None) -> Seat:
        return Seat(remote, waits=self._symmetric or remote is None)

    def _sit(self, index: int, remote: Remote | None, seat: Seat) -> None:
        self._moved |= (index, remote) != (self._socket, self._remote)
        self.worker.ports.seat(self.number, index, seat, before=self._socket)
        self._socket, self._remote, self._seat = index, remote, seat

    def _announced(self, index: int) -> tuple[str, int]:
        """What SDP says of a socket."""
        local = self.worker.ports.sockets[index]
        return self._advertised.get(":" in local.address, local.address), local.port

    def add(self, agreed: NegotiatedAudio | None, *, held: bool = False) -> asyncio.Future[None]:
        """Tells the worker of the leg; `None` while our offer is not answered: silent and deaf.

        `held`: silent and deaf as well, until `update`.
        """
        self._added = True
        self._agreed = agreed
        return self.worker.send(
            AddLeg(
                seq=self.worker.next_seq(),
                leg=self.number,
                socket=self._socket,
                codec=Codec(agreed.codec.value) if agreed else Codec.PCMU,
                remote=self._remote if agreed else None,
                event_payload_type=agreed.event_payload_type if agreed else None,
                ptime_ms=agreed.ptime_ms if agreed else 20,
                direction=Direction(agreed.direction.value) if agreed and not held else Direction.INACTIVE,
                symmetric=self._symmetric,
                dtmf=self._dtmf,
                signalled=self._signalled,
                source=self._seat.source if self._symmetric and not self._seat.waits else None,
                srtp=media_keys(agreed),
                rtcp=_reports_to(agreed) if agreed and not held else None,
                rtcp_mux=agreed.rtcp_mux if agreed else False,
            )
        )

    def new_keys_offer(self) -> SessionDescription | None:
        """An offer with a fresh key for a leg that has come to a new worker, None for a leg in clear.

        The new worker does not know how far the old one had used the keys: until the answer has been given to
        `update`, a leg with SRTP is silent and deaf (RFC 3711 §9.1: a second start under one key is a two-time pad).
        """
        return self.negotiator.offer() if self.negotiator.renew_keys() else None

    def update(self, agreed: NegotiatedAudio) -> asyncio.Future[None]:
        """Tells the worker what a re-INVITE or a late answer changed; `add` has it otherwise."""
        self._agreed = agreed
        if not self._added:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        answer = self.worker.send(
            UpdateLeg(
                seq=self.worker.next_seq(),
                leg=self.number,
                codec=Codec(agreed.codec.value),
                remote=self._remote,
                event_payload_type=agreed.event_payload_type,
                ptime_ms=agreed.ptime_ms,
                direction=Direction(agreed.direction.value),
                symmetric=self._symmetric,
                dtmf=self._dtmf,
                socket=self._socket,
                srtp=media_keys(agreed),
                rtcp=_reports_to(agreed),
                rtcp_mux=agreed.rtcp_mux,
            )
        )
        if self._moved:
            self._moved, self._moving = False, answer
        return answer

    def play(
        self, playlist: int, prompts: Sequence[Path], *, barge_in: bool, repeat: bool
    ) -> asyncio.Future[None]:
        """Replaces what the leg hears; ends in one PlayFinished with `playlist`."""
        numbers = tuple(self.worker.prompt(path) for path in prompts)
        self._playing[playlist] = _Playlist(tuple(prompts), barge_in, repeat)
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

    @property
    def takes_info(self) -> bool:
        """Whether keys by SIP INFO count on this leg."""
        return self._dtmf in (DTMFMode.AUTO, DTMFMode.INFO)

    def hear_key(self, key: int) -> asyncio.Future[None]:
        """Tells the worker of a key that came by SIP INFO: there all ways of a press meet."""
        return self.worker.send(HearKey(seq=self.worker.next_seq(), leg=self.number, key=key))

    def stop_playing(self) -> asyncio.Future[None]:
        """Stops the playlist, if any."""
        return self.worker.send(StopPlaying(seq=self.worker.next_seq(), leg=self.number))

    def play_finished(self, playlist: int) -> None:
        """The worker holds this playlist no more; its prompts may be unloaded."""
        ended = self._playing.pop(playlist, None)
        for path in ended.prompts if ended is not None else ():
            self.worker.release_prompt(path)

    @property
    def port(self) -> int:
        """Index of its RTP socket at the worker."""
        return self._socket

    @property
    def lost(self) -> bool:
        """Whether the leg's worker is gone."""
        return self.worker.closed

    def rejoin(self, worker: MediaWorker) -> asyncio.Future[None]:
        """Moves into the worker that took over the sockets of the lost one, with what was agreed.

        A playlist that repeats begins anew; any other is over: its owner heard `on_media_lost`. A leg with SRTP
        waits, silent and deaf, until its peer has answered `new_keys_offer`.

        Returns:
            A future that ends when the worker has the leg, or raises `MediaRefused`.

        Raises:
            MediaRefused: its sockets are others (the supervisor was restarted as well): peers could not know.
        """
        former, sockets = self.worker.ports.sockets, worker.ports.sockets
        if self._socket >= len(sockets) or sockets[self._socket] != former[self._socket]:
            raise MediaRefused("the new media worker has other addresses than the lost one")
        repeating = {number: one for number, one in self._playing.items() if one.repeat}
        self._playing.clear()
        self.worker = worker
        worker.ports.retake(self.number, self._socket, self._seat)
        if self._owner is not None:
            worker.adopt(self.number, self._owner)
        if not self._added:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        # From here on a re-INVITE of the peer's own is answered with the new key, too.
        secured = self.negotiator.renew_keys()
        added = self.add(self._agreed, held=secured)
        for number, one in repeating.items():
            self.play(number, one.prompts, barge_in=one.barge_in, repeat=True)
        return added

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


def _reports_to(agreed: NegotiatedAudio) -> Remote | None:
    """Where RTCP goes; nowhere while the peer holds in RFC 2543's way, without an address."""
    if agreed.remote_address in UNSPECIFIED:
        return None
    return Remote(agreed.remote_address, agreed.remote_rtcp_port)
