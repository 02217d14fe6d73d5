"""One side of a call: a SIP leg, its media leg, and what keeps the two of the same mind.

A side follows what its peer changes inside the call (re-INVITE, UPDATE: hold, address, codec) and tells its
owner only what matters beyond it. A change that the worker cannot follow ends the leg: SIP and media would say
different things.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from media.protocol import (
    AnyEvent,
    KeyPressed,
    LegFault,
    LegStatistics,
    PlayFinished,
    RTPTimeout,
    SourceLatched,
)
from sipivr.calls.leg_record import LegRecord
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaWorker
from sipivr.calls.media_ports import PortsExhausted
from sipivr.calls.services import Services
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.ports import SIPCause, SIPLeg
from sipivr.ua.sdp import Direction, NotAcceptable, SDPError, SessionDescription

log = logging.getLogger(__name__)


class SideOwner(Protocol):
    """The call, as its sides know it."""

    @property
    def id(self) -> str:
        """Of the call record."""

    def side_answered(self, side: Side) -> None:
        """The leg is up and both ends have agreed on the audio."""

    def side_ringing(self, side: Side, *, early_media: bool) -> None:
        """A leg that we dialled rings; `early_media`: and its audio comes already."""

    def side_changed(self, side: Side) -> None:
        """Hold, un-hold, or another codec or address."""

    def side_key(self, side: Side, key: int) -> None:
        """A key of this side (telephone-event code)."""

    def side_played(self, side: Side, playlist: int, *, interrupted: bool) -> None:
        """A playlist to this side ended."""

    def side_fault(self, side: Side) -> None:
        """The worker cannot vouch for this leg's masks any more."""

    def side_media_lost(self, side: Side) -> None:
        """The leg's worker is gone."""

    def side_silent(self, side: Side) -> None:
        """No RTP for too long."""

    def side_reanswered(self, side: Side, followed: asyncio.Future[None]) -> None:
        """The peer has answered an offer of ours inside the call; `followed` ends when the worker knows it."""

    def side_reoffer_failed(self, side: Side, status: int) -> None:
        """The peer refused an offer of ours; the call goes on as it was if it can."""

    def side_transferred(self, side: Side, status: int, *, final: bool) -> None:
        """The peer has refused to transfer (from 300 on), or says how far its own call is."""

    def side_ended(self, side: Side, cause: SIPCause) -> None:
        """The leg is over; the side has removed its media already."""

    def fault(self, error: BaseException) -> None:
        """Something of ours failed."""


