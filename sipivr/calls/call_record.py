"""What the store learns of one call as a whole: its answer, its captures, its end. Order is the writer's queue's."""

from __future__ import annotations

from sipivr.calls.services import Services
from sipivr.dialogue.effects import Result
from sipivr.dialogue.states import CaptureState
from sipivr.store import write
from sipivr.ua.ports import SIPCause


class CallRecord:
    """The record of one admitted call.

    Args:
        call: its id; the call's row is already there.
        services: the writer.
    """

    def __init__(self, call: str, services: Services) -> None:
        self.ended_by: str | None = None
        self._call = call
        self._services = services
        self._begun = True
        self._capturing = False
        self._keyed = False
        self._capture = CaptureState.IDLE
        self._outcome: str | None = None
        self._unreached = False

    def answered(self) -> None:
        """The customer's leg is up."""
        self._services.record(write.call_answered, call=self._call)

    def moment(self, type: str, **detail: object) -> None:
        """Something happened in the call: `detail` holds no digits and no personal data."""
        self._services.record(write.add_timeline, call=self._call, type=type, detail=detail)

    def capture_opening(self) -> None:
        """The mask is being applied: what a merchant's recorder stops at, before the first capture prompt."""
        if not self._capturing:
            self._capturing = self._keyed = True
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
        if self._keyed:
            self._services.record(write.add_timeline, call=self._call, type="card_wiped")

    def result(self, result: Result) -> None:
        """How the dialogue ended; of several captures the last one's word stays."""
        if self._unreached:  # what the dialogue makes of it is no news
            return
        self._outcome = result.value
        self._services.count(f"result_{result.value}")

    def refused(self, refusal: str) -> None:
        """The call was admitted, and could not be answered after all."""
        self._outcome, self.ended_by = refusal, "switch"

    def not_reached(self, outcome: str, ended_by: str | None) -> None:
        """A customer whom we call did not answer; the first reason stays."""
        if not self._unreached:
            self._unreached = True
            self._outcome = outcome
            self.ended_by = ended_by or self.ended_by
            self._services.count(f"dial_{outcome}")

    def not_begun(self) -> None:
        """The store did not take the call's row: nothing can be added to it."""
        self._begun = False

    def fault(self) -> None:
        """The call is ended by a fault of ours."""
        self._outcome, self.ended_by = "fault", "switch"

    def ended(self, cause: SIPCause) -> None:
        """The customer's leg is over: the last word of the record."""
        if not self._begun:
            return
        self.capture_closed()
        self._services.record(
            write.call_ended,
            call=self._call,
            outcome=self._outcome or ("customer_hung_up" if cause.by_remote else "ended"),
            ended_by=self.ended_by or ("customer" if cause.by_remote else "switch"),
            sip_status=cause.status,
        )
