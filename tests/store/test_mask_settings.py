"""Which mask a capture gets: the merchant's, the session's, and a clamp only while the platform allows it."""

from __future__ import annotations

import pytest

from sipivr.store import read, write
from sipivr.store.errors import Invalid, NotFound
from sipivr.store.records import SYSTEM, BridgeMask, Mask
from tests.store.world import World


def test_a_new_merchant_hides_what_can_be_hidden(world: World) -> None:
    merchant = read.merchant(world.store.db, world.merchant)
    assert merchant is not None
    assert (merchant.mask, merchant.bridge_mask) == (Mask.COMFORT_NOISE, BridgeMask.DECOY)
    assert not merchant.clamp_allowed


def test_a_session_s_mask_goes_before_the_merchant_s(world: World) -> None:
    merchant = write.set_masks(world.store, SYSTEM, merchant=world.merchant, mask=Mask.TONE)
    assert merchant.mask_of(world.session("A1")) is Mask.TONE
    assert merchant.mask_of(world.session("A2", mask=Mask.SCRAMBLE)) is Mask.SCRAMBLE
    assert (
        read.payment_session(world.store.db, world.session("A3", mask=Mask.SILENCE).id).mask is Mask.SILENCE
    )


def test_what_is_not_named_stays(world: World) -> None:
    write.set_masks(world.store, SYSTEM, merchant=world.merchant, mask=Mask.SCRAMBLE)
    changed = write.set_masks(
        world.store, SYSTEM, merchant=world.merchant, bridge_mask=BridgeMask.COMFORT_NOISE
    )
    assert (changed.mask, changed.bridge_mask) == (Mask.SCRAMBLE, BridgeMask.COMFORT_NOISE)
    kept = write.put_merchant(world.store, SYSTEM, id=world.merchant, name="A", mode=changed.mode)
    assert kept.mask is Mask.SCRAMBLE


def test_a_clamp_only_while_the_platform_allows_it(world: World) -> None:
    with pytest.raises(Invalid, match="platform"):
        write.set_masks(world.store, SYSTEM, merchant=world.merchant, mask=Mask.CLAMP)
    with pytest.raises(Invalid, match="platform"):
        world.session("A1", mask=Mask.CLAMP)
    write.allow_clamp(world.store, SYSTEM, merchant=world.merchant, allowed=True)
    allowed = write.set_masks(world.store, SYSTEM, merchant=world.merchant, mask=Mask.CLAMP)
    session = world.session("A2", mask=Mask.CLAMP)
    assert allowed.mask_of(session) is Mask.CLAMP
    taken = write.allow_clamp(world.store, SYSTEM, merchant=world.merchant, allowed=False)
    assert taken.mask is Mask.COMFORT_NOISE
    assert taken.mask_of(session) is Mask.COMFORT_NOISE


def test_there_must_be_a_merchant(world: World) -> None:
    with pytest.raises(NotFound):
        write.set_masks(world.store, SYSTEM, merchant="mer_none", mask=Mask.TONE)
    with pytest.raises(NotFound):
        write.allow_clamp(world.store, SYSTEM, merchant="mer_none", allowed=True)


def test_changes_are_audited(world: World) -> None:
    write.allow_clamp(world.store, SYSTEM, merchant=world.merchant, allowed=True)
    write.set_masks(world.store, SYSTEM, merchant=world.merchant, mask=Mask.CLAMP)
    actions = [
        row[0] for row in world.store.db.execute("SELECT action FROM audit ORDER BY sequence DESC LIMIT 2")
    ]
    assert actions == ["merchant.set_masks", "merchant.allow_clamp"]
