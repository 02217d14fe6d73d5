"""What the parts of a dialogue share: the six machines, the session, the card and the way out for effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.card import Card, PANEntry
from sipivr.dialogue.asking import Asking
from sipivr.dialogue.effects import (
    ApplyMask,
    CardWiped,
    FieldName,
    FieldProgress,
    PublishCapture,
    PublishProgress,
    TimerName,
)
from sipivr.dialogue.outbox import Outbox
from sipivr.dialogue.session import Ending
from sipivr.dialogue.states import (
    CAPTURE_TRANSITIONS,
    CUSTOMER_TRANSITIONS,
    MASK_TRANSITIONS,
    OPERATOR_TRANSITIONS,
    PAYMENT_TRANSITIONS,
    TALK_TRANSITIONS,
    CaptureState,
    CustomerLegState,
    MaskState,
    OperatorLegState,
    PaymentState,
    TalkState,
    moved,
)
from sipivr.dialogue.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipivr.dialogue.params import DialogueParams
    from sipivr.dialogue.session import SessionSnapshot


class Core:
    """State of one call.

    Attributes:
        card: the card being keyed or charged; replaced by a fresh one for another card.
        attempts: how often this call has gone to the gateway.
        media_up: whether a media worker carries the customer's leg.
        mask_request: the mask asked for last. None: none ever was, so no key can have been card data.
        call_over_time: the longest call is reached; the next chance to end it is taken.
        still_pressing: key entry is over and keys keep coming.
    """

    def __init__(
        self,
        *,
        language: str,
        identification_lengths: tuple[int, ...],
        ending: Ending,
        params: DialogueParams,
        on_field_ended: Callable[[], None],
        on_silence: Callable[[], None],
    ) -> None:
        self.params = params
        self.ending = ending
        self.identification_lengths = identification_lengths
        self.outbox = Outbox()
        self.voice = Voice(self.outbox, language, params.prompt_s)
        self.asking = Asking(self.outbox, self.voice, params, on_ended=on_field_ended, on_silence=on_silence)
        self.customer = CustomerLegState.RINGING
        self.operator = OperatorLegState.CONNECTED if ending is Ending.BRIDGE else OperatorLegState.NONE
        self.talk = TalkState.WAITING
        self.capture = CaptureState.IDLE
        self.mask = MaskState.OFF
        self.payment = PaymentState.NONE
        self.session: SessionSnapshot | None = None
        self.card = Card()
        self.attempts = 0
        self.media_up = True
        self.mask_request: int | None = None
        self.call_over_time = False
        self.still_pressing = False
        self.expiry_complete = False
        self.security_code_complete = False
        self.card_keyed = False
        self._request = 0
        self._published: PublishProgress | None = None

    def next_request(self) -> int:
        """A number that correlates a question to the shell with its answer."""
        self._request += 1
        return self._request

    def request_mask(self) -> None:
        """Asks for the mask."""
        self.mask_request = self.next_request()
        self.move_mask(MaskState.APPLYING)
        self.outbox.emit(ApplyMask(self.mask_request))
        self.outbox.start(TimerName.MASK, self.params.mask_s)

    @property
    def the_session(self) -> SessionSnapshot:
        """The claimed session, where there must be one."""
        assert self.session is not None
        return self.session

    def move_customer(self, new: CustomerLegState) -> None:
        """Moves the customer's leg."""
        self.customer = moved(CUSTOMER_TRANSITIONS, self.customer, new)

    def move_operator(self, new: OperatorLegState) -> None:
        """Moves the operator's leg."""
        self.operator = moved(OPERATOR_TRANSITIONS, self.operator, new)

    def move_talk(self, new: TalkState) -> None:
        """Moves the conversation."""
        self.talk = moved(TALK_TRANSITIONS, self.talk, new)

    def move_capture(self, new: CaptureState) -> None:
        """Moves the capture and tells the shell."""
        self.capture = moved(CAPTURE_TRANSITIONS, self.capture, new)
        self.outbox.emit(PublishCapture(new, mask_held=self.mask is MaskState.ON))

    def move_mask(self, new: MaskState) -> None:
        """Moves the mask."""
        self.mask = moved(MASK_TRANSITIONS, self.mask, new)

    def move_payment(self, new: PaymentState) -> None:
        """Moves the payment."""
        self.payment = moved(PAYMENT_TRANSITIONS, self.payment, new)

    @property
    def card_held(self) -> bool:
        """Whether a digit of card data is held anywhere in the dialogue."""
        entry = self.asking.entry
        keyed = entry is not None and entry.length > 0 and self.capture is not CaptureState.IDLE
        return keyed or not self.card.wiped

    def wipe(self) -> None:
        """Overwrites all card data. The field being asked for is not asked any more.

        Told once for all that was keyed since it was told last: a wrong number is overwritten when it is
        refused, and the record says so even if nothing followed it.
        """
        self.asking.stop()
        self.card.wipe()
        self.card = Card()
        self.expiry_complete = self.security_code_complete = False
        if self.card_keyed:
            self.card_keyed = False
            self.outbox.emit(CardWiped())

    def publish_progress(self) -> None:
        """Tells the desk, if anything it may know has changed; nothing of a call that was never answered."""
        if self._published is None and self.customer is not CustomerLegState.CONNECTED:
            return
        script, entry = self.asking.script, self.asking.entry
        field = script.field if script is not None else None
        length = entry.length if entry is not None else 0
        pan_complete = self.card.brand is not None
        brand = self.card.brand
        if isinstance(entry, PANEntry) and length >= 4:
            brand = entry.brand
        progress = PublishProgress(
            field=field,
            pan_groups=length // 4 if field is FieldName.PAN else 0,
            pan_complete=pan_complete,
            brand=brand,
            expiry=_progress(field is FieldName.EXPIRY, length, complete=self.expiry_complete),
            security_code=_progress(
                field is FieldName.SECURITY_CODE, length, complete=self.security_code_complete
            ),
            payment=self.payment,
            no_keys_heard=self.asking.no_keys_heard,
            still_pressing=self.still_pressing,
        )
        if progress != self._published:
            self._published = progress
            self.outbox.emit(progress)


def _progress(asked: bool, length: int, *, complete: bool) -> FieldProgress:
    if complete:
        return FieldProgress.COMPLETE
    return FieldProgress.STARTED if asked and length else FieldProgress.EMPTY
