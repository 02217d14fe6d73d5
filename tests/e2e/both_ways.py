"""A customer behind a gateway that tells each key twice: as a tone in the audio and as telephone-event beside it.

`python -m tests.e2e.both_ways URI --caller … --identification-number … [--event-first]`: a process of its own, as
`bench.telephone` is, and for the same reason. Our own sender never does this (RFC 4733 §2.5.1.4 has audio pause
during an event), so its rule is taken out here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Final

import numpy as np

from bench.telephone.customer import Customer
from bench.telephone.ears import Ears
from bench.telephone.phone import KEY_CHARACTERS, PhoneCall, Telephone
from media.dsp.tones import dtmf_tone
from media.protocol import KeyWay
from media.rtp.telephone_event import EventSender

TONE_MS: Final = 60
PAUSE_MS: Final = 80
#: By so much the second way begins later.
APART_S: Final = 0.03


class DoubleTelling(EventSender):
    """Events beside the audio instead of in its place."""

    replaces_audio = property(lambda self: False)  # type: ignore[assignment]


class TwiceToldCall:
    """A handset whose every press is told twice."""

    def __init__(self, call: PhoneCall, *, event_first: bool) -> None:
        self._call = call
        self._event_first = event_first
        self.ears: Ears = call.ears

    async def key(self, characters: str, way: KeyWay) -> None:
        for character in characters:
            code = KEY_CHARACTERS.index(character)
            tone = np.concatenate([dtmf_tone(code, TONE_MS, -10), np.zeros(PAUSE_MS * 8, np.int16)])
            if self._event_first:
                self._call.press(code, TONE_MS)
                await asyncio.sleep(APART_S)
                await self._call.say(tone)
            else:
                said = asyncio.ensure_future(self._call.say(tone))
                await asyncio.sleep(APART_S)
                self._call.press(code, TONE_MS)
                await said


async def _pay(args: argparse.Namespace) -> dict[str, str]:
    async with Telephone(lines=1) as phone:
        call = await phone.dial(args.uri, caller=args.caller)
        await call.answered(20)
        handset = TwiceToldCall(call, event_first=args.event_first)
        await Customer(handset, hurried=True).pay(args.identification_number)
        await call.ended(60)
        return {"sip_call_id": call.sip.call_id}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--caller", required=True)
    parser.add_argument("--identification-number", required=True)
    parser.add_argument("--event-first", action="store_true")
    args = parser.parse_args()
    import media.rtp.transmit as transmit

    transmit.EventSender = DoubleTelling  # type: ignore[misc]
    print(json.dumps(asyncio.run(_pay(args))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
