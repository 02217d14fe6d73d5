"""Whose transfers a merchant takes."""

from __future__ import annotations

import pytest

from tests.api.conftest import World
from tests.api.test_http import assert_problem

NUMBERS = [f"+8131234{last:04}" for last in range(5)]


async def test_added_shown_masked_and_taken_away(world: World):
    before = {row["id"] for row in (await world.a.get("/v1/caller_numbers")).json()["data"]}
    made = await world.a.post("/v1/caller_numbers", json={"number": "+81312349876"})
    assert made.status_code == 201, made.text
    caller = made.json()
    assert caller["object"] == "caller_number"
    assert caller["number"].endswith("9876") and "3123" not in caller["number"]
    path = f"/v1/caller_numbers/{caller['id']}"
    assert (await world.a.get(path)).json() == caller
    again = await world.a.post("/v1/caller_numbers", json={"number": "+81312349876"})
    assert again.json() == caller
    after = {row["id"] for row in (await world.a.get("/v1/caller_numbers")).json()["data"]}
    assert after - before == {caller["id"]}
    assert (await world.a.delete(path)).status_code == 204
    assert_problem(await world.a.get(path), 404, "not_found")
    assert_problem(await world.a.delete(path), 404, "not_found")


async def test_pages(world: World):
    for number in NUMBERS:
        await world.a.post("/v1/caller_numbers", json={"number": number})
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = (await world.a.get(f"/v1/caller_numbers{query}")).json()
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        query = f"?limit=2&starting_after={seen[-1]}"
    assert len(seen) == len(set(seen)) >= len(NUMBERS)
    assert_problem(await world.a.get("/v1/caller_numbers?starting_after=cn_none"), 400, "invalid_cursor")


async def test_another_merchant_s_are_not_there(world: World):
    caller = (await world.a.post("/v1/caller_numbers", json={"number": "+81312349876"})).json()
    assert_problem(await world.b.get(f"/v1/caller_numbers/{caller['id']}"), 404, "not_found")
    assert_problem(await world.b.delete(f"/v1/caller_numbers/{caller['id']}"), 404, "not_found")
    assert caller["id"] not in (await world.b.get("/v1/caller_numbers")).text
    # The same number at another merchant is another object.
    theirs = (await world.b.post("/v1/caller_numbers", json={"number": "+81312349876"})).json()
    assert (await world.a.get(f"/v1/caller_numbers/{caller['id']}")).status_code == 200
    assert theirs["number"] == caller["number"]


@pytest.mark.parametrize(
    "number", ["0312345678", "+0312345678", "81312345678", "+81 3 1234", "+" + "8" * 16, "", 81]
)
async def test_what_is_no_number(world: World, number: object):
    answer = await world.a.post("/v1/caller_numbers", json={"number": number})
    assert_problem(answer, 422, "validation_failed")
