"""From the greeting to the announced amount: which payment session does this call belong to?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.effects import ClaimSession, ReleaseSession, Result, TimerName
from sipivr.dialogue.events import RefusalReason
from sipivr.dialogue.fields import IdentificationEntry, identification_script
from sipivr.dialogue.phrases import Amount, DigitCount, Phrase, PhraseKey, ShopName
from sipivr.dialogue.states import TalkState

if TYPE_CHECKING:
    from sipivr.dialogue.capturing import Capturing
    from sipivr.dialogue.closing import Closing
    from sipivr.dialogue.core import Core
    from sipivr.dialogue.session import SessionSnapshot


class Identifying:
    """Asks for the identification number, claims the session, announces it."""

    def __init__(self, core: Core, closing: Closing, capturing: Capturing) -> None:
        self._core = core
        self._closing = closing
        self._capturing = capturing
        self._refusals = 0
        self._claim: int | None = None

    def begin(self) -> None:
        """Greets and asks."""
        self._core.move_talk(TalkState.IDENTIFYING)
        self.ask(Phrase(PhraseKey.GREETING))

    def begin_claimed(self, session: SessionSnapshot) -> None:
        """The session is known: announces it."""
        self._core.session = session
        self._core.voice.language = session.language
        self._core.move_talk(TalkState.ANNOUNCING)
        self.announce()

    def ask(self, *lead: Phrase) -> None:
        """Asks for the number, saying `lead` first."""
        lengths = self._core.identification_lengths
        script = identification_script(self._core.params, lengths)
        self._core.asking.ask(script, IdentificationEntry(lengths), lead)

    def field_ended(self) -> None:
        """A number has been keyed: claims the session behind it, if it can be one."""
        core, entry = self._core, self._core.asking.entry
        assert isinstance(entry, IdentificationEntry)
        if not entry.complete:
            self._refuse(Phrase(PhraseKey.IDENTIFICATION_INCOMPLETE, (DigitCount(entry.length),)))
            return
        number = entry.number
        core.asking.stop()
        core.move_talk(TalkState.CLAIMING)
        self._claim = core.next_request()
        core.outbox.emit(ClaimSession(self._claim, number))
        core.outbox.start(TimerName.CLAIM, core.params.claim_s)

    def claimed(self, request: int, session: SessionSnapshot) -> None:
        """The session is ours; one that comes too late is given back at once."""
        core = self._core
        if core.talk is not TalkState.CLAIMING or request != self._claim:
            if core.session is None or core.session.session_id != session.session_id:
                core.outbox.emit(ReleaseSession(session.session_id))
            return
        core.outbox.stop(TimerName.CLAIM)
        self.begin_claimed(session)

    def announce(self) -> None:
        """Shop and amount; then the card."""
        session = self._core.the_session
        amount = Amount(session.amount, session.currency)
        phrase = Phrase(PhraseKey.SHOP_AND_AMOUNT, (ShopName(session.shop_name), amount))
        self._core.voice.say((phrase,), self._announced)

    def refused(self, request: int, reason: RefusalReason) -> None:
        """The number is none of ours, or not any more: the same message for every such reason."""
        core = self._core
        if core.talk is not TalkState.CLAIMING or request != self._claim:
            return
        core.outbox.stop(TimerName.CLAIM)
        if reason is RefusalReason.UNAVAILABLE:
            self.unavailable()
            return
        core.move_talk(TalkState.IDENTIFYING)
        if reason is RefusalReason.LIMITED:
            self._refusals = core.params.max_identifications
        self._refuse(Phrase(PhraseKey.IDENTIFICATION_REFUSED))

    def unavailable(self) -> None:
        """We cannot tell whether the number is good."""
        self._closing.begin(Result.SERVICE_UNAVAILABLE, Phrase(PhraseKey.SERVICE_UNAVAILABLE))

    def _refuse(self, message: Phrase) -> None:
        self._refusals += 1
        if self._refusals >= self._core.params.max_identifications:
            final = Phrase(PhraseKey.IDENTIFICATION_REFUSED_FINALLY)
            self._closing.begin(Result.IDENTIFICATION_REFUSED, final)
        else:
            self.ask(message)

    def _announced(self, _spoken: bool) -> None:
        self._capturing.begin()