class Side:
    """See the module.

    Args:
        party: `customer` or `operator`.
        trunk: id of the trunk that the leg came or goes by.
        sip: the leg.
        record: of the leg.
        owner: the call.
        services: the rest of the house.
    """

    def __init__(
        self,
        party: str,
        *,
        trunk: str,
        sip: SIPLeg,
        record: LegRecord,
        owner: SideOwner,
        services: Services,
    ) -> None:
        self.party = party
        self.trunk = trunk
        self.sip = sip
        self.record = record
        self.media: MediaLeg | None = None
        self.agreed: NegotiatedAudio | None = None
        self.ended = False
        self.up = False
        self.answered_once = False
        self._owner = owner
        self._services = services

    @property
    def held(self) -> bool:
        """The peer has put us on hold: what it sends, if anything, is music."""
        return self.agreed is not None and self.agreed.direction in (Direction.RECVONLY, Direction.INACTIVE)

    # -- from the user agent ----------------------------------------------------------------------------

    def ringing(self, sdp: SessionDescription | None = None) -> None:
        """A dialled leg rings, perhaps with an answer to our offer."""
        if sdp is not None and self.media is not None:
            try:
                self._agree(self.media, self.media.accept(sdp))
            except SDPError as error:
                log.warning("call %s: early media of the operator are unusable: %s", self._owner.id, error)
                sdp = None
        self._owner.side_ringing(self, early_media=sdp is not None)

    def answered(self, sdp: SessionDescription | None) -> None:
        """2xx to our INVITE, or ACK to our 2xx; `sdp`: the answer to an offer of ours."""
        if self.media is None or self.ended:
            return
        if sdp is not None:
            try:
                self._agree(self.media, self.media.accept(sdp))
            except SDPError as error:
                log.warning("call %s: the answer to our offer is unusable: %s", self._owner.id, error)
                self.sip.hang_up()
                return
        if self.agreed is None:  # a 2xx without the answer that our offer asked for (RFC 3264 §4)
            log.warning("call %s: the peer answered without a description", self._owner.id)
            self.sip.hang_up()
            return
        self.up = self.answered_once = True
        self.record.answered(self.agreed)
        self._owner.side_answered(self)

    def reoffered(self, offer: SessionDescription | None) -> SessionDescription:
        """re-INVITE or UPDATE: hold, un-hold, a new address; masks and playlists stay.

        Raises:
            SDPError: the change is refused; nothing has changed.
        """
        media = self.media
        if media is None or self.ended:
            raise NotAcceptable("the call has no media leg")
        if offer is None:
            return media.negotiator.offer()
        port = media.port
        try:
            sdp, agreed = media.answer(offer)
        except (SDPError, PortsExhausted) as error:
            log.warning("call %s: a change of its media is refused: %s", self._owner.id, error)
            self._services.count("media_changes_refused")
            raise error if isinstance(error, SDPError) else NotAcceptable(str(error)) from error
        if media.port != port:
            self._services.count("rtp_ports_moved")
        self._agree(media, agreed)
        self._owner.side_changed(self)
        return sdp

    def reanswered(self, sdp: SessionDescription) -> None:
        """The peer's answer to an offer of ours inside the call; one that we cannot follow ends the leg."""
        if self.media is None or self.ended:
            return
        try:
            followed = self._agree(self.media, self.media.accept(sdp))
        except SDPError as error:
            log.warning("call %s: the answer to our offer is unusable: %s", self._owner.id, error)
            self._services.count("media_changes_refused")
            self.sip.hang_up()
            return
        self._owner.side_changed(self)
        self._owner.side_reanswered(self, followed)

    def reoffer_failed(self, status: int) -> None:
        """The peer refused an offer of ours."""
        self._owner.side_reoffer_failed(self, status)

    def transferred(self, status: int, *, final: bool) -> None:
        """How far a REFER of ours is."""
        if not self.ended:
            self._owner.side_transferred(self, status, final=final)

    def info_key(self, key: int) -> None:
        """A key by SIP INFO: the worker, where the other ways arrive, says whether it is a new press."""
        if self.media is None or self.media.lost or self.ended:
            self._services.count("info_keys_without_media")
        elif self.media.takes_info:
            self.media.hear_key(key)
        else:
            self._services.count("info_keys_not_taken")

    def sip_ended(self, cause: SIPCause) -> None:
        """The leg is over."""
        if self.ended:
            return
        self.ended = True
        self.up = False
        self._owner.side_ended(self, cause)

    def fault(self, error: BaseException) -> None:
        """A handler of ours raised while it dealt with this leg."""
        self._owner.fault(error)

    # -- media (`LegEvents`) ----------------------------------------------------------------------------

    def on_media_event(self, event: AnyEvent) -> None:
        """See `LegEvents`."""
        match event:
            case KeyPressed(key=key, way=way):
                self.record.key(way)
                self._owner.side_key(self, key)
            case PlayFinished(playlist=playlist, interrupted=interrupted):
                if self.media is not None:
                    self.media.play_finished(playlist)
                self._owner.side_played(self, playlist, interrupted=interrupted)
            case LegFault(reason=reason):
                log.error("call %s: media fault: %s", self._owner.id, reason)
                self._services.count("media_faults")
                self._owner.side_fault(self)
            case RTPTimeout(seconds=seconds):
                log.warning("call %s: no RTP of the %s for %.0f s", self._owner.id, self.party, seconds)
                self._services.count("rtp_timeouts")
                self._owner.side_silent(self)
            case SourceLatched(remote=remote):
                if self.media is not None:
                    self.media.latched(remote)
            case LegStatistics():
                self.record.statistics(event)

    def on_media_lost(self) -> None:
        """See `LegEvents`. The replacement worker has the same ports, so the leg can live on in it."""
        self.record.media_lost()
        if not self.ended:
            self._owner.side_media_lost(self)

    def _agree(self, media: MediaLeg, agreed: NegotiatedAudio) -> asyncio.Future[None]:
        """Both ends have agreed on something new: the worker has to follow, or the call is not what SIP says."""
        self.agreed = agreed
        followed, worker = media.update(agreed), media.worker
        followed.add_done_callback(lambda answer: self._followed(worker, answer))
        return followed

    def _followed(self, worker: MediaWorker, answer: asyncio.Future[None]) -> None:
        # What a lost worker did not do, its successor will.
        if answer.cancelled() or answer.exception() is None or worker.closed or self.sip.cause is not None:
            return
        log.error("call %s: its media could not follow what was agreed; ending it", self._owner.id)
        self._services.count("media_updates_refused")
        self.sip.hang_up(500)
