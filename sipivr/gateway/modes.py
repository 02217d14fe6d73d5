"""What a session is for: pay, register a card, both, or check a card.

    pay                 EntryTran (AUTH or CAPTURE, as the shop is set), ExecTran
    check               EntryTran CHECK, ExecTran: is the card valid? No amount
    register            SaveMember where the member is not there yet, SaveCard
    pay_and_register    as pay; after its success TradedCard

A charge is `calls.charging`'s, which commits between its steps. What is here is the rest: nothing of it charges,
so it may be repeated. A registration that fails after a payment is a value beside the payment: it never undoes
or hides it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from sipivr.card import Card
from sipivr.gateway.port import Declined, GatewayUnavailable, Job, NotATestCard, ShopAccount
from sipivr.gateway.registered_cards import (
    CardResult,
    Member,
    MemberExists,
    NotFound,
    RegisteredCard,
    RegisteredCards,
    RequestLost,
    SiteAccount,
)


class PaymentMode(enum.StrEnum):
    """What the session asks for."""

    PAY = "pay"
    REGISTER = "register"
    PAY_AND_REGISTER = "pay_and_register"
    CHECK = "check"

    @property
    def charges(self) -> bool:
        """Whether money moves."""
        return self in (PaymentMode.PAY, PaymentMode.PAY_AND_REGISTER)

    @property
    def registers(self) -> bool:
        """Whether a card is to be kept at the gateway."""
        return self in (PaymentMode.REGISTER, PaymentMode.PAY_AND_REGISTER)

    def job(self, shop_job: Job) -> Job | None:
        """The job of the trade, None where there is none (register)."""
        if self is PaymentMode.CHECK:
            return Job.CHECK
        return shop_job if self.charges else None


@dataclass(frozen=True, slots=True)
class Registered:
    """The gateway keeps the card."""

    member_id: str
    card: RegisteredCard


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """The gateway does not keep the card, or we cannot know (`certain` False).

    Attributes:
        reason: A word of ours, or the decisive code of the gateway.
        declined: What the gateway refused, for the dialogue's next question; None where it is not the card's fault.
    """

    reason: str
    certain: bool = True
    declined: Declined | None = None


Registration: TypeAlias = Registered | NotRegistered | NotATestCard


async def register(gateway: RegisteredCards, site: SiteAccount, member: Member, card: Card) -> Registration:
    """Register a card that was keyed. The card is not wiped here.

    Raises:
        GatewayUnavailable: The last request was not sent. What went before it charges nothing.
    """
    absent = await _member_is_there(gateway, site, member)
    if absent is not None:
        return absent
    before = await _sequences(gateway, site, member.member_id)
    saved = await gateway.save_card(site, member.member_id, card)
    return await _judged(gateway, site, member.member_id, saved, before, card.last4)


async def register_traded(
    gateway: RegisteredCards,
    account: ShopAccount,
    site: SiteAccount,
    member: Member,
    order_id: str,
    last4: str,
) -> Registration:
    """Register the card of a payment that stands. Never raises for the gateway: the payment is what counts.

    Args:
        gateway: Where both are.
        account: The shop that was paid.
        site: Whose member.
        member: Made where it is not there yet.
        order_id: The gateway's order id of the payment.
        last4: Of the card, to know it again if the answer is lost.
    """
    try:
        absent = await _member_is_there(gateway, site, member)
        if absent is not None:
            return absent
        before = await _sequences(gateway, site, member.member_id)
        saved = await gateway.register_traded_card(account, site, order_id, member.member_id)
        return await _judged(gateway, site, member.member_id, saved, before, last4)
    except GatewayUnavailable as unavailable:
        return NotRegistered(unavailable.reason)


async def _member_is_there(
    gateway: RegisteredCards, site: SiteAccount, member: Member
) -> NotRegistered | None:
    found = await gateway.search_member(site, member.member_id)
    if isinstance(found, NotFound):
        found = await gateway.save_member(site, member)
        if isinstance(found, RequestLost):
            found = await gateway.search_member(site, member.member_id)
    match found:
        case Member() | MemberExists():
            return None
        case Declined():
            return NotRegistered(found.codes[0], declined=found)
        case RequestLost():
            return NotRegistered(found.detail)
        case NotFound():
            return NotRegistered("no_such_member")


async def _sequences(gateway: RegisteredCards, site: SiteAccount, member_id: str) -> frozenset[int] | None:
    """The member's cards before, None if they could not be listed."""
    cards = await gateway.search_cards(site, member_id)
    if isinstance(cards, NotFound):
        return frozenset()
    return frozenset(card.sequence for card in cards) if isinstance(cards, tuple) else None


async def _judged(
    gateway: RegisteredCards,
    site: SiteAccount,
    member_id: str,
    saved: CardResult,
    before: frozenset[int] | None,
    last4: str,
) -> Registration:
    match saved:
        case RegisteredCard():
            return Registered(member_id, saved)
        case NotATestCard():
            return saved
        case Declined():
            return NotRegistered(saved.codes[0], declined=saved)
        case NotFound():
            return NotRegistered("no_such_member")
    # The answer was lost. A second request could register the card twice; the list says whether one came.
    cards = await gateway.search_cards(site, member_id) if before is not None else saved
    if isinstance(cards, NotFound):
        return NotRegistered("lost")
    if before is None or not isinstance(cards, tuple):
        return NotRegistered("lost", certain=False)
    new = [card for card in cards if card.sequence not in before and last4.endswith(card.tail)]
    return Registered(member_id, new[-1]) if new else NotRegistered("lost")
