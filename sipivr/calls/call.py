"""A call: the customer's side, the conversation on it, and how all of it ends.

What the kinds of call have in common is here; `transfer` and `inline` say what is theirs. What happens on a
side becomes an event of the conversation's dialogue. The call is over when all of its legs have ended; it stays
with the switchboard until its conversations have finished as well, because a payment may outlive its call.

Fail closed: a fault anywhere ends this call alone, wipes the card and removes the media legs, which silences them.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from sipivr.calls.call_record import CallRecord
from sipivr.calls.conversation import Conversation
from sipivr.calls.media_bridge import MediaBridge
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaWorker
from sipivr.calls.restoration import Restoration
from sipivr.calls.services import Services
from sipivr.calls.side import Side
from sipivr.dialogue import Dialogue, events
from sipivr.store.records import Merchant, Number, PaymentSession, Shop
from sipivr.ua.ports import SIPCause
from sipivr.ua.sdp import SessionDescription

log = logging.getLogger(__name__)


class Call(ABC):
    """See the module. Made by the reception once a call is admitted.

    Args:
        id: of the call record.
        number: that was called.
        merchant: whose number it is.
        record: of this call in the store.
        services: the rest of the house.
        over: is told once when nothing of this call is left.
    """

    customer: Side

    def __init__(
        self,
        id: str,
        *,
        number: Number,
        merchant: Merchant,
        record: CallRecord,
        services: Services,
        over: Callable[[Call], None],
    ) -> None:
        self.id = id
        self.number = number
        self.merchant = merchant
        self.record = record
        self.services = services
        self.bridge = MediaBridge()
        self.conversation: Conversation | None = None
        self._past: list[Conversation] = []
        self._restoration = Restoration(
            services.media,
            self.bridge,
            background=self.background,
            restored=self._media_restored,
            failed=self._media_not_restored,
        )
        self._over = over
        self._gone = False
        self.broken = False

    # -- what a kind of call says for itself ------------------------------------------------------------

    @abstractmethod
    def begin(self, sdp: SessionDescription) -> None:
        """The call is recorded and its media leg lives; `sdp` is our answer to the customer (or our offer)."""

    @abstractmethod
    def mask(self, conversation: Conversation) -> asyncio.Future[None] | None:
        """See `Host`."""

    @abstractmethod
    def lift_mask(self, conversation: Conversation) -> None:
        """See `Host`."""

    @abstractmethod
    def hand_back(self, conversation: Conversation) -> None:
        """See `Host`."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """Those that live."""
        return () if self.customer.ended else (self.customer,)

    def converse(
        self, dialogue: Dialogue, *, session: PaymentSession | None = None, shop: Shop | None = None
    ) -> None:
        """The conversation that the customer has from now on; `session`, `shop`: claimed for the call already."""
        self.conversation = Conversation(
            dialogue,
            host=self,
            merchant=self.merchant,
            record=self.record,
            services=self.services,
            session=session,
            shop=shop,
        )

    # -- for the control socket and the drain -----------------------------------------------------------

    @property
    def session(self) -> PaymentSession | None:
        """The payment session that the call has claimed last."""
        conversation = self.conversation or (self._past[-1] if self._past else None)
        return conversation.session if conversation is not None else None

    def cancel_session(self) -> None:
        """The merchant has cancelled the payment session."""
        self.feed(events.SessionCancelled())

    def hang_up(self, ended_by: str = "api") -> None:
        """Somebody with the right to it ends the call."""
        self.record.ended_by = ended_by
        self.hang_up_customer()

    def refused(self, reason: str, *, recorded: bool) -> None:
        """The call was admitted and could not be answered after all; its leg is being refused."""
        self.record.refused(reason)
        if not recorded:
            self.record.not_begun()
            self.customer.record.begun = False

    def fault(self, error: BaseException) -> None:
        """Something of ours failed: this call ends, its card is wiped, no other call notices."""
        self.services.count("call_faults")
        # The type and place only: a message could quote a value (PCI DSS 3.3.1).
        log.error("call %s: %s; ending it", self.id, type(error).__name__, exc_info=_without_values(error))
        self.broken = True
        for conversation in self._conversations:
            conversation.abandon()
        self.record.fault()
        for side in self.sides:
            side.sip.hang_up(500)
        self.settle()

    # -- `Host` of a conversation -----------------------------------------------------------------------

    @property
    def listener(self) -> MediaLeg | None:
        """See `Host`."""
        return None if self.customer.ended else self.customer.media

    def hang_up_customer(self) -> None:
        """See `Host`."""
        self.customer.sip.hang_up()

    def background(self, work: Awaitable[None]) -> None:
        """See `Host`."""
        self.services.background(self._guarded(work))

    def feed(self, event: events.Event) -> None:
        """Gives the running conversation an event."""
        if self.conversation is not None:
            self.conversation.feed(event)

    def let_go(self, conversation: Conversation) -> None:
        """The conversation is over for the customer; its payment may not be."""
        if self.conversation is conversation:
            self.conversation = None
        self._past = [one for one in self._past if not one.finished]
        self._past.append(conversation)

    def settle(self) -> None:
        """Leaves the switchboard once the legs have ended and no conversation has anything left to do."""
        if self._gone or self.sides or not all(one.finished for one in self._conversations):
            return
        self._gone = True
        for conversation in self._conversations:
            conversation.close()
        # Only now: the outcome of a charge that outlived the leg was shown, too.
        self.services.progress.forget(self.id)
        self._over(self)

    # -- `SideOwner` ------------------------------------------------------------------------------------

    def side_answered(self, side: Side) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            self.record.answered()
            self.customer_connected()

    @abstractmethod
    def customer_connected(self) -> None:
        """The customer's leg is up."""

    def side_ringing(self, side: Side, *, early_media: bool) -> None:  # noqa: B027 - most kinds dial nobody
        """See `SideOwner`."""

    def side_changed(self, side: Side) -> None:  # noqa: B027 - most kinds need not know
        """See `SideOwner`."""

    def side_key(self, side: Side, key: int) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            self.feed(events.KeyPressed(key))

    def side_played(self, side: Side, playlist: int, *, interrupted: bool) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            self.feed(events.PlayFinished(playlist, interrupted))

    def side_fault(self, side: Side) -> None:
        """See `SideOwner`."""
        self.feed(events.MaskFailed())

    def side_media_lost(self, side: Side) -> None:
        """See `SideOwner`. All sides of a call are on one worker."""
        if side is not self.customer:
            return
        log.warning("call %s: its media worker is gone", self.id)
        self.services.count("media_lost")
        if self.conversation is not None:
            self.conversation.media_lost()

    def side_silent(self, side: Side) -> None:
        """See `SideOwner`."""
        self.record.ended_by = "rtp_timeout"
        side.sip.hang_up()

    def side_reanswered(self, side: Side, followed: asyncio.Future[None]) -> None:
        """See `SideOwner`."""
        if side.media is not None:
            self._restoration.reanswered(side.media, followed)

    def side_reoffer_failed(self, side: Side, status: int) -> None:
        """See `SideOwner`."""
        if side.media is not None:
            self._restoration.reoffer_failed(side.media, status)

    def side_transferred(self, side: Side, status: int, *, final: bool) -> None:  # noqa: B027 - most kinds never ask
        """See `SideOwner`."""

    def side_ended(self, side: Side, cause: SIPCause) -> None:
        """See `SideOwner`."""
        if side is self.customer:
            # First what the customer's leaving means for a charge, then the end of the record.
            self.feed(events.CustomerHungUp())
        self.remove_media(side)
        if side is self.customer:
            by_switch = self.record.ended_by
            side.record.ended(cause, by_switch)
            self.record.ended(cause)
        else:
            side.record.ended(cause)
        self.settle()

    def remove_media(self, side: Side) -> None:
        """Takes a side's leg off the worker."""
        if side.media is not None:
            self.bridge.forget(side.media)
            side.media.remove()

    # -- media ------------------------------------------------------------------------------------------

    def worker_arrived(self, worker: MediaWorker) -> None:
        """A worker has connected: perhaps the successor of ours."""
        legs = tuple((side.media, side.sip) for side in self.sides if side.media is not None)
        if legs:
            self._restoration.worker_arrived(worker, legs)

    def _media_restored(self) -> None:
        if self.sides:
            self.media_restored()

    def media_restored(self) -> None:
        """All legs live again, and the connections are as they were declared."""
        self.feed(events.MediaRestored())

    def _media_not_restored(self, reason: str) -> None:
        log.error("call %s: its media could not be restored: %s", self.id, reason)
        for side in self.sides:
            side.sip.hang_up(500)

    # -- the rest ---------------------------------------------------------------------------------------

    @property
    def _conversations(self) -> tuple[Conversation, ...]:
        return (*self._past, self.conversation) if self.conversation is not None else tuple(self._past)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self.fault(error)


def _without_values(error: BaseException) -> BaseException:
    """The same traceback behind an exception without a message."""
    bare = RuntimeError(type(error).__name__)
    return bare.with_traceback(error.__traceback__)
