"""A person who pays by telephone: listens to each prompt, or interrupts it, and keys what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from bench.telephone.ears import Ears
from media.protocol import KeyWay

#: Quiet after which a prompt is over; phrases of one prompt follow each other faster.
PROMPT_OVER_MS: Final = 900
#: How long a hurried person lets a prompt speak before interrupting it: the switch drops keys for 600 ms
#: after a full field, so that a habitual `#` harms nothing.
INTERRUPT_AFTER_MS: Final = 800


@dataclass(frozen=True, slots=True)
class CardInHand:
    """A test card as it lies before the customer. For the simulator's cards only: it is an ordinary str."""

    number: str
    expiry: str
    security_code: str


VISA: Final = CardInHand("4111111111111111", "1230", "123")


class Handset(Protocol):
    """What a person needs of a telephone: `PhoneCall`, or a call of other software's."""

    ears: Ears

    async def key(self, characters: str, way: KeyWay) -> None:
        """Presses keys, one after the other."""


class Customer:
    """Keys a whole payment into a call.

    Args:
        call: to the switch, answered or about to be.
        way: of keying.
        hurried: interrupts prompts instead of listening to their end.
        told: is told each step, for a timeline.
    """

    def __init__(
        self,
        call: Handset,
        *,
        way: KeyWay = KeyWay.RFC4733,
        hurried: bool = False,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.call = call
        self._way = way
        self._hurried = hurried
        self._told = told

    async def prompted(self, *, to_its_end: bool = False) -> None:
        """Waits for the next prompt: for its end, or in a hurry for its beginning."""
        await self.call.ears.speech()
        if self._hurried and not to_its_end:
            await self.call.ears.listen(INTERRUPT_AFTER_MS)
        else:
            await self.call.ears.quiet(PROMPT_OVER_MS)

    async def key(self, what: str, keys: str) -> None:
        """Keys something and says what it was (never which keys)."""
        self._told(f"keys {what}")
        await self.call.key(keys, self._way)

    async def identify(self, identification_number: str) -> None:
        """Answers the first prompt with the identification number."""
        await self.prompted()
        await self.key("the identification number", identification_number)

    async def enter_card(self, card: CardInHand) -> None:
        """Answers the three prompts of the capture."""
        for what, keys in (
            ("the card number", card.number),
            ("the expiry", card.expiry),
            ("the security code", card.security_code),
        ):
            # Before the card number come amount and instructions: keys count only once the capture is open.
            await self.prompted(to_its_end=what == "the card number")
            await self.key(what, keys)

    async def confirm(self) -> None:
        """Listens to the amount to its end, which nobody can interrupt, and agrees."""
        await self.call.ears.announcement(PROMPT_OVER_MS)
        await self.key("1 to agree", "1")

    async def pay(self, identification_number: str, card: CardInHand = VISA) -> None:
        """The whole conversation up to the agreement."""
        await self.identify(identification_number)
        await self.enter_card(card)
        await self.confirm()
