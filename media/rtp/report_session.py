"""What one leg's reports need to remember, and the arithmetic on it (RFC 3550 §6.4). No socket, no clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, NamedTuple

from media import quality
from media.protocol import SAMPLE_RATE_HZ, Remote
from media.rtp import rtcp
from media.rtp.stream import Reception

#: A longer round trip is a lie or a broken clock.
_LONGEST_TRIP_S: Final = 30.0
#: Round trips are smoothed: one report is 1/4 of the figure.
_SMOOTHING: Final = 0.25

#: A datagram as it goes on the wire, or None when it cannot be protected, or is forged. Must not raise.
Transform = Callable[[bytes], bytes | None]
#: Number of the socket, address and port of the peer.
Source = tuple[int, str, int]


class RemoteFigures(NamedTuple):
    """The part of a leg's statistics that the peer knows; None each before its first report."""

    round_trip_ms: float | None
    lost: int | None
    jitter_ms: float | None
    mos: float | None


@dataclasses.dataclass(slots=True)
class Session:
    """One leg's reports, out and in."""

    leg: int
    socket: int
    remote: Remote
    mux: bool
    symmetric: bool
    secured: bool
    """Nothing goes or is taken in clear."""
    items: bytes
    """Our SDES packet."""
    source: Source | None = None
    """Where the peer's reports come from, where that is not the RTP source."""
    protect: Transform | None = None
    unprotect: Transform | None = None
    due: int | None = None
    """Tick of the next report."""
    quiet_until: int = 0
    """Tick before which nothing more is taken from the peer."""
    reports_sent: int = 0
    broken: bool = False
    """A fault of ours has ended this leg's reports."""
    left: bool = False
    """The peer has said BYE."""
    _sent: tuple[int, int] = (0, 0)
    _heard: int | None = None
    _expected: int = 0
    _received: int = 0
    _reporter: int | None = None
    _last_report: int = 0
    _last_arrival_ns: int = 0
    _round_trip_ms: float | None = None
    _remote_lost: int | None = None
    _remote_loss: float = 0.0
    _remote_jitter_ms: float = 0.0

    def outgoing(self, datagram: bytes) -> bytes | None:
        """A report as it goes on the wire; None when it must not go."""
        if self.protect is not None:
            return self.protect(datagram)
        return None if self.secured else datagram

    def incoming(self, datagram: bytes) -> bytes | None:
        """What came, in clear; None when it is not to be believed."""
        if self.unprotect is not None:
            return self.unprotect(datagram)
        return None if self.secured else datagram

    def sends(self, packets: int) -> bool:
        """Whether this report is an SR; to be asked once for each.

        §6.4: a sender is who has sent since the report before the last one.

        Args:
            packets: RTP packets sent so far.
        """
        before, self._sent = self._sent[1], (packets, self._sent[0])
        return packets > before

    def block(self, reception: Reception | None, now_ns: int) -> rtcp.ReportBlock | None:
        """About the stream that we hear, if anything of it has come since the last report (§6.4)."""
        if reception is None:
            return None
        if self._heard != reception.ssrc:
            self._heard, self._expected, self._received = reception.ssrc, 0, 0
        expected, received = reception.expected - self._expected, reception.received - self._received
        if received <= 0:
            return None
        self._expected, self._received = reception.expected, reception.received
        lost = max(0, expected - received)
        last_report = delay = 0
        if self._reporter == reception.ssrc:
            last_report = self._last_report
            delay = max(0, now_ns - self._last_arrival_ns) * 65536 // 1_000_000_000
        return rtcp.ReportBlock(
            ssrc=reception.ssrc,
            fraction_lost=min(255, lost * 256 // expected) if lost else 0,
            cumulative_lost=reception.expected - reception.received,
            highest_sequence=reception.highest_sequence,
            jitter=reception.jitter,
            last_report=last_report,
            delay=delay,
        )

    def note(self, compound: rtcp.Compound, ours: int, packets: int, arrival_ns: int) -> None:
        """What the peer reports.

        Args:
            compound: the report.
            ours: our SSRC.
            packets: RTP packets that we have sent.
            arrival_ns: when it came, on the wall clock.
        """
        if compound.sender is not None:
            self._reporter = compound.ssrc
            self._last_report = rtcp.middle(compound.sender.ntp)
            self._last_arrival_ns = arrival_ns
        arrival = rtcp.middle(rtcp.ntp_time(arrival_ns))
        for block in compound.blocks:
            if block.ssrc != ours:
                continue
            self._remote_lost = block.cumulative_lost
            self._remote_loss = min(1.0, max(0, block.cumulative_lost) / max(packets, 1))
            self._remote_jitter_ms = block.jitter * 1000 / SAMPLE_RATE_HZ
            trip_s = rtcp.round_trip_s(arrival, block)
            if trip_s is not None and trip_s <= _LONGEST_TRIP_S:
                trip_ms, before = max(0.0, trip_s * 1000), self._round_trip_ms
                self._round_trip_ms = trip_ms if before is None else before + (trip_ms - before) * _SMOOTHING

    def figures(self) -> RemoteFigures:
        """What the peer has reported so far."""
        if self._remote_lost is None:
            return RemoteFigures(None, None, None, None)
        trip_ms = self._round_trip_ms
        delay_ms = (trip_ms or 0.0) / 2 + quality.ASSUMED_BUFFER_MS
        return RemoteFigures(
            None if trip_ms is None else round(trip_ms, 3),
            self._remote_lost,
            round(self._remote_jitter_ms, 3),
            round(quality.mos(self._remote_loss, delay_ms), 2),
        )
