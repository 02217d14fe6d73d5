"""What the store learns of one leg: its moments, codec, ways of keys, RTP figures, ladder. Order is the queue's."""

from __future__ import annotations

from datetime import UTC, datetime

from media.protocol import KeyWay, LegStatistics
from sipivr.calls.rtp_quality import counts, quality, total
from sipivr.calls.services import Services
from sipivr.store import write
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.ports import SIPCause, SIPLeg


class LegRecord:
    """The record of one leg of an admitted call.

    Args:
        call: the call's id; its row is already there.
        leg: id of this leg's row, there too.
        sip: the leg.
        party: who is at its end: `customer` or `operator`.
        services: writer and ladders.
    """

    def __init__(self, call: str, leg: str, sip: SIPLeg, party: str, services: Services) -> None:
        self.begun = True
        """False: the store did not take the leg's row, and nothing can be added to it."""
        self._call = call
        self._leg = leg
        self._sip = sip
        self._party = party
        self._services = services
        self._ways: set[KeyWay] = set()
        self._figures: LegStatistics | None = None
        self._former: LegStatistics | None = None
        self._media_gone = False
        self._observed = False

    def answered(self, agreed: NegotiatedAudio | None) -> None:
        """The leg is up."""
        times = self._sip.times
        self._services.record(
            write.leg_changed,
            leg=self._leg,
            codec=agreed.codec.name if agreed else None,
            ringing_at=_instant(times.ringing),
            answered_at=_instant(times.answered),
        )

    def key(self, way: KeyWay) -> None:
        """A key came; only its way is of interest."""
        self._ways.add(way)

    def statistics(self, event: LegStatistics) -> None:
        """The leg's RTP figures; the last ones come when it is removed."""
        self._figures = event
        self._media_gone = False
        if self._sip.cause is not None:
            self._write_figures()

    def media_lost(self) -> None:
        """The leg's worker is gone: what it said last stays, and what a successor counts comes on top."""
        self._former, self._figures = total(self._former, self._figures), None
        self._media_gone = True
        if self._sip.cause is not None:
            self._write_figures()

    def ended(self, cause: SIPCause, ended_by: str | None = None) -> None:
        """The leg is over: its last words, and the ladder. `ended_by`: where it was not the peer or the switch."""
        if not self.begun:
            self._services.ladders.take(self._sip.call_id, call=self._call, leg=self._leg)
            return
        if self._media_gone:
            self._write_figures()
        self._services.record(
            write.leg_changed,
            leg=self._leg,
            dtmf="+".join(sorted(way.value for way in self._ways)) or None,
            ended_at=_instant(self._sip.times.ended),
            sip_status=cause.status,
            ended_by=ended_by or (self._party if cause.by_remote else "switch"),
        )
        ladder = self._services.ladders.take(self._sip.call_id, call=self._call, leg=self._leg)
        if ladder:
            self._services.record(write.add_ladder, entries=ladder)

    def _write_figures(self) -> None:
        figures = total(self._former, self._figures)
        if figures is None:
            return
        self._services.record(write.leg_changed, leg=self._leg, rtp=counts(figures), quality=quality(figures))
        if not self._observed:
            self._observed = True
            self._services.rtp.observe(figures)
            if figures.keys_disagreed:
                self._services.count("legs_with_disagreeing_keys")


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
