"""Where a card may go: two platform administrators, and nobody else."""

from __future__ import annotations

import datetime as dt
import sqlite3
from typing import Any

import pytest

from sipivr.store import read, write
from sipivr.store.errors import Conflict, Invalid, NotFound
from sipivr.store.identifiers import utc_now
from sipivr.store.records import SYSTEM, Actor, Mode, Role
from tests.store.world import World

URL = "https://p01.example.jp"


@pytest.fixture
def platform(world: World) -> tuple[Actor, Actor]:
    return (administrator(world, "first"), administrator(world, "second"))


def administrator(world: World, name: str, role: Role = Role.PLATFORM) -> Actor:
    merchant = None if role is Role.PLATFORM else world.merchant
    made = write.put_principal(
        world.store, SYSTEM, role=role, merchant=merchant, name=name, permissions=("platform:write",)
    )
    return Actor(made.id)


def test_one_proposes_and_another_confirms(world: World, platform: tuple[Actor, Actor]) -> None:
    first, second = platform
    proposed = write.propose_connector(
        world.store, first, kind="json", url=URL, mode=Mode.LIVE, pins=["A" * 64], networks=["192.0.2.0/24"]
    )
    assert read.connector(world.store.db, proposed.connector) is None
    with pytest.raises(Conflict, match="another administrator"):
        write.decide_connector(world.store, first, proposal=proposed.id, confirm=True)
    decided = write.decide_connector(world.store, second, proposal=proposed.id, confirm=True)
    assert decided.decision == "confirmed"
    connector = read.connector(world.store.db, proposed.connector)
    assert connector is not None
    assert (connector.url, connector.pins, connector.networks) == (URL, ("a" * 64,), ("192.0.2.0/24",))
    with pytest.raises(Conflict, match="was confirmed"):
        write.decide_connector(world.store, second, proposal=proposed.id, confirm=False)
    actions = [
        row[0] for row in world.store.db.execute("SELECT action FROM audit WHERE action LIKE 'connector.%'")
    ]
    assert actions[-2:] == ["connector.propose", "connector.confirmed"]


def test_a_change_and_a_rejection(world: World, platform: tuple[Actor, Actor]) -> None:
    first, second = platform
    made = write.propose_connector(world.store, first, kind="gmo", url=URL, mode=Mode.LIVE)
    write.decide_connector(world.store, second, proposal=made.id, confirm=True)
    change = write.propose_connector(
        world.store, second, kind="gmo", url="https://evil.example", mode=Mode.LIVE, connector=made.connector
    )
    assert (
        write.decide_connector(world.store, first, proposal=change.id, confirm=False).decision == "rejected"
    )
    assert read.connector(world.store.db, made.connector).url == URL  # type: ignore[union-attr]
    with pytest.raises(Conflict, match="different connectors"):
        write.propose_connector(
            world.store, first, kind="gmo", url=URL, mode=Mode.TEST, connector=made.connector
        )
    with pytest.raises(NotFound):
        write.propose_connector(world.store, first, kind="gmo", url=URL, mode=Mode.LIVE, connector="none")
    with pytest.raises(NotFound):
        write.decide_connector(world.store, first, proposal="none", confirm=True)


def test_a_proposal_grows_old(world: World, platform: tuple[Actor, Actor]) -> None:
    first, second = platform
    proposed = write.propose_connector(
        world.store, first, kind="gmo", url=URL, mode=Mode.LIVE, now=utc_now() - dt.timedelta(days=8)
    )
    with pytest.raises(Conflict, match="too old"):
        write.decide_connector(world.store, second, proposal=proposed.id, confirm=True)


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.OPERATOR, Role.API_KEY])
def test_nobody_of_a_merchant(world: World, platform: tuple[Actor, Actor], role: Role) -> None:
    theirs = administrator(world, "theirs", role)
    with pytest.raises(Invalid, match="only platform"):
        write.propose_connector(world.store, theirs, kind="gmo", url=URL, mode=Mode.LIVE)
    proposed = write.propose_connector(world.store, platform[0], kind="gmo", url=URL, mode=Mode.LIVE)
    for confirm in (True, False):
        with pytest.raises(Invalid, match="only platform"):
            write.decide_connector(world.store, theirs, proposal=proposed.id, confirm=confirm)


def test_not_even_sql_lets_one_person_decide_alone(world: World, platform: tuple[Actor, Actor]) -> None:
    proposed = write.propose_connector(world.store, platform[0], kind="gmo", url=URL, mode=Mode.LIVE)
    with pytest.raises(sqlite3.IntegrityError):
        world.store.db.execute(
            "UPDATE connector_proposal SET decision = 'confirmed', decided_by = proposed_by WHERE id = ?",
            [proposed.id],
        )


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "other"},
        {"url": "http://p01.example.jp"},
        {"url": "http://127.0.0.1:8090", "mode": Mode.LIVE},
        {"url": "http://127.0.0.1:8090", "kind": "json"},
        {"url": "http://localhost.example:8090"},
        {"url": "https://user@p01.example.jp"},
        {"url": "https://p01.example.jp/path"},
        {"url": "https://p01.example.jp:x"},
        {"url": "https://"},
        {"pins": ["00"]},
        {"pins": ["0" * 64] * 6},
        {"networks": ["10.0.0.0/33"]},
        {"networks": ["10.0.0.0/8"] * 21},
    ],
)
def test_values(world: World, platform: tuple[Actor, Actor], values: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        write.propose_connector(
            world.store, platform[0], **{"kind": "gmo", "url": URL, "mode": Mode.TEST, **values}
        )
