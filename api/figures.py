"""Figures of the switch for `/metrics`: counted in `switch.db`, and what the switch says of itself.

Refreshed when asked: Prometheus sets the pace. Nothing here is by merchant: figures are the machine's.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from api.dependencies import Dependencies
from api.problems import Problem
from sipivr.store import read


class SwitchFigures:
    """The gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reachable = Gauge("sipivr_switch_reachable", "1 if the switch answers.", registry=registry)
        self.live = Gauge("sipivr_switch", "What the switch says of itself.", ["figure"], registry=registry)
        self.objects = Gauge(
            "sipivr_objects", "Rows of switch.db by kind and state.", ["kind", "state"], registry=registry
        )
        self.streams = Gauge("sipivr_api_streams", "Open event streams.", registry=registry)


async def refresh(gauges: SwitchFigures, deps: Dependencies) -> None:
    """Brings the gauges to the present; what cannot be known is left out, not shown as 0."""
    gauges.streams.set(deps.live.streams)
    status = await deps.switch.status()
    gauges.reachable.set(status is not None)
    gauges.live.clear()
    for name, value in (status or {}).items():
        if isinstance(value, int):
            gauges.live.labels(name).set(value)
    gauges.objects.clear()
    try:
        counts = await deps.reader.run(read.counts)
    except Problem:
        return
    for kind, states in (("session", counts.sessions), ("payment_unsettled", counts.payments_unsettled)):
        for state, count in states.items():
            gauges.objects.labels(kind, state).set(count)
    gauges.objects.labels("call", "running").set(counts.calls_running)
    gauges.objects.labels("identification_number", "open").set(counts.identification_numbers_open)
