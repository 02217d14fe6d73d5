"""Which gateway and which account a shop's cards go to, read from `switch.db` and nowhere else (invariant 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sipivr.config import ConfigError
from sipivr.gateway.full import FullGateway
from sipivr.gateway.port import Secret, ShopAccount
from sipivr.store.records import Connector, Payment, Shop


class Gateways(Protocol):
    """What `Charging` asks."""

    def of(self, shop: Shop) -> FullGateway:
        """The adapter of the shop's connector."""

    def account(self, shop: Shop) -> ShopAccount:
        """The shop's identity at the gateway, its password opened for one charge."""

    def shop(self, id: str) -> Shop | None:
        """A shop, to resolve one of its payments."""

    def open_intents(self) -> tuple[Payment, ...]:
        """Payments whose outcome is not known."""


class ConnectorUnusable(Exception):
    """The shop's connector is missing, off, or not of the shop's mode."""


class StoredGateways:
    """`Gateways` on the store.

    Args:
        shop: reads a shop.
        connector: reads a connector.
        password: opens a shop's password.
        open_intents: reads the open payments.
        make: builds the adapter of a connector.
    """

    def __init__(
        self,
        *,
        shop: Callable[[str], Shop | None],
        connector: Callable[[str], Connector | None],
        password: Callable[[str], str],
        open_intents: Callable[[], tuple[Payment, ...]],
        make: Callable[[Connector], FullGateway],
    ) -> None:
        self._shop = shop
        self._connector = connector
        self._password = password
        self._open_intents = open_intents
        self._make = make
        self._gateways: dict[Connector, FullGateway] = {}

    def of(self, shop: Shop) -> FullGateway:
        """The adapter of the shop's connector, made once for each connector as it is set: another URL, pin or
        network is another adapter. An adapter that is no longer wanted is kept for what runs on it.

        Raises:
            ConnectorUnusable: it must not be charged there.
        """
        connector = self._connector(shop.connector)
        if connector is None or not connector.active:
            raise ConnectorUnusable(f"connector {shop.connector} of shop {shop.id} is missing or off")
        gateway = self._gateways.get(connector)
        if gateway is None:
            try:
                gateway = self._gateways[connector] = self._make(connector)
            except (ValueError, ConfigError) as error:
                raise ConnectorUnusable(f"connector {connector.id} cannot be used: {error}") from None
        return gateway

    def account(self, shop: Shop) -> ShopAccount:
        """See `Gateways.account`."""
        return ShopAccount(shop.gateway_shop_id, Secret(self._password(shop.id)))

    def shop(self, id: str) -> Shop | None:
        """See `Gateways.shop`."""
        return self._shop(id)

    def open_intents(self) -> tuple[Payment, ...]:
        """See `Gateways.open_intents`."""
        return self._open_intents()

    async def aclose(self) -> None:
        """Closes every adapter's connections."""
        for gateway in self._gateways.values():
            await gateway.aclose()
        self._gateways.clear()
