"""Members and registered cards at the simulator: SaveMember … DeleteCard, TradedCard."""

from __future__ import annotations

from typing import Final

from sipivr.simulator.faults import Fault
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.protocol import (
    card_errors,
    card_sequence_errors,
    member_errors,
    order_id_errors,
    shop_errors,
    site_errors,
)
from sipivr.simulator.results import Clock, Result, failed, ok
from sipivr.simulator.settings import SimulatorSettings
from sipivr.simulator.wallet import Presented, Wallet

#: Cards of one member.
MAX_CARDS: Final = 5


class Membership:
    """Answers the calls on members and their cards.

    Args:
        ledger: Where they are.
        wallet: Reads cards.
        settings: The simulator's.
        clock: Its time.
    """

    def __init__(self, ledger: Ledger, wallet: Wallet, settings: SimulatorSettings, clock: Clock) -> None:
        self._ledger = ledger
        self._wallet = wallet
        self._settings = settings
        self._clock = clock

    async def save_member(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """SaveMember."""
        errors = self._errors(fields)
        if errors:
            return failed(errors)
        if not self._ledger.add_member(fields["SiteID"], fields["MemberID"], fields.get("MemberName", "")):
            return failed(["E01390010"])
        return ok({"MemberID": fields["MemberID"]})

    async def update_member(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """UpdateMember."""
        errors = self._errors(fields, there=True)
        if errors:
            return failed(errors)
        self._ledger.rename_member(fields["SiteID"], fields["MemberID"], fields.get("MemberName", ""))
        return ok({"MemberID": fields["MemberID"]})

    async def search_member(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """SearchMember."""
        errors = self._errors(fields, there=True)
        if errors:
            return failed(errors)
        row = self._ledger.member(fields["SiteID"], fields["MemberID"])
        assert row is not None
        return ok({"MemberID": fields["MemberID"], "MemberName": row["name"], "DeleteFlag": "0"})

    async def delete_member(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """DeleteMember, with its cards."""
        errors = self._errors(fields, there=True)
        if errors:
            return failed(errors)
        self._ledger.delete_member(fields["SiteID"], fields["MemberID"])
        return ok({"MemberID": fields["MemberID"]})

    async def save_card(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """SaveCard: a new card, or with CardSeq another in its place."""
        errors = self._errors(fields)
        if fields.get("Token"):
            errors += self._wallet.token_errors(fields["Token"])
        else:
            errors += card_errors(fields, self._clock.now().date())
        if fields.get("CardSeq"):
            errors += card_sequence_errors(fields)
        errors = errors or self._absent(fields)
        if errors:
            return failed(errors)
        card = self._wallet.redeem(fields["Token"]) if fields.get("Token") else self._wallet.keyed(fields)
        if card.refused:
            return failed([card.refused])
        if card.name == "raw-pan-refused" and card.raw:
            return failed(["E61040001"])
        return self._register(fields, card, mask=card.short_mask)

    async def search_card(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """SearchCard: all cards, or the one of CardSeq; lists by ``|``."""
        errors = self._errors(fields, there=True)
        if fields.get("CardSeq"):
            errors += card_sequence_errors(fields)
        if errors:
            return failed(errors)
        site, member, mode = fields["SiteID"], fields["MemberID"], fields.get("SeqMode", "0")
        cards = self._ledger.cards(site, member, deleted=mode == "1")
        if fields.get("CardSeq"):
            one = self._ledger.card(site, member, int(fields["CardSeq"]), mode)
            cards = [one] if one is not None else []
        if not cards:
            return failed(["E01240002"])
        columns = {
            "CardSeq": [str(n if mode == "0" else card["sequence"]) for n, card in enumerate(cards)],
            "DefaultFlag": [str(card["preferred"]) for card in cards],
            "CardName": [card["label"] for card in cards],
            "CardNo": [Presented("", card["length"], card["tail"], "").short_mask for card in cards],
            "Expire": [card["expire"] for card in cards],
            "HolderName": [card["holder"] for card in cards],
            "DeleteFlag": [str(card["deleted"]) for card in cards],
        }
        return ok({name: "|".join(column) for name, column in columns.items()})

    async def delete_card(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """DeleteCard."""
        errors = self._errors(fields) + card_sequence_errors(fields)
        errors = errors or self._absent(fields)
        if errors:
            return failed(errors)
        site, member = fields["SiteID"], fields["MemberID"]
        row = self._ledger.card(site, member, int(fields["CardSeq"]), fields.get("SeqMode", "0"))
        if row is None:
            return failed(["E01240002"])
        self._ledger.delete_card(site, member, row["sequence"])
        return ok({"CardSeq": fields["CardSeq"]})

    async def traded_card(self, fields: dict[str, str], _fault: Fault | None) -> Result:
        """TradedCard: register the card of a finished trade."""
        errors = shop_errors(fields, self._settings.shops) + order_id_errors(fields) + self._errors(fields)
        errors = errors or self._absent(fields)
        if errors:
            return failed(errors)
        trade = self._ledger.by_order(fields["ShopID"], fields["OrderID"])
        if trade is None:
            return failed(["E01110002"])
        if trade.status not in ("CHECK", "AUTH", "CAPTURE", "SALES"):
            return failed(["E01110010"])
        if trade.member_id:
            return failed(["E01630010"])
        card = Presented(trade.card, len(trade.mask), trade.mask[-4:], trade.expire)
        return self._register(fields, card, mask=card.mask)

    def _register(self, fields: dict[str, str], card: Presented, *, mask: str) -> Result:
        site, member = fields["SiteID"], fields["MemberID"]
        sequence: int | None = None
        if fields.get("CardSeq"):
            row = self._ledger.card(site, member, int(fields["CardSeq"]), fields.get("SeqMode", "0"))
            if row is None:
                return failed(["E01240002"])
            sequence = row["sequence"]
        elif len(self._ledger.cards(site, member)) >= MAX_CARDS:
            return failed(["E01230009"])
        sequence = self._ledger.put_card(
            site,
            member,
            sequence,
            card=card.name,
            length=card.length,
            tail=card.tail,
            expire=card.expire,
            holder=fields.get("HolderName", ""),
            label=fields.get("CardName", ""),
            preferred=int(fields.get("DefaultFlag") == "1"),
        )
        shown = sequence
        if fields.get("SeqMode", "0") == "0":
            numbers = [row["sequence"] for row in self._ledger.cards(site, member)]
            shown = numbers.index(sequence)
        return ok({"CardSeq": str(shown), "CardNo": mask, "Forward": "2a99662"})

    def _errors(self, fields: dict[str, str], *, there: bool = False) -> list[str]:
        errors = site_errors(fields, self._settings.sites) + member_errors(fields)
        return errors or (self._absent(fields) if there else [])

    def _absent(self, fields: dict[str, str]) -> list[str]:
        return [] if self._ledger.member(fields["SiteID"], fields["MemberID"]) else ["E01390002"]
