"""The receiver's operations on a ledger in memory. Of a card it keeps a name and the last digits."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

Answer = dict[str, Any]

REFUSALS = {
    "decline-card": "another_card",
    "decline-number": "reenter_pan",
    "decline-expiry": "reenter_expiry",
    "decline-security-code": "reenter_security_code",
    "congested": "try_later",
    "shop-settings": "stop",
}


class Ledger:
    """Trades, charges, members, cards."""

    def __init__(self, cards: dict[str, str]) -> None:
        self._names = {hashlib.sha256(number.encode()).hexdigest(): name for name, number in cards.items()}
        self.trades: dict[tuple[str, str], Answer] = {}
        self.charges: list[tuple[str, str, int]] = []
        self.members: dict[str, str] = {}
        self.cards: dict[str, dict[int, Answer]] = {}

    def enter(self, shop: str, asked: Answer) -> Answer:
        key = (shop, asked["order_id"])
        if key in self.trades:
            return {"result": "order_id_taken", "codes": ["taken"]}
        self.trades[key] = {
            "order_id": asked["order_id"],
            "access_id": secrets.token_hex(8) + "x",
            "access_pass": secrets.token_hex(8) + "x",
            "status": "UNPROCESSED",
            "job": asked["job"],
            "amount_yen": asked["amount_yen"],
            "tax_yen": asked["tax_yen"],
        }
        return {"result": "ok", **self.trades[key]}

    def execute(self, shop: str, asked: Answer) -> Answer:
        trade = self._trade(shop, asked)
        if trade is None:
            return refused("no_trade", "stop")
        if trade["status"] != "UNPROCESSED":
            return {"result": "unknown", "codes": ["processed"]}
        if "member_id" in asked:
            card = self.cards.get(asked["member_id"], {}).get(asked["sequence"])
            if card is None:
                return refused("no_card", "stop")
            name, tail = card["name"], card["tail"]
        else:
            name, tail = self._name(asked), asked["card_number"][-4:]
        if name in REFUSALS:
            return refused("declined", REFUSALS[name])
        trade.update(
            status=trade["job"],
            approval_number=f"{secrets.randbelow(10**7):07}",
            transaction_id="t" + secrets.token_hex(8),
            forward="example",
            processed_at=datetime.now(UTC).isoformat(),
            intent_id=asked["intent_id"],
            card={"name": name, "tail": tail, "expires": asked.get("expires", "")},
        )
        self.charges.append((trade["order_id"], trade["status"], trade["amount_yen"]))
        return self._shown(trade)

    def look_up(self, shop: str, asked: Answer) -> Answer:
        trade = self.trades.get((shop, asked["order_id"]))
        return self._shown(trade) if trade else {"result": "not_found"}

    def alter(self, shop: str, asked: Answer) -> Answer:
        trade = self._trade(shop, asked)
        if trade is None or trade["status"] == "UNPROCESSED":
            return refused("no_trade", "stop")
        job = asked["job"]
        allowed = {"SALES": ["AUTH"], "VOID": ["AUTH", "CAPTURE", "SALES"]}.get(job, ["CAPTURE", "SALES"])
        if trade["status"] not in allowed:
            return {"result": "unknown", "codes": ["state"]}
        trade["status"] = job
        self.charges.append((trade["order_id"], job, trade["amount_yen"]))
        return self._shown(trade)

    def change_amount(self, shop: str, asked: Answer) -> Answer:
        trade = self._trade(shop, asked)
        if trade is None or trade["status"] != asked["job"]:
            return {"result": "unknown", "codes": ["state"]}
        trade.update(
            amount_yen=asked["amount_yen"],
            tax_yen=asked["tax_yen"],
            transaction_id="t" + secrets.token_hex(8),
        )
        return self._shown(trade)

    def save_member(self, _shop: str, asked: Answer) -> Answer:
        if asked["member_id"] in self.members:
            return {"result": "exists"}
        self.members[asked["member_id"]] = asked.get("name", "")
        return {"result": "ok", "member_id": asked["member_id"]}

    def update_member(self, _shop: str, asked: Answer) -> Answer:
        if asked["member_id"] not in self.members:
            return {"result": "not_found"}
        self.members[asked["member_id"]] = asked.get("name", "")
        return {"result": "ok", "member_id": asked["member_id"]}

    def search_member(self, _shop: str, asked: Answer) -> Answer:
        name = self.members.get(asked["member_id"])
        if name is None:
            return {"result": "not_found"}
        return {"result": "ok", "member_id": asked["member_id"], "name": name}

    def delete_member(self, _shop: str, asked: Answer) -> Answer:
        if self.members.pop(asked["member_id"], None) is None:
            return {"result": "not_found"}
        self.cards.pop(asked["member_id"], None)
        return {"result": "ok"}

    def save_card(self, _shop: str, asked: Answer) -> Answer:
        card = {"name": self._name(asked), "tail": asked["card_number"][-4:], "expires": asked["expires"]}
        return self._put(asked, card)

    def search_cards(self, _shop: str, asked: Answer) -> Answer:
        if asked["member_id"] not in self.members:
            return {"result": "not_found"}
        rows = [self._row(number, card) for number, card in self.cards.get(asked["member_id"], {}).items()]
        return {"result": "ok", "cards": rows}

    def delete_card(self, _shop: str, asked: Answer) -> Answer:
        cards = self.cards.get(asked["member_id"], {})
        return {"result": "ok"} if cards.pop(asked["sequence"], None) else {"result": "not_found"}

    def register_traded_card(self, shop: str, asked: Answer) -> Answer:
        trade = self.trades.get((shop, asked["order_id"]))
        if trade is None or "card" not in trade:
            return refused("not_paid", "stop")
        return self._put(asked, trade["card"])

    def _put(self, asked: Answer, card: Answer) -> Answer:
        if asked["member_id"] not in self.members:
            return {"result": "not_found"}
        cards = self.cards.setdefault(asked["member_id"], {})
        number = asked["sequence"] if "sequence" in asked else max(cards, default=-1) + 1
        cards[number] = {**card, "preferred": asked.get("preferred", False)}
        return {"result": "ok", "cards": [self._row(number, cards[number])]}

    @staticmethod
    def _row(number: int, card: Answer) -> Answer:
        return {
            "sequence": number,
            **{name: card[name] for name in ("tail", "expires", "preferred")},
        }

    def _trade(self, shop: str, asked: Answer) -> Answer | None:
        trade = self.trades.get((shop, asked["order_id"]))
        right = trade and (trade["access_id"], trade["access_pass"]) == (
            asked["access_id"],
            asked["access_pass"],
        )
        return trade if right else None

    @staticmethod
    def _shown(trade: Answer) -> Answer:
        return {"result": "ok", **{name: value for name, value in trade.items() if name != "card"}}

    def _name(self, asked: Answer) -> str:
        return self._names.get(hashlib.sha256(asked["card_number"].encode()).hexdigest(), "unknown")


def refused(code: str, category: str) -> Answer:
    return {"result": "refused", "codes": [code], "category": category}
