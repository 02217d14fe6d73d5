"""Which adapter a shop's cards go to, and that a changed connector is another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipivr.bootstrap import _gateway
from sipivr.calls.gateways import ConnectorUnusable, StoredGateways
from sipivr.config import Settings
from sipivr.gateway.connector import ConnectorGateway
from sipivr.gateway.gmo import GMOGateway
from sipivr.store.records import Connector, Mode, Shop

SHOP = Shop("shop_1", "mer_1", "Acme", {}, "tshop00000001", "con_1", (), True, "CAPTURE", "JPY", True)
CONNECTOR = Connector("con_1", "gmo", "https://p01.example.jp", Mode.LIVE, True)


class World:
    def __init__(self) -> None:
        self.connector: Connector | None = CONNECTOR
        self.gateways = StoredGateways(
            shop=lambda _: SHOP,
            connector=lambda _: self.connector,
            password=lambda _: "secret",
            open_intents=lambda: (),
            make=lambda connector: _gateway(connector, Settings()),
        )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "json"},
        {"url": "https://p02.example.jp"},
        {"tls_pin": "0" * 64},
        {"tls_pin": "0" * 64 + "," + "1" * 64},
        {"networks": ("192.0.2.0/24",)},
    ],
)
async def test_a_connector_that_was_changed_is_another_adapter(change: dict[str, object]) -> None:
    world = World()
    first = world.gateways.of(SHOP)
    assert world.gateways.of(SHOP) is first
    world.connector = replace(CONNECTOR, **change)  # type: ignore[arg-type]
    second = world.gateways.of(SHOP)
    assert second is not first
    assert world.gateways.of(SHOP) is second
    world.connector = CONNECTOR
    assert world.gateways.of(SHOP) is first
    await world.gateways.aclose()


async def test_the_kind_chooses_the_adapter() -> None:
    world = World()
    assert isinstance(world.gateways.of(SHOP), GMOGateway)
    world.connector = replace(CONNECTOR, kind="json")
    connector = world.gateways.of(SHOP)
    assert isinstance(connector, ConnectorGateway)
    assert not connector.test_mode
    await world.gateways.aclose()


@pytest.mark.parametrize(
    "connector",
    [
        None,
        replace(CONNECTOR, active=False),
        replace(CONNECTOR, kind="other"),
        replace(CONNECTOR, url="http://p01.example.jp"),
        replace(CONNECTOR, url="http://127.0.0.1:8090"),
        replace(CONNECTOR, kind="json", url="http://127.0.0.1:8090", mode=Mode.TEST),
        replace(CONNECTOR, networks=("nonsense",)),
    ],
)
async def test_no_card_goes_to_a_connector_that_cannot_be_used(connector: Connector | None) -> None:
    world = World()
    world.connector = connector
    with pytest.raises(ConnectorUnusable):
        world.gateways.of(SHOP)
