"""A call whose only leg is the customer's: transferred to us by the merchant's PBX, or self-service.

With a transfer the operator is in it too, on the PBX's three-way bridge: what plays there is the only mask
there can be, and to hang up is the way back.
"""

from __future__ import annotations

import asyncio

from media.protocol import MaskMode
from sipivr.calls.call import Call
from sipivr.calls.conversation import Conversation
from sipivr.dialogue import events
from sipivr.ua.sdp import SessionDescription


class TransferCall(Call):
    """See the module. `converse` gives it its conversation before it begins."""

    def begin(self, sdp: SessionDescription) -> None:
        """See `Call`: there is nobody to wait for."""
        self.customer.sip.answer(sdp)

    def customer_connected(self) -> None:
        """See `Call`."""
        self.feed(events.CustomerConnected())
        media = self.customer.media
        if media is not None and media.lost:  # while it rang: then nobody had to be told
            self.feed(events.MediaLost())

    def mask(self, conversation: Conversation) -> asyncio.Future[None] | None:
        """See `Host`. The bridge is the merchant's: what plays into it is all that can be done there."""
        media = self.listener
        if media is None:
            return None
        return self.bridge.set(media, media, MaskMode(self.merchant.bridge_mask))

    def lift_mask(self, conversation: Conversation) -> None:
        """See `Host`."""
        if self.customer.media is not None:
            self.bridge.part(self.customer.media, self.customer.media)

    def hand_back(self, conversation: Conversation) -> None:
        """See `Host`: a transfer returns by hanging up."""
        self.hang_up_customer()
