"""A claimed payment session as the dialogue sees it."""

from __future__ import annotations

from datetime import date
from typing import Final

from sipivr.card import Brand
from sipivr.dialogue.session import SessionSnapshot
from sipivr.gateway.test_cards import TEST_CARDS
from sipivr.store.records import Merchant, Mode, PaymentSession, Shop

#: Attempts at the gateway that one session may make in its life (design: against card testing).
MAX_GATEWAY_ATTEMPTS: Final = 5


def snapshot(
    session: PaymentSession,
    shop: Shop,
    merchant: Merchant,
    today: date,
    attempts_made: int,
    *,
    voice_masked: bool = False,
) -> SessionSnapshot:
    """The picture of `session` for one call. Transfer-in: the customer's voice passes on the merchant's PBX."""
    language = session.language or merchant.language
    return SessionSnapshot(
        session_id=session.id,
        shop_name=shop.name_spoken.get(language) or shop.name,
        amount=session.amount,
        currency=session.currency,
        language=language,
        accepted_brands=frozenset(Brand(brand) for brand in shop.brands),
        today=today,
        security_code_required=shop.security_code_required,
        gateway_attempts_left=max(0, MAX_GATEWAY_ATTEMPTS - attempts_made),
        voice_masked=voice_masked,
        test_pan_digests=frozenset(TEST_CARDS) if merchant.mode is Mode.TEST else None,
    )
