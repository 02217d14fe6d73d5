"""The whole port: charging, changing trades, and keeping cards. Every adapter has all of it."""

from __future__ import annotations

from typing import Protocol

from sipivr.gateway.alterations import Alterations
from sipivr.gateway.port import Gateway
from sipivr.gateway.registered_cards import RegisteredCards


class FullGateway(Gateway, Alterations, RegisteredCards, Protocol):
    """What `calls` may ask of a gateway."""
