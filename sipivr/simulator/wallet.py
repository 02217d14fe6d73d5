"""Cards at the simulator by what they are presented as: a number, a token, a registration. It keeps names and masks.

A number is looked at once and forgotten: what is remembered is the test card's name, how long the number is, its
last four digits, and the expiry.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sipivr.gateway.test_cards import test_card_name
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.protocol import (
    card_errors,
    card_sequence_errors,
    luhn_holds,
    member_errors,
    site_errors,
)
from sipivr.simulator.results import Clock
from sipivr.simulator.settings import SimulatorSettings

TOKEN_S: Final = 1_800.0
MAX_TOKENS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Presented:
    """A card without its number.

    Attributes:
        name: The test card's, empty if it is none.
        length: Digits of the number.
        tail: Its last four.
        expire: YYMM.
        raw: Whether the number itself came in this request.
        refused: The code of a number that is no test card's.
    """

    name: str
    length: int
    tail: str
    expire: str
    raw: bool = True
    refused: str = ""
    site_id: str = ""
    member_id: str = ""

    @property
    def mask(self) -> str:
        """As SearchTrade and TradedCard show it."""
        return "*" * (self.length - 4) + self.tail

    @property
    def short_mask(self) -> str:
        """As SaveCard and SearchCard show it: one digit less (recorded)."""
        return "*" * (self.length - 3) + self.tail[1:]


class Wallet:
    """Reads cards, gives out tokens, knows registrations.

    Args:
        ledger: Where registrations are.
        settings: The simulator's.
        clock: Its time.
    """

    def __init__(self, ledger: Ledger, settings: SimulatorSettings, clock: Clock) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._tokens: dict[str, tuple[Presented, float]] = {}
        self._used: set[str] = set()
        self._key: rsa.RSAPrivateKey | None = None

    def keyed(self, fields: Mapping[str, str], *, raw: bool = True) -> Presented:
        """A card whose number came along; formats were checked before."""
        number = fields["CardNo"]
        name = test_card_name(number.encode()) or ""
        refused = "" if name else "E11010099" if luhn_holds(number) else "E41170099"
        return Presented(name, len(number), number[-4:], fields["Expire"], raw, refused)

    def registered(self, fields: dict[str, str]) -> tuple[list[str], Presented | None]:
        """A member's card, or the codes of what is wrong with the request."""
        errors = (
            site_errors(fields, self._settings.sites) + member_errors(fields) + card_sequence_errors(fields)
        )
        if errors:
            return errors, None
        if not self._ledger.member(fields["SiteID"], fields["MemberID"]):
            return ["E01390002"], None
        row = self._ledger.card(
            fields["SiteID"], fields["MemberID"], int(fields["CardSeq"]), fields.get("SeqMode", "0")
        )
        if row is None:
            return ["E01240002"], None
        card = Presented(
            row["card"],
            row["length"],
            row["tail"],
            row["expire"],
            False,
            "",
            fields["SiteID"],
            fields["MemberID"],
        )
        return [], card

    # -- tokens ---------------------------------------------------------------------------------------------

    @property
    def public_key(self) -> tuple[str, str]:
        """PEM of the key to which cards are encrypted, and its hash."""
        if self._key is None:
            self._key = rsa.generate_private_key(65_537, 2_048)
        public = self._key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return pem.decode("ascii"), hashlib.sha256(der).hexdigest()

    def give_token(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """getToken: (result code, token)."""
        code, card = self._decrypted(fields)
        if card is None:
            return code, ""
        now = self._clock.time()
        for token, (_, until) in list(self._tokens.items()):
            if until < now - TOKEN_S or len(self._tokens) >= MAX_TOKENS:
                del self._tokens[token]
                self._used.discard(token)
        token = "t" + secrets.token_urlsafe(24)
        self._tokens[token] = (card, now + TOKEN_S)
        return "000", token

    def token_errors(self, token: str) -> list[str]:
        """The codes of a token that cannot be used."""
        if len(token) > 512 or token not in self._tokens:
            return ["EX1000304"]
        if token in self._used:
            return ["EX1000302"]
        return ["EX1000303"] if self._tokens[token][1] < self._clock.time() else []

    def redeem(self, token: str) -> Presented:
        """Use a token; once."""
        self._used.add(token)
        return self._tokens[token][0]

    def _decrypted(self, fields: Mapping[str, str]) -> tuple[str, Presented | None]:
        code = self._token_request(fields)
        if code:
            return code, None
        assert self._key is not None
        try:
            text = self._key.decrypt(base64.b64decode(fields["Encrypted"], validate=True), padding.PKCS1v15())
            read: dict[str, Any] = json.loads(text)
            card = {
                "CardNo": str(read.get("cardNo", "")),
                "Expire": str(read.get("expire", "")),
                "SecurityCode": str(read.get("securityCode", "")),
            }
        except (ValueError, binascii.Error, AttributeError):
            return "191", None
        wrong = next(
            (
                _TOKEN_CODES[error]
                for error in card_errors(card, self._clock.now().date())
                if error in _TOKEN_CODES
            ),
            "",
        )
        return (wrong, None) if wrong else ("000", self.keyed(card, raw=False))

    def _token_request(self, fields: Mapping[str, str]) -> str:
        shop = fields.get("ShopID", "")
        checks = (
            ("150", not fields.get("Encrypted")),
            ("160", not shop),
            ("161", len(shop) > 13),
            ("162", not (shop.isascii() and shop.isalnum())),
            ("170", not fields.get("KeyHash")),
            ("180", shop not in self._settings.shops and shop not in self._settings.sites),
            ("180", fields.get("KeyHash") != self.public_key[1]),
        )
        return next((code for code, wrong in checks if wrong), "")


_TOKEN_CODES: Final = {
    "E01170001": "100",
    "E01170006": "101",
    "E01170003": "102",
    "E01170011": "102",
    "E01180001": "110",
    "E01180006": "111",
    "E01180003": "112",
    "E01180008": "113",
    "E01180011": "113",
    "E01460008": "122",
}
