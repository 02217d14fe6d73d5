"""A call that we make to a customer: what begins when the customer answers.

By the use of the number that it is made from: self-service (the dialogue, then a goodbye), a transfer's number with
destinations (the dialogue, then an operator), or inline (an operator at once, who talks and captures as in any
inline call).
"""

from __future__ import annotations

import asyncio

from sipivr.calls.returning import ReturningCall
from sipivr.calls.side import Side
from sipivr.ua.ports import SIPCause

#: RFC 3261 §21.4.19, §21.6.1: what is no answer and no failure.
_OUTCOMES = {486: "busy", 600: "busy", 480: "no_answer", 408: "no_answer", 603: "declined_by_customer"}


class OutboundCall(ReturningCall):
    """See the module. `converse` may give it a conversation; without one the operator is rung first."""

    _ringing: asyncio.TimerHandle | None = None

    def ring_for(self, seconds: float) -> None:
        """The INVITE is out; who has not answered by then does not answer."""
        self._ringing = asyncio.get_running_loop().call_later(seconds, self._no_answer)

    def customer_connected(self) -> None:
        """See `Call`."""
        self._stop_ringing()
        super().customer_connected()
        if self.conversation is None:
            self.find_operator_for_customer()

    def side_ended(self, side: Side, cause: SIPCause) -> None:
        """See `SideOwner`: why a customer was not reached is the call's outcome."""
        if side is self.customer:
            self._stop_ringing()
            if not self.answered:
                self.record.not_reached(_OUTCOMES.get(cause.status, "not_reached"), self.record.ended_by)
        super().side_ended(side, cause)

    @property
    def answered(self) -> bool:
        """The customer has been reached."""
        return self.customer.answered_once

    def _no_answer(self) -> None:
        self._ringing = None
        self.record.not_reached("no_answer", "switch")
        self.customer.sip.hang_up()

    def _stop_ringing(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
            self._ringing = None
