"""A merchant's PBX as a customer and an operator meet it: three parties in one conference.

Audio of each is mixed to the other two. Keys that arrive as telephone-event are passed on as telephone-event
to the switch alone, as PBXs do; keys that are tones in the audio are heard by everybody, the operator included
(that is inherent in a bridge that the merchant owns).
"""

from __future__ import annotations

from itertools import permutations

from bench.telephone.phone import PhoneCall, Telephone
from media.protocol import KeyPressed, KeyWay


class ThreeWayBridge:
    """Customer, operator and switch in one conference; parties may come and go.

    Args:
        phone: the PBX's lines; all parties are calls of it.
    """

    def __init__(self, phone: Telephone) -> None:
        self._phone = phone
        self._parties: list[PhoneCall] = []
        self._switch: PhoneCall | None = None

    def join(self, call: PhoneCall, *, switch: bool = False) -> None:
        """A party joins; the one that is the switch is sent the others' keys."""
        for other in self._parties:
            self._phone.connect(call, other)
            self._phone.connect(other, call)
        self._parties.append(call)
        if switch:
            self._switch = call
        else:
            call.on_key = self._key

    def leave(self, call: PhoneCall) -> None:
        """A party leaves; the others go on."""
        self._parties.remove(call)
        call.on_key = None
        if self._switch is call:
            self._switch = None
        for other in self._parties:
            self._phone.disconnect(call, other)
            self._phone.disconnect(other, call)

    def hears(self) -> int:
        """How many directed pairs are connected."""
        return len(list(permutations(self._parties, 2)))

    def _key(self, event: KeyPressed) -> None:
        if self._switch is not None and self._switch.up and event.way is KeyWay.RFC4733:
            self._switch.press(event.key)
