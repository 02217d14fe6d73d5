"""Everything about the simulator that can be set."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Everything that can be set.

    Attributes:
        shops: ShopID → ShopPass.
        sites: SiteID → SitePass, whose members' cards are kept.
        latency_s: Added to every answer of the protocol.
        slow_s: What the test card ``slow`` takes.
        hidden_s: How long ``late-approval`` stays UNPROCESSED.
        trickle_s: Pause between two bytes of a trickled answer.
        control_token: If set, control requests need it as a bearer token.
    """

    shops: dict[str, str] = field(default_factory=lambda: {"tshop00000001": "sandbox001"})
    sites: dict[str, str] = field(default_factory=lambda: {"tsite00000001": "sandsite01"})
    latency_s: float = 0.0
    slow_s: float = 5.0
    hidden_s: float = 10.0
    trickle_s: float = 0.01
    control_token: str = ""
