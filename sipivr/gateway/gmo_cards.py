"""Members and registered cards at GMO-PG: SaveMember … TradedCard behind `registered_cards.RegisteredCards`."""

from __future__ import annotations

import re
from typing import Final

from sipivr.card import Card
from sipivr.gateway.gmo_connection import Connection, declined, shop_body
from sipivr.gateway.gmo_wire import Answer, FormBody, MalformedAnswer
from sipivr.gateway.port import Declined, ShopAccount
from sipivr.gateway.registered_cards import (
    CardList,
    CardResult,
    Deletion,
    Member,
    MemberExists,
    MemberResult,
    NotFound,
    RegisteredCard,
    RequestLost,
    SiteAccount,
)
from sipivr.gateway.transport import Lost

NO_SUCH_MEMBER: Final = "E01390002"
MEMBER_EXISTS: Final = "E01390010"
NO_SUCH_CARD: Final = "E01240002"

#: Masks differ by call: three digits are left by SaveCard and SearchCard, four by TradedCard.
_MASK: Final = re.compile(r"\*+([0-9]{3,4})", re.ASCII)
_SEQUENCE: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
#: Cards that one answer may list; the gateway's own limit is far below.
MAX_CARDS: Final = 100


class GMORegisteredCards:
    """The half of the adapter that keeps cards.

    Args:
        connection: Shared with the other half.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def save_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """SaveMember."""
        return await self._member("SaveMember", site, member)

    async def update_member(self, site: SiteAccount, member: Member) -> MemberResult:
        """UpdateMember."""
        return await self._member("UpdateMember", site, member)

    async def search_member(self, site: SiteAccount, member_id: str) -> MemberResult:
        """SearchMember."""
        return await self._member("SearchMember", site, Member(member_id))

    async def delete_member(self, site: SiteAccount, member_id: str) -> Deletion:
        """DeleteMember."""
        answer = await self._connection.ask("DeleteMember", _site_body(site, member_id))
        return _failure(answer)

    async def save_card(
        self,
        site: SiteAccount,
        member_id: str,
        card: Card,
        *,
        sequence: int | None = None,
        preferred: bool = False,
    ) -> CardResult:
        """SaveCard with the card that was keyed, or a token for it; the security code is sent where there is one."""
        refused = self._connection.refuses(card)
        if refused is not None:
            return refused
        body = _site_body(site, member_id)
        body.add("SeqMode", "1")
        if sequence is not None:
            body.add("CardSeq", str(sequence))
        body.add("DefaultFlag", "1" if preferred else "0")
        declined_token = await self._connection.add_card(body, site.site_id, card)
        if declined_token is not None:
            return declined_token
        answer = await self._connection.ask("SaveCard", body)
        return _failure(answer) or _saved(answer)

    async def search_cards(self, site: SiteAccount, member_id: str) -> CardList:
        """SearchCard."""
        body = _site_body(site, member_id)
        body.add("SeqMode", "1")
        answer = await self._connection.ask("SearchCard", body)
        failure = _failure(answer)
        if failure is not None or isinstance(answer, Lost):
            return failure or RequestLost("malformed")
        try:
            return _cards(answer)
        except MalformedAnswer:
            return RequestLost("malformed")

    async def delete_card(self, site: SiteAccount, member_id: str, sequence: int) -> Deletion:
        """DeleteCard."""
        body = _site_body(site, member_id)
        body.add("SeqMode", "1")
        body.add("CardSeq", str(sequence))
        return _failure(await self._connection.ask("DeleteCard", body))

    async def register_traded_card(
        self, account: ShopAccount, site: SiteAccount, order_id: str, member_id: str
    ) -> CardResult:
        """TradedCard."""
        body = shop_body(account)
        body.add("OrderID", order_id)
        _add_site(body, site, member_id)
        body.add("SeqMode", "1")
        answer = await self._connection.ask("TradedCard", body)
        return _failure(answer) or _saved(answer)

    async def _member(self, call: str, site: SiteAccount, member: Member) -> MemberResult:
        body = _site_body(site, member.member_id)
        if member.name:
            try:
                body.add("MemberName", member.name)
            except ValueError:
                body.wipe()
                raise ValueError("name: characters that the gateway has not (Shift_JIS)") from None
        answer = await self._connection.ask(call, body)
        failure = _failure(answer)
        if failure is not None:
            return MemberExists(failure.codes) if MEMBER_EXISTS in failure.codes else failure
        if isinstance(answer, Lost) or answer.get("MemberID") != member.member_id:
            return RequestLost("malformed")
        if answer.get("DeleteFlag") == "1":
            return NotFound()
        return Member(member.member_id, answer.get("MemberName")[:50] or member.name)


def _site_body(site: SiteAccount, member_id: str) -> FormBody:
    body = FormBody()
    _add_site(body, site, member_id)
    return body


def _add_site(body: FormBody, site: SiteAccount, member_id: str) -> None:
    body.add("SiteID", site.site_id)
    body.add("SitePass", site.password.reveal())
    body.add("MemberID", member_id)


def _failure(answer: Answer | Lost) -> NotFound | Declined | RequestLost | None:
    if isinstance(answer, Lost):
        return RequestLost(answer.detail)
    if not answer.errors:
        return None
    if {NO_SUCH_MEMBER, NO_SUCH_CARD} & set(answer.errors):
        return NotFound(answer.errors)
    refused = declined(answer.errors)
    return refused if isinstance(refused, Declined) else RequestLost("gateway", refused)


def _saved(answer: Answer | Lost) -> CardResult:
    if isinstance(answer, Lost):
        return RequestLost(answer.detail)
    try:
        return RegisteredCard(_sequence(answer["CardSeq"]), _tail(answer["CardNo"]))
    except MalformedAnswer:
        return RequestLost("malformed")


def _cards(answer: Answer) -> tuple[RegisteredCard, ...]:
    columns = [
        answer[name].split("|") for name in ("CardSeq", "CardNo", "Expire", "DefaultFlag", "DeleteFlag")
    ]
    if len({len(column) for column in columns}) != 1 or len(columns[0]) > MAX_CARDS:
        raise MalformedAnswer("lists are not parallel")
    return tuple(
        RegisteredCard(
            _sequence(sequence),
            _tail(mask),
            expires if re.fullmatch(r"[0-9]{4}", expires) else "",
            flag == "1",
        )
        for sequence, mask, expires, flag, deleted in zip(*columns, strict=True)
        if deleted != "1"
    )


def _sequence(text: str) -> int:
    if not _SEQUENCE.fullmatch(text):
        raise MalformedAnswer("not a card sequence")
    return int(text)


def _tail(mask: str) -> str:
    found = _MASK.fullmatch(mask)
    if found is None:
        # Not even in part: a number without a mask is a card, and stays out of our values.
        raise MalformedAnswer("not a masked number")
    return found[1]
