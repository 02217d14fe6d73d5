"""A merchant's own settings."""

from __future__ import annotations

from tests.api.conftest import World
from tests.api.test_http import assert_problem
from tests.api.test_sessions import body


async def test_masks_are_shown_and_changed(world: World):
    shown = (await world.a.get("/v1/merchant")).json()
    assert (shown["object"], shown["mask"], shown["bridge_mask"]) == ("merchant", "comfort_noise", "decoy")
    changed = await world.a.patch("/v1/merchant", json={"mask": "tone"})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["mask"], changed.json()["bridge_mask"]) == ("tone", "decoy")
    changed = await world.a.patch("/v1/merchant", json={"bridge_mask": "comfort_noise"})
    assert (changed.json()["mask"], changed.json()["bridge_mask"]) == ("tone", "comfort_noise")
    assert (await world.a.get("/v1/merchant")).json() == changed.json()
    assert (await world.b.get("/v1/merchant")).json()["mask"] == "comfort_noise"


async def test_a_clamp_is_not_the_merchant_s_to_choose(world: World):
    document = assert_problem(
        await world.a.patch("/v1/merchant", json={"mask": "clamp"}), 422, "validation_failed"
    )
    assert "platform" in document["detail"]
    assert_problem(
        await world.a.post("/v1/payment_sessions", json=body(world, mask="clamp")), 422, "validation_failed"
    )


async def test_a_session_may_have_its_own(world: World):
    made = (await world.a.post("/v1/payment_sessions", json=body(world, mask="scramble"))).json()
    assert made["mask"] == "scramble"
    other = (await world.a.post("/v1/payment_sessions", json=body(world, "A1002"))).json()
    assert other["mask"] is None


async def test_words_that_are_no_mask(world: World):
    assert_problem(await world.a.patch("/v1/merchant", json={"mask": "loud"}), 422, "validation_failed")
    assert_problem(await world.a.patch("/v1/merchant", json={"maks": "tone"}), 422, "validation_failed")
