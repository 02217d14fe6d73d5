"""RTP figures of legs: added up over the workers that a leg lived in, and counted for /metrics when it ends."""

from __future__ import annotations

from typing import Final

import msgspec

from media.protocol import LegStatistics
from sipivr.control.histograms import Histogram
from sipivr.store.records import LegQuality

#: Presses that the leg's own way did not tell (`media.keys`).
_DISAGREED: Final = "keys_disagreed"
_COUNTS: Final = (
    "packets_received",
    "packets_sent",
    "packets_lost",
    "packets_late",
    "packets_refused",
    "packets_duplicate",
    "packets_foreign",
    "srtp_failed",
    "resyncs",
    "frames_concealed",
    "keys_inband",
    "keys_rfc4733",
    "keys_info",
    _DISAGREED,
)
#: The shortest and the softest of a leg's keys in band, where there were any.
_TONES: Final = ("tone_shortest_ms", "tone_softest_dbm0")
_GAUGES: Final = ("jitter_ms", "buffer_ms", "clock_ppm")
#: Who hears the audio that a figure is about.
_SWITCH: Final = "switch"
_PEER: Final = "peer"
_BOUNDS: Final[dict[str, tuple[float, ...]]] = {
    "rtp_loss_ratio": (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    "rtp_jitter_seconds": (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08),
    "rtp_mos": (2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.3, 4.4),
    "rtp_round_trip_seconds": (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
}


def total(before: LegStatistics | None, now: LegStatistics | None) -> LegStatistics | None:
    """One leg's figures over two lives: counts add up, the rest is the later one's where it is known."""
    if before is None or now is None:
        return now or before
    counts = {name: getattr(before, name) + getattr(now, name) for name in _COUNTS}
    lost = [one.remote_lost for one in (before, now) if one.remote_lost is not None]
    lives = [(one.mos, one.packets_received) for one in (before, now) if one.mos is not None]
    heard = sum(packets for _, packets in lives)
    return msgspec.structs.replace(
        now,
        **counts,
        remote_lost=sum(lost) if lost else None,
        mos=round(sum(mos * packets for mos, packets in lives) / heard, 2) if heard else None,
        remote_mos=before.remote_mos if now.remote_mos is None else now.remote_mos,
        **{name: _least(getattr(before, name), getattr(now, name)) for name in _TONES},
        remote_jitter_ms=before.remote_jitter_ms if now.remote_jitter_ms is None else now.remote_jitter_ms,
        round_trip_ms=before.round_trip_ms if now.round_trip_ms is None else now.round_trip_ms,
    )


def _least(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


def counts(figures: LegStatistics) -> dict[str, float]:
    """What the call record keeps of the RTP layer's counters; of keys, only how often their ways disagreed."""
    names = [name for name in (*_COUNTS, *_GAUGES) if name == _DISAGREED or not name.startswith("keys_")]
    known = {name: getattr(figures, name) for name in _TONES if getattr(figures, name) is not None}
    return {name: getattr(figures, name) for name in names} | known


def quality(figures: LegStatistics) -> LegQuality:
    """What the call record says of the sound."""
    return LegQuality(
        mos=figures.mos,
        remote_mos=figures.remote_mos,
        round_trip_ms=figures.round_trip_ms,
        remote_lost=figures.remote_lost,
        remote_jitter_ms=figures.remote_jitter_ms,
    )


class RTPFigures:
    """Histograms over the legs that have ended since the switch started."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[str, str], Histogram] = {
            (name, series): Histogram(bounds)
            for name, bounds in _BOUNDS.items()
            for series in ((_SWITCH, _PEER) if name != "rtp_round_trip_seconds" else (_SWITCH,))
        }

    def observe(self, figures: LegStatistics) -> None:
        """A leg has ended with these figures; what is not known of it is not counted."""
        expected = figures.packets_received + figures.packets_lost
        if figures.packets_received:
            missed = figures.packets_lost + figures.packets_late
            self._add("rtp_loss_ratio", _SWITCH, min(1.0, missed / expected))
            self._add("rtp_jitter_seconds", _SWITCH, figures.jitter_ms / 1000)
        if figures.remote_lost is not None and figures.packets_sent:
            self._add("rtp_loss_ratio", _PEER, min(1.0, max(0, figures.remote_lost) / figures.packets_sent))
        if figures.remote_jitter_ms is not None:
            self._add("rtp_jitter_seconds", _PEER, figures.remote_jitter_ms / 1000)
        if figures.mos is not None:
            self._add("rtp_mos", _SWITCH, figures.mos)
        if figures.remote_mos is not None:
            self._add("rtp_mos", _PEER, figures.remote_mos)
        if figures.round_trip_ms is not None:
            self._add("rtp_round_trip_seconds", _SWITCH, figures.round_trip_ms / 1000)

    def _add(self, name: str, series: str, value: float) -> None:
        self._histograms[name, series].observe(value)

    def entries(self) -> dict[str, int]:
        """For the switch's status."""
        found: dict[str, int] = {}
        for (name, series), histogram in self._histograms.items():
            found |= histogram.entries(name, series)
        return found
