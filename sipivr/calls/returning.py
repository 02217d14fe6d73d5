"""A transfer that the merchant's PBX cannot take back: the customer is alone with us, and the operator is dialled.

The PBX has transferred blindly, so hanging up would end the call for good. The customer keys the identification
number and the card as in any transfer; when the result is known, the operator is rung and the two are connected: from
then on it is an inline call, further captures included.

Where the PBX's trunk allows it (`return_by_refer`) the PBX is asked to do that itself (REFER, RFC 3515), which frees
both of our legs; if it will not, or says nothing in time, the operator is dialled after all.
"""

from __future__ import annotations

import asyncio
from typing import Final

from media.protocol import MaskMode
from sipivr.calls.conversation import Conversation
from sipivr.calls.inline import InlineCall
from sipivr.calls.side import Side
from sipivr.dialogue import events
from sipivr.dialogue.phrases import Phrase, PhraseKey
from sipivr.store import reach
from sipivr.ua.ports import SIPCause
from sipivr.ua.sdp import SessionDescription

#: A number that no dialogue comes to.
_WAITING_PLAYLIST = 1_000_001
#: How long a PBX may take from our REFER to the answer of its call.
_REFER_S: Final = 30.0
_DONE: Final = 200
_REFUSED: Final = 300


class ReturningCall(InlineCall):
    """See the module. `converse` gives it its first conversation before it begins."""

    _referring = False

    def begin(self, sdp: SessionDescription) -> None:
        """See `Call`: the customer is answered at once."""
        self.customer.sip.answer(sdp)

    def customer_connected(self) -> None:
        """See `Call`."""
        super().customer_connected()
        self.feed(events.CustomerConnected())
        media = self.customer.media
        if media is not None and media.lost:  # while it rang: then nobody had to be told
            self.feed(events.MediaLost())

    def mask(self, conversation: Conversation) -> asyncio.Future[None] | None:
        """See `Host`. Should the PBX have kept the operator in the call after all, the merchant's bridge mask plays."""
        if self.operator is not None:
            return super().mask(conversation)
        media = self.listener
        return None if media is None else self.bridge.set(media, media, MaskMode(self.merchant.bridge_mask))

    def lift_mask(self, conversation: Conversation) -> None:
        """See `Host`."""
        if self.operator is not None:
            super().lift_mask(conversation)
        elif self.customer.media is not None:
            self.bridge.part(self.customer.media, self.customer.media)

    def hand_back(self, conversation: Conversation) -> None:
        """See `Host`: the first time there is nobody yet to hand the customer back to."""
        if self.operator is not None:
            super().hand_back(conversation)
            return
        self.let_go(conversation)
        media = self.customer.media
        if media is not None:
            self.bridge.part(media, media)
        self.attached = True
        self.search.extension = self._extension(conversation)
        if not self._refer_back():
            self.find_operator_for_customer()

    def _refer_back(self) -> bool:
        """Asks the PBX to connect the customer with the first destination; False: it is not asked."""
        directory = self.services.directory
        trunk = directory.trunk(self.customer.trunk)
        if trunk is None or not trunk.rules.return_by_refer:
            return False
        for destination in self.number.rules.destinations:
            named = destination.at(self.search.extension)
            if named is not None and named.trunk == trunk.id:
                break
        else:
            return False
        if reach.reason_against(named, trunk, self.merchant.id) is not None:
            return False
        self.record.moment("refer.sent")
        self._referring = True
        self.customer.sip.refer(f"sip:{named.number}@{trunk.rules.proxy}" if named.number else named.target)
        self._later("refer", _REFER_S, lambda: self._not_referred(408))
        self.background(self._wait())
        return True

    def side_transferred(self, side: Side, status: int, *, final: bool) -> None:
        """See `SideOwner`: the PBX has the customer again once its own call is answered."""
        if side is not self.customer or not self._referring:
            return
        if status >= _REFUSED:
            self._not_referred(status)
        elif final and status >= _DONE:
            self._referring = False
            self._stop("refer")
            self.record.moment("refer.done")
            self.hang_up("switch")

    def side_ended(self, side: Side, cause: SIPCause) -> None:
        """See `SideOwner`: a PBX that takes its leg back while it transfers is no customer who hangs up."""
        if side is self.customer and self._referring:
            self._referring = False
            self.record.ended_by = self.record.ended_by or "pbx"
        super().side_ended(side, cause)

    def _not_referred(self, status: int) -> None:
        self._referring = False
        self._stop("refer")
        self.record.moment("refer.failed", status=status)
        self.services.count("refers_failed")
        if not self.customer.ended:
            self.find_operator_for_customer()

    def find_operator_for_customer(self) -> None:
        """Rings operators while the customer, who is up, hears the waiting tone."""
        self.background(self._wait())
        self.find_operator()

    def operator_up(self) -> None:
        """See `InlineCall`: the customer has been up for long."""
        media = self.listener
        if media is not None:
            media.stop_playing()
        self.talk()

    def nobody(self) -> None:
        """Every destination was rung in vain: an announcement, then the end. The payment stands as it is."""
        self.record.moment("operator.none")
        self.services.count("no_operator")
        self.say_nobody()

    def refuse(self) -> None:
        """See `InlineCall`: the customer is up."""
        self.hang_up("switch")

    def _extension(self, conversation: Conversation) -> str | None:
        session = conversation.session
        return self.services.directory.extension(session.created_by) if session is not None else None

    async def _wait(self) -> None:
        """The waiting tone while operators are rung."""
        language = self.number.language or self.merchant.language
        path = await self.services.prompts.render(language, Phrase(PhraseKey.WAIT_TONE))
        media = self.listener
        if media is not None and not media.lost and self.operator is None:
            media.play(_WAITING_PLAYLIST, [path], barge_in=False, repeat=True)
