"""Members and their registered cards, as the gateway keeps them: the card stays there, we hold a number of a card.

Everything here may be repeated or looked up: nothing of it charges. `RequestLost` means that it may or may not
have been done; `search_cards` and `search_member` say. Card sequences are physical (SeqMode 1): deleting one card does
not renumber the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from sipivr.card import Card
from sipivr.gateway.port import Declined, Entry, NotATestCard, Order, Outcome, Secret, ShopAccount

MEMBER_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9@._-]{1,60}", re.ASCII)
MAX_NAME: Final = 50


@dataclass(frozen=True, slots=True)
class SiteAccount:
    """Whose members they are; a gateway's site may serve several shops."""

    site_id: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Member:
    """A customer at the gateway. `name` does not print."""

    member_id: str
    name: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not MEMBER_ID_PATTERN.fullmatch(self.member_id):
            raise ValueError("member_id: 1 to 60 of A-Z a-z 0-9 @ . _ -")
        if len(self.name) > MAX_NAME:
            raise ValueError(f"name: at most {MAX_NAME} characters")


@dataclass(frozen=True, slots=True)
class RegisteredCard:
    """A card as the gateway shows it.

    Attributes:
        sequence: Its number among the member's cards.
        tail: The three or four digits of the number that the gateway's mask leaves.
        expires: YYMM, empty where the call does not say.
        preferred: The member's default card.
    """

    sequence: int
    tail: str
    expires: str = field(default="", repr=False)
    preferred: bool = False


@dataclass(frozen=True, slots=True)
class NotFound:
    """No such member, or no such card."""

    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberExists:
    """The member is there already, which is as good as saved."""

    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestLost:
    """Sent, and no usable answer; look it up."""

    detail: str
    codes: tuple[str, ...] = ()


MemberResult: TypeAlias = Member | NotFound | MemberExists | Declined | RequestLost
CardResult: TypeAlias = RegisteredCard | NotFound | Declined | RequestLost | NotATestCard
CardList: TypeAlias = tuple[RegisteredCard, ...] | NotFound | Declined | RequestLost
Deletion: TypeAlias = NotFound | Declined | RequestLost | None


class RegisteredCards(Protocol):
    """The half of a gateway that keeps cards. Every method raises `GatewayUnavailable` if nothing was sent."""

    async def save_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """Make a member."""
        ...

    async def update_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """Give a member another name."""
        ...

    async def search_member(self, site: SiteAccount, member_id: str) -> MemberResult:
        """Find a member; one that was deleted is `NotFound`."""
        ...

    async def delete_member(self, site: SiteAccount, member_id: str) -> Deletion:
        """Delete a member with its cards; None: done."""
        ...

    async def save_card(
        self,
        site: SiteAccount,
        member_id: str,
        card: Card,
        *,
        sequence: int | None = None,
        preferred: bool = False,
    ) -> CardResult:
        """Register a card, or put it in the place of `sequence`. The card is not wiped here."""
        ...

    async def search_cards(self, site: SiteAccount, member_id: str) -> CardList:
        """List a member's cards, deleted ones left out; none is `NotFound` or empty."""
        ...

    async def delete_card(self, site: SiteAccount, member_id: str, sequence: int) -> Deletion:
        """Delete one card; None: done."""
        ...

    async def register_traded_card(
        self, account: ShopAccount, site: SiteAccount, order_id: str, member_id: str
    ) -> CardResult:
        """Register the card that a finished trade was paid with: no card data travels again."""
        ...

    async def execute_registered(
        self,
        account: ShopAccount,
        order: Order,
        entry: Entry,
        site: SiteAccount,
        member_id: str,
        sequence: int,
    ) -> Outcome:
        """Charge a registered card; the rules of `Gateway.execute` apply."""
        ...
