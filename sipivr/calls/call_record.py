"""What the store learns of one call: its moments, its leg, its ladder, its end. Order is the writer's queue's."""

from __future__ import annotations

from datetime import UTC, datetime

from media.protocol import KeyWay, LegStatistics
from sipivr.calls.rtp_quality import counts, quality, total
from sipivr.calls.services import Services
from sipivr.dialogue.effects import Result
from sipivr.dialogue.states import CaptureState
from sipivr.store import write
from sipivr.ua.negotiation import NegotiatedAudio
from sipivr.ua.ports import SIPCause, SIPLeg


class CallRecord:
    """The record of one admitted call.

    Args:
        call: its id; the call's row is already there.
        leg: id of the customer's leg row, there too.
        sip: the leg.
        services: writer and ladders.
    """

    def __init__(self, call: str, leg: str, sip: SIPLeg, services: Services) -> None:
        self.ended_by: str | None = None
        self._call = call
        self._leg = leg
        self._sip = sip
        self._services = services
        self._begun = True
        self._capturing = False
        self._captured = False
        self._capture = CaptureState.IDLE
        self._outcome: str | None = None
        self._ways: set[KeyWay] = set()
        self._figures: LegStatistics | None = None
        self._former: LegStatistics | None = None
        self._media_gone = False
        self._observed = False

    def answered(self, agreed: NegotiatedAudio | None) -> None:
        """The customer's leg is up."""
        times = self._sip.times
        self._services.record(write.call_answered, call=self._call)
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

    def capture_opening(self) -> None:
        """The mask is being applied: what a merchant's recorder stops at, before the first capture prompt."""
        if not self._capturing:
            self._capturing = self._captured = True
            self._services.record(write.capture_started, call=self._call)

    def capture(self, state: CaptureState) -> None:
        """The capture machine moved; the last state is how the capture went."""
        self._capture = state

    def capture_closed(self) -> None:
        """Key entry is over and quiet: recording may go on. Also when the call ends without that."""
        if self._capturing:
            self._capturing = False
            self._services.record(write.capture_ended, call=self._call, outcome=self._capture.value)

    def card_wiped(self) -> None:
        """Every digit has been overwritten."""
        if self._captured:
            self._services.record(write.add_timeline, call=self._call, type="card_wiped")

    def result(self, result: Result) -> None:
        """How the dialogue ended."""
        self._outcome = result.value
        self._services.count(f"result_{result.value}")

    def refused(self, refusal: str) -> None:
        """The call was admitted, and could not be answered after all."""
        self._outcome, self.ended_by = refusal, "switch"

    def not_begun(self) -> None:
        """The store did not take the call's rows: nothing can be added to them."""
        self._begun = False

    def fault(self) -> None:
        """The call is ended by a fault of ours."""
        self._outcome, self.ended_by = "fault", "switch"

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

    def ended(self, cause: SIPCause) -> None:
        """The customer's leg is over: the last word of the record, and the ladder."""
        if not self._begun:
            self._services.ladders.take(self._sip.call_id, call=self._call, leg=self._leg)
            return
        self.capture_closed()
        if self._media_gone:
            self._write_figures()
        times = self._sip.times
        ended_by = self.ended_by or ("customer" if cause.by_remote else "switch")
        self._services.record(
            write.leg_changed,
            leg=self._leg,
            dtmf="+".join(sorted(way.value for way in self._ways)) or None,
            ended_at=_instant(times.ended),
            sip_status=cause.status,
            ended_by=ended_by,
        )
        self._services.record(
            write.call_ended,
            call=self._call,
            outcome=self._outcome or ("customer_hung_up" if cause.by_remote else "ended"),
            ended_by=ended_by,
            sip_status=cause.status,
        )
        ladder = self._services.ladders.take(self._sip.call_id, call=self._call, leg=self._leg)
        if ladder:
            self._services.record(write.add_ladder, entries=ladder)


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
