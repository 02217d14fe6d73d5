"""An inline call: the customer's leg and an operator's, bridged; captures in between.

    ringing ──operator answers──► talking ◄──handed back── capturing
       │                             │                        │ operator leaves
       └──nobody answers──► message ─┴──either leaves──► over ◄── the capture ends with a goodbye

- The customer is answered only when an operator has answered; ringing and early media are passed on until then.
- In talk the operator's side hears no keys (`clamp`), so that a card keyed at any time is decoded by nobody; only a
  number with `relay_keys` lets them pass, and only until a session is attached.
- During a capture customer → operator carries the session's mask, from the moment the capture is asked for until
  the dialogue hands back (invariant 1); operator → customer stays open or is silent (`operator_heard`), and is silent
  while the operator holds: nobody keys a card to music.
- If the operator leaves during a capture it goes on, and ends with a goodbye. If the operator leaves in talk, or the
  customer at any time, the other leg ends as well; a charge on its way lives on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from media.protocol import MaskMode
from sipivr.calls.call import Call
from sipivr.calls.conversation import Conversation
from sipivr.calls.desk_keys import DeskKeys
from sipivr.calls.dialling import Dialler
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.operator import OperatorSearch
from sipivr.calls.side import Side
from sipivr.calls.snapshots import snapshot
from sipivr.dialogue import Dialogue, Ending, SessionSnapshot, events
from sipivr.dialogue.phrases import Phrase, PhraseKey
from sipivr.store import write
from sipivr.store.errors import Conflict, StoreError
from sipivr.store.records import ClaimRefused, PaymentSession
from sipivr.ua.ports import SIPCause
from sipivr.ua.sdp import SessionDescription

log = logging.getLogger(__name__)

#: How long a call in talk waits for a new media worker, and a message for its end.
_MEDIA_S: Final = 10.0
_MESSAGE_S: Final = 20.0
#: A number that no dialogue comes to.
_MESSAGE_PLAYLIST: Final = 1_000_000
#: Wrong identification numbers by an operator's keys, a call.
_MAX_TRIES: Final = 3

MakeDialogue = Callable[[SessionSnapshot, Ending], Dialogue]


class CaptureRefused(Exception):
    """No capture begins now; says why, in a sentence for the operator."""


class InlineCall(Call):
    """See the module. `route` tells it where to go before it begins."""

    def route(
        self, *, dialler: Dialler, dialogue: MakeDialogue, caller: str | None, offered: bool, longest_s: float
    ) -> None:
        """What the call needs besides what all calls have.

        Args:
            dialler: makes the operator's leg.
            dialogue: makes the conversation of one capture.
            caller: E.164, None where it is withheld.
            offered: the customer's INVITE had an offer, so that it can hear something before the answer.
            longest_s: the longest call.
        """
        self.operator: Side | None = None
        self.claimed_by: str | None = None
        """The principal that has claimed the call on its desk."""
        self._dialogue = dialogue
        self._offered = offered
        self._longest_s = longest_s
        self._sdp: SessionDescription | None = None
        self.attached = False
        self._starting = False
        self._overtime = False
        self._message: int | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tries = 0
        self._desk_keys = DeskKeys(self.merchant.identification_digits, self._identified)
        self.search = OperatorSearch(
            self,
            self.number.rules.destinations,
            dialler=dialler,
            record=self.record,
            merchant=self.merchant.id,
            caller=caller,
            called=self.number.e164,
        )

    @property
    def sides(self) -> tuple[Side, ...]:
        """See `Call`."""
        return tuple(side for side in (self.customer, *self.search.dialled) if not side.ended)

    @property
    def operator_target(self) -> str | None:
        """What was rung to reach the operator who is on the line (a desk's extension is its user part)."""
        destination = self.search.destination
        return destination.target if destination is not None and self.operator is not None else None

    # -- finding an operator ----------------------------------------------------------------------------

    def begin(self, sdp: SessionDescription) -> None:
        """See `Call`: the customer hears ringing while operators are rung."""
        self._sdp = sdp
        self.customer.sip.ring()
        self.find_operator()

    def find_operator(self) -> None:
        """Rings the destinations, one after another."""
        self.background(self._find())

    async def _find(self) -> None:
        found = await self.search.find(lambda: self.listener)
        if found is not None:
            self.record.moment("operator.answered")
        elif not self.customer.ended:
            self.nobody()

    def side_ringing(self, side: Side, *, early_media: bool) -> None:
        """See `SideOwner`: what the operator's end sends before it answers is passed on."""
        media = self.listener
        if side is not self.search.side or self.customer.up or media is None:
            return
        if early_media and self._offered and self._sdp is not None and side.media is not None:
            self._watch(self.bridge.set(side.media, media, MaskMode.OPEN))
            self.customer.sip.ring(self._sdp, 183)
        else:
            self.customer.sip.ring()

    def side_answered(self, side: Side) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            super().side_answered(side)
        elif self.customer.ended or not self.search.answered(side):
            side.sip.hang_up()
        else:
            self.operator = side
            self.operator_up()

    def operator_up(self) -> None:
        """An operator has answered: so is the customer, and the two talk."""
        self.talk()
        if self._sdp is not None:
            self.customer.sip.answer(self._sdp)

    def customer_connected(self) -> None:
        """See `Call`."""
        self._later("longest", self._longest_s, self._too_long)

    def nobody(self) -> None:
        """Every destination was rung in vain: a message if it can be heard, then the refusal."""
        self.record.refused("no_operator")
        self.services.count("no_operator")
        if self._offered and self._sdp is not None:
            self.customer.sip.ring(self._sdp, 183)
            self.say_nobody()
        else:
            self.refuse()

    def say_nobody(self) -> None:
        """The announcement, and then the end."""
        self._later("message", _MESSAGE_S, self.refuse)
        self.background(self._say_nobody())

    async def _say_nobody(self) -> None:
        language = self.number.language or self.merchant.language
        path = await self.services.prompts.render(language, Phrase(PhraseKey.NO_OPERATOR))
        media = self.listener
        if media is not None and not media.lost:
            self._message = _MESSAGE_PLAYLIST
            media.play(self._message, [path], barge_in=False, repeat=False)

    def refuse(self) -> None:
        """Nobody can talk with the customer."""
        self._stop("message")
        self.customer.sip.refuse(486 if self.search.all_busy else 480)

    # -- capture ----------------------------------------------------------------------------------------

    async def capture(self, session: str) -> None:
        """Begins the capture of a payment session.

        Raises:
            CaptureRefused: not now, or not this session.
        """
        await self._capture(
            lambda: self.services.writer.run(
                write.claim_session, merchant=self.merchant.id, session=session, call=self.id
            )
        )

    async def _capture(self, claim: Callable[[], Awaitable[PaymentSession | ClaimRefused]]) -> None:
        if self._starting or self.conversation is not None:
            raise CaptureRefused("a capture is running on this call")
        if self._both() is None:
            raise CaptureRefused("customer and operator are not connected")
        self._starting = True
        try:
            claimed = await claim()
        except Conflict as error:
            raise CaptureRefused(error.detail) from None
        except StoreError as error:
            log.error("call %s: a session could not be claimed: %s", self.id, error)
            raise CaptureRefused("the store cannot be written now") from None
        finally:
            self._starting = False
        if isinstance(claimed, ClaimRefused):
            self.services.count(f"identification_refused_{claimed.reason.value}")
            raise CaptureRefused(f"the payment session cannot be taken: {claimed.reason.value}")
        self._open_capture(claimed)

    def _open_capture(self, session: PaymentSession) -> None:
        shop = self.services.directory.shop(session.shop)
        both = self._both()
        if shop is None or not shop.active or both is None:
            self.services.record(write.release_claim, session=session.id, call=self.id)
            raise CaptureRefused("the shop takes no payments now, or a leg has ended")
        # Attached: from here on keys never pass again, and the mask is on before a word is said.
        self.attached = True
        picture = snapshot(
            session,
            shop,
            self.merchant,
            self.services.today(),
            self.services.directory.attempts(session.id),
            voice_masked=self._mask_of(session) is not MaskMode.CLAMP,
        )
        self.services.background(
            self.services.prompts.prepare_session(
                picture.language, picture.shop_name, picture.amount, picture.currency
            )
        )
        self.converse(self._dialogue(picture, Ending.BRIDGE), session=session, shop=shop)
        self._watch(self.bridge.set(*both, self._mask_of(session)))
        self._set_operator_path()
        self.feed(events.CustomerConnected())

    def take_back(self) -> bool:
        """The operator wants to talk with the customer again; False: nothing is being captured."""
        running = self.conversation is not None
        self.feed(events.OperatorTookBack())
        return running

    def reset_field(self) -> bool:
        """The operator asks for the current field again; False: nothing is being captured."""
        running = self.conversation is not None
        self.feed(events.OperatorResetField())
        return running

    def mask(self, conversation: Conversation) -> asyncio.Future[None] | None:
        """See `Host`. When the operator has left, nobody is there whom anything could reach."""
        both, session = self._both(), conversation.session
        if self.operator is None or self.operator.ended:
            nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nobody.set_result(None)
            return nobody
        if both is None or session is None:
            return None
        return self.bridge.set(*both, self._mask_of(session))

    def lift_mask(self, conversation: Conversation) -> None:
        """See `Host`: voices pass again, keys do not."""
        both = self._both()
        if both is not None:
            self._watch(self.bridge.set(*both, MaskMode.CLAMP))

    def hand_back(self, conversation: Conversation) -> None:
        """See `Host`."""
        self.let_go(conversation)
        if self._overtime or self._both() is None:
            self.hang_up_customer()
            return
        self.talk()

    # -- the paths --------------------------------------------------------------------------------------

    def _both(self) -> tuple[MediaLeg, MediaLeg] | None:
        """Customer's and operator's media while both are up and live on a worker."""
        operator = self.operator
        if operator is None or operator.ended or not self.customer.up or self.customer.ended:
            return None
        if self.customer.media is None or operator.media is None or operator.media.lost:
            return None
        return self.customer.media, operator.media

    def talk(self) -> None:
        """Voices pass in both directions, keys in none."""
        customer, operator = self.customer.media, self.operator.media if self.operator else None
        if customer is None or operator is None or customer.lost:
            return
        passing = self.number.rules.relay_keys and not self.attached
        self._watch(self.bridge.set(customer, operator, MaskMode.OPEN if passing else MaskMode.CLAMP))
        self._watch(self.bridge.set(operator, customer, MaskMode.OPEN))

    def _set_operator_path(self) -> None:
        both = self._both()
        if both is None or self.operator is None:
            return
        closed = self.conversation is not None and (
            not self.number.rules.operator_heard or self.operator.held
        )
        self._watch(self.bridge.set(both[1], both[0], MaskMode.SILENCE if closed else MaskMode.OPEN))

    def _mask_of(self, session: PaymentSession) -> MaskMode:
        return MaskMode(self.merchant.mask_of(session))

    def _watch(self, answer: asyncio.Future[None]) -> None:
        """A path that the worker refuses stays silent; a call without its paths is ended."""

        def answered(done: asyncio.Future[None]) -> None:
            lost = self.customer.media is None or self.customer.media.lost
            if done.cancelled() or done.exception() is None or lost or not self.sides:
                return
            log.error("call %s: the worker refused to connect its legs: %s", self.id, done.exception())
            self.services.count("bridges_refused")
            self.hang_up("switch")

        answer.add_done_callback(answered)

    # -- what happens on the sides ----------------------------------------------------------------------

    def side_changed(self, side: Side) -> None:
        """See `SideOwner`: an operator who holds is not heard during a capture."""
        if side is self.operator:
            self._set_operator_path()

    def side_key(self, side: Side, key: int) -> None:
        """See `SideOwner`: an operator's keys may say `*9` and an identification number."""
        if side is self.operator and self.customer.up:
            self._desk_keys.key(key)
        else:
            super().side_key(side, key)

    def side_played(self, side: Side, playlist: int, *, interrupted: bool) -> None:
        """See `SideOwner`."""
        if side is self.customer and self.conversation is None and playlist == self._message:
            self.refuse()
        else:
            super().side_played(side, playlist, interrupted=interrupted)

    def side_fault(self, side: Side) -> None:
        """See `SideOwner`: in talk the legs are silent and stay so."""
        super().side_fault(side)
        if self.conversation is None:
            self.hang_up("switch")

    def side_media_lost(self, side: Side) -> None:
        """See `SideOwner`."""
        super().side_media_lost(side)
        if side is self.customer and self.conversation is None:
            self._later("media", _MEDIA_S, lambda: self.hang_up("switch"))

    def media_restored(self) -> None:
        """See `Call`."""
        self._stop("media")
        super().media_restored()

    def side_ended(self, side: Side, cause: SIPCause) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            self.search.give_up()
            for timer in list(self._timers):
                self._stop(timer)
            self._desk_keys.stop()
            if self.operator is not None and not self.operator.ended:
                self.operator.sip.hang_up()
        elif side is self.operator:
            self.record.moment("operator.left", status=cause.status)
            if self.conversation is not None:
                self.feed(events.OperatorHungUp())
            elif not self.customer.ended:
                if cause.by_remote:
                    self.record.ended_by = self.record.ended_by or "operator"
                self.hang_up_customer()
        else:
            self.search.ended(side, cause)
        super().side_ended(side, cause)

    def _too_long(self) -> None:
        """A running capture ends by its own rules first (`DialogueParams.call_s`)."""
        self._overtime = True
        if self.conversation is None:
            self.hang_up("switch")

    # -- `*9` -------------------------------------------------------------------------------------------

    def _identified(self, digits: str) -> None:
        if self._tries < _MAX_TRIES:
            self.background(self._capture_by_keys(digits))

    async def _capture_by_keys(self, digits: str) -> None:
        try:
            await self._capture(
                lambda: self.services.writer.run(
                    write.claim_identification_number, merchant=self.merchant.id, digits=digits, call=self.id
                )
            )
        except CaptureRefused as error:
            self._tries += 1
            log.info("call %s: no capture by keys: %s", self.id, error)
            self.record.moment("capture.refused")
            await self._tell_operator(PhraseKey.IDENTIFICATION_REFUSED)

    async def _tell_operator(self, key: PhraseKey) -> None:
        language = self.number.language or self.merchant.language
        path = await self.services.prompts.render(language, Phrase(key))
        side = self.operator
        if side is not None and side.up and side.media is not None and not side.media.lost:
            side.media.play(self._tries, [path], barge_in=True, repeat=False)

    # -- timers -----------------------------------------------------------------------------------------

    def _later(self, name: str, seconds: float, function: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, function)

    def _stop(self, name: str) -> None:
        running = self._timers.pop(name, None)
        if running is not None:
            running.cancel()
