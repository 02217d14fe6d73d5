"""Figures of the switch for `/metrics`: counted in `switch.db`, and what the switch says of itself.

Refreshed when asked: Prometheus sets the pace. Nothing here is by merchant: figures are the machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.dependencies import Dependencies
from api.problems import Problem
from sipivr.control import histograms
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
        self.rtp = RTPHistograms()
        registry.register(self.rtp)


_RTP: Final = {
    "rtp_loss_ratio": "Lost and late packets of a leg's audio, as part of all.",
    "rtp_jitter_seconds": "Interarrival jitter of a leg's audio when it ended (RFC 3550).",
    "rtp_mos": "Mean opinion score of a leg's audio (ITU-T G.107).",
    "rtp_round_trip_seconds": "Round trip between the switch and a leg's peer, by RTCP.",
}


class RTPHistograms(Collector):
    """Histograms that the switch keeps, as it last told them: one observation a leg, at its end."""

    def __init__(self) -> None:
        self._shown: Mapping[str, Mapping[str, histograms.Series]] = {}

    def show(self, found: Mapping[str, Mapping[str, histograms.Series]]) -> None:
        """From now on these."""
        self._shown = found

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        for name, meaning in _RTP.items():
            family = HistogramMetricFamily(f"sipivr_{name}", meaning, labels=["heard_by"])
            for series, seen in self._shown.get(name, {}).items():
                buckets = [*seen.buckets, ("+Inf", seen.count)]
                family.add_metric([series], buckets, seen.sum)
            yield family


async def refresh(gauges: SwitchFigures, deps: Dependencies) -> None:
    """Brings the gauges to the present; what cannot be known is left out, not shown as 0."""
    gauges.streams.set(deps.live.streams)
    status = await deps.switch.status()
    gauges.reachable.set(status is not None)
    gauges.live.clear()
    for name, value in (status or {}).items():
        if isinstance(value, int) and "/" not in name:
            gauges.live.labels(name).set(value)
    gauges.rtp.show(histograms.read(status or {}))
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
