"""The search for an operator: destinations are rung one after another until one answers.

Each rings for its own time; busy, no answer, unreachable and refused all mean: the next. Whoever answers after the
search has gone on, or after the customer has left, is hung up on at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sipivr.calls.call_record import CallRecord
from sipivr.calls.dialling import Dialler, Unreachable
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.side import Side, SideOwner
from sipivr.store.number_rules import Destination
from sipivr.ua.ports import SIPCause

log = logging.getLogger(__name__)

#: 486 Busy Here, 600 Busy Everywhere (RFC 3261 §21).
_BUSY = frozenset({486, 600})


class OperatorSearch:
    """See the module.

    Args:
        owner: the call.
        destinations: in their order.
        dialler: makes the legs.
        record: of the call: every try leaves a moment.
        merchant: whose call it is.
        caller: E.164, None where it is withheld.
        called: the number that was called.
    """

    extension: str | None = None
    """What stands for `{extension}` in a destination: the operator's who is wanted back."""

    def __init__(
        self,
        owner: SideOwner,
        destinations: tuple[Destination, ...],
        *,
        dialler: Dialler,
        record: CallRecord,
        merchant: str,
        caller: str | None,
        called: str,
    ) -> None:
        self.side: Side | None = None
        """The leg that rings now, or that has answered."""
        self.dialled: list[Side] = []
        """All legs of the search; those that were given up may take a moment to end."""
        self.destination: Destination | None = None
        self.all_busy = bool(destinations)
        self._owner = owner
        self._destinations = destinations
        self._dialler = dialler
        self._record = record
        self._merchant = merchant
        self._caller = caller
        self._called = called
        self._outcome: asyncio.Future[SIPCause | None] | None = None
        self._given_up = False

    async def find(self, beside: Callable[[], MediaLeg | None]) -> Side | None:
        """Rings until somebody answers.

        Args:
            beside: the customer's media leg, None when the customer has left.

        Returns:
            The leg that has answered; None if nobody did, or the search was given up.
        """
        for place, destination in enumerate(self._destinations):
            media = beside()
            if self._given_up or media is None or media.lost:
                return None
            outcome = await self._try(destination, media)
            if self._given_up:
                return None
            self._record.moment("operator.rung", destination=place, outcome=outcome)
            if outcome == "answered":
                return self.side
            self.all_busy &= outcome == "busy"
        return None

    def answered(self, side: Side) -> bool:
        """A leg that we dialled was answered; False: it is not wanted any more."""
        wanted = side is self.side and not self._given_up and self._outcome is not None
        if wanted and self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(None)
            return True
        return False

    def ended(self, side: Side, cause: SIPCause) -> None:
        """A leg that we dialled has ended without having been answered."""
        if side is self.side and self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(cause)

    def give_up(self) -> None:
        """The customer has left: nobody is rung any longer."""
        self._given_up = True
        if self._outcome is not None and not self._outcome.done():
            self._outcome.cancel()
        if self.side is not None and not self.side.ended:
            self.side.sip.hang_up()

    async def _try(self, destination: Destination, beside: MediaLeg) -> str:
        # The former leg may end only now: that is not the outcome of this one.
        self.side = None
        outcome = self._outcome = asyncio.get_running_loop().create_future()
        named = destination.at(self.extension)
        if named is None:
            return "no_extension"
        destination = named
        try:
            side = await self._dialler.ring(
                self._owner,
                destination,
                merchant=self._merchant,
                caller=self._caller,
                called=self._called,
                beside=beside,
            )
        except Unreachable as error:
            return error.reason
        self.side, self.destination = side, destination
        self.dialled.append(side)
        if self._given_up:
            side.sip.hang_up()
            return "given_up"
        try:
            cause = await asyncio.wait_for(asyncio.shield(outcome), destination.ring_s)
        except TimeoutError:
            self._outcome = None  # an answer that crosses our CANCEL comes too late
            side.sip.hang_up()
            return "no_answer"
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            return "given_up"
        if cause is None:
            return "answered"
        return "busy" if cause.status in _BUSY else f"failed_{cause.status}"
