"""The conversation about a payment session that is the call's before a word is said: nobody keys its number."""

from __future__ import annotations

from sipivr.calls.services import Services
from sipivr.calls.snapshots import snapshot
from sipivr.dialogue import Dialogue, DialogueParams, Ending
from sipivr.store.records import Merchant, PaymentSession, Shop


def claimed_dialogue(
    services: Services,
    session: PaymentSession,
    shop: Shop,
    merchant: Merchant,
    *,
    ending: Ending,
    params: DialogueParams,
) -> Dialogue:
    """A dialogue that begins with shop and amount; what it will say is prepared meanwhile.

    Args:
        services: the rest of the house.
        session: claimed for the call.
        shop: of the session, active.
        merchant: of both.
        ending: what follows the result.
        params: times and limits.
    """
    picture = snapshot(
        session, shop, merchant, services.today(), services.directory.attempts(session.id), voice_masked=False
    )
    services.background(
        services.prompts.prepare_session(
            picture.language, picture.shop_name, picture.amount, picture.currency
        )
    )
    return Dialogue(language=picture.language, ending=ending, params=params, session=picture)
