"""The dialogue itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.params import DialogueParams
from sipivr.dialogue.session import Ending
from sipivr.dialogue.states import (
    CaptureState,
    CustomerLegState,
    MaskState,
    OperatorLegState,
    PaymentState,
    TalkState,
)

if TYPE_CHECKING:
    from sipivr.dialogue.effects import Effect
    from sipivr.dialogue.events import Event


class Dialogue:
    """One customer's conversation with the switch, from answer to the outcome of the payment.

    Args:
        language: spoken until the session says otherwise: the called number's default.
        identification_lengths: lengths an identification number of this merchant may have, ascending.
        ending: how the call ends for the customer.
        params: times and limits.
    """

    def __init__(
        self,
        *,
        language: str,
        identification_lengths: tuple[int, ...] = (8,),
        ending: Ending = Ending.TRANSFER_RETURN,
        params: DialogueParams = DialogueParams(),  # noqa: B008 - frozen
    ) -> None:
        self.customer = CustomerLegState.RINGING
        self.operator = OperatorLegState.NONE
        self.talk = TalkState.WAITING
        self.capture = CaptureState.IDLE
        self.mask = MaskState.OFF
        self.payment = PaymentState.NONE

    @property
    def finished(self) -> bool:
        """Whether nothing can happen any more: the call is over and the payment's outcome known."""
        raise NotImplementedError

    def handle(self, event: Event) -> tuple[Effect, ...]:
        """Takes one event and says what to do about it, in order."""
        raise NotImplementedError
