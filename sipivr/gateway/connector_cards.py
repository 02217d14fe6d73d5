"""Members and registered cards over the JSON connector."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sipivr.card import Card
from sipivr.gateway.connector_wire import Answer, JSONBody
from sipivr.gateway.port import Declined, NotATestCard, ShopAccount
from sipivr.gateway.registered_cards import (
    CardList,
    CardResult,
    Deletion,
    Member,
    MemberExists,
    MemberResult,
    NotFound,
    RequestLost,
    SiteAccount,
)
from sipivr.gateway.transport import Lost


class ConnectorRegisteredCards(ABC):
    """The half of the connector that keeps cards."""

    @abstractmethod
    def refuses(self, card: Card) -> NotATestCard | None:
        """Say whether this card would be refused unsent."""

    @abstractmethod
    async def _ask(
        self, operation: str, account: ShopAccount | SiteAccount, body: JSONBody, *, charge: bool = False
    ) -> Answer | Lost: ...

    async def save_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """``/v1/save_member``."""
        return await self._member("save_member", site, member)

    async def update_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """``/v1/update_member``."""
        return await self._member("update_member", site, member)

    async def search_member(self, site: SiteAccount, member_id: str) -> MemberResult:
        """``/v1/search_member``."""
        return await self._member("search_member", site, Member(member_id))

    async def delete_member(self, site: SiteAccount, member_id: str) -> Deletion:
        """``/v1/delete_member``."""
        return _failure(await self._ask("delete_member", site, _member_body(site, member_id)))

    async def save_card(
        self,
        site: SiteAccount,
        member_id: str,
        card: Card,
        *,
        sequence: int | None = None,
        preferred: bool = False,
    ) -> CardResult:
        """``/v1/save_card``."""
        refused = self.refuses(card)
        if refused is not None:
            return refused
        body = _member_body(site, member_id)
        body.add("sequence", sequence)
        body.add("preferred", preferred)
        self._add_card(body, card)
        return _saved(await self._ask("save_card", site, body))

    async def search_cards(self, site: SiteAccount, member_id: str) -> CardList:
        """``/v1/search_cards``."""
        answer = await self._ask("search_cards", site, _member_body(site, member_id))
        failure = _failure(answer)
        if failure is not None or isinstance(answer, Lost):
            return failure or RequestLost("malformed")
        return tuple(card.value() for card in answer.cards)

    async def delete_card(self, site: SiteAccount, member_id: str, sequence: int) -> Deletion:
        """``/v1/delete_card``."""
        body = _member_body(site, member_id)
        body.add("sequence", sequence)
        return _failure(await self._ask("delete_card", site, body))

    async def register_traded_card(
        self, account: ShopAccount, site: SiteAccount, order_id: str, member_id: str
    ) -> CardResult:
        """``/v1/register_traded_card``."""
        body = _member_body(site, member_id)
        body.add("order_id", order_id)
        return _saved(await self._ask("register_traded_card", account, body))

    async def _member(self, operation: str, site: SiteAccount, member: Member) -> MemberResult:
        body = _member_body(site, member.member_id)
        body.add("name", member.name or None)
        answer = await self._ask(operation, site, body)
        if isinstance(answer, Answer) and answer.result == "exists":
            return MemberExists(answer.codes)
        failure = _failure(answer)
        if failure is not None:
            return failure
        if isinstance(answer, Lost) or answer.member_id != member.member_id:
            return RequestLost("malformed")
        return Member(member.member_id, answer.name or member.name)

    @staticmethod
    def _add_card(body: JSONBody, card: Card) -> None:
        """Add the card. If its digits are not digits, the body is wiped before the error leaves."""
        try:
            with card.disclose() as fields:
                body.add_digits("card_number", fields.number)
                body.add_digits("expires", fields.expire)
                if fields.security_code is not None:
                    body.add_digits("security_code", fields.security_code)
        except BaseException:
            body.wipe()
            raise


def _member_body(site: SiteAccount, member_id: str) -> JSONBody:
    body = JSONBody()
    body.add("site_id", site.site_id)
    body.add("member_id", member_id)
    return body


def _failure(answer: Answer | Lost) -> NotFound | Declined | RequestLost | None:
    if isinstance(answer, Lost):
        return RequestLost(answer.detail)
    match answer.result:
        case "ok":
            return None
        case "not_found":
            return NotFound(answer.codes)
        case "refused":
            return answer.declined
    return RequestLost("gateway", answer.codes)


def _saved(answer: Answer | Lost) -> CardResult:
    failure = _failure(answer)
    if failure is not None or isinstance(answer, Lost):
        return failure or RequestLost("malformed")
    return answer.cards[0].value() if len(answer.cards) == 1 else RequestLost("malformed")
