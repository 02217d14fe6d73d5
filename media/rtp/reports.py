"""The conversation about the conversation: each leg's RTCP reports, out and in (RFC 3550 §6).

*Out.* A report of each leg every 5 s on average, uniformly between 2.5 and 7.5 s (RFC 3550 §6.3.1), the first
after half of that (§6.2), at most `MOST_SENT` at once. A leg is a unicast pair: with two members the minimum
of 5 s always governs, so there is no group size to estimate and no timer reconsideration whose bias e - 3/2
would compensate. SR while RTP is sent, else RR; BYE when the leg goes, if anything was ever sent (§6.3.7).

*In.* Only from the leg's own RTCP source. With rtcp-mux that is its RTP source. Else it is the RTCP address of
the peer's SDP, or, with symmetric RTP, the first port of the latched host from which a report of the very SSRC
that we hear has come; it is then locked, and ours go there (RFC 4961). The rest is counted as foreign. A leg's
reports are taken five a second at most, and nothing that a report says changes anything but that leg's figures.

Who owns what: columns for what the tick asks of all legs at once; a `Session` for what one report touches.
SRTP puts its two callables into the session (`secure`); a leg of clear RTP has none.
"""

from __future__ import annotations

import base64
import heapq
import logging
import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from media.arrays import Bool, Index, Int16, Int64
from media.protocol import TICK_MS, Remote
from media.rtp import rtcp
from media.rtp.packet import HEADER_OFFSET, PACKET_BYTES, Columns
from media.rtp.report_session import RemoteFigures, Session, Source, Transform
from media.rtp.report_sockets import UNKNOWN_AGE_NS, ReportReader
from media.rtp.sockets import Batch
from media.rtp.stream import Streams
from media.rtp.transmit import Transmitter

log = logging.getLogger(__name__)

INTERVAL_TICKS: Final = 5_000 // TICK_MS
#: Reports are read in one tick of four and sent in another: one after the other they cost a fifth of what each
#: costs alone in its tick, with everything that it touches fallen out of the processor's cache meanwhile.
SLOT_TICKS: Final = 4
#: Sent in one such tick; 2,000 legs need 32.
MOST_SENT: Final = 64
#: Muxed reports that are kept to be read in one tick; 2,000 legs send 8.
MOST_KEPT: Final = 32
GAP_TICKS: Final = 200 // TICK_MS
_TICK_NS: Final = TICK_MS * 1_000_000
_CNAME_BYTES: Final = 12
#: RTCP's payload types on a shared port (RFC 5761 §4): 64 to 95 under a marker bit, 192 to 223 as a byte.
_FIRST_TYPE: Final = 64
_TYPES: Final = 32


class Reports:
    """RTCP of all legs of a worker.

    Args:
        sockets: the RTP sockets.
        report_sockets: the sockets beside them, index by index, or none: only legs with rtcp-mux report then.
        capacity: legs to have room for.
        streams: what is heard, to report on.
        transmitter: what is sent.
        rng: for intervals.
        clock: the wall clock, nanoseconds since 1970.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        report_sockets: Sequence[socket.socket],
        capacity: int,
        streams: Streams,
        transmitter: Transmitter,
        *,
        rng: random.Random,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.sent = 0
        self.received = 0
        self.failed = 0
        self.foreign = 0
        self.faults = 0
        self.refused: Int64 = np.zeros(capacity, np.int64)
        """Of the right source and no use: malformed, forged, or too many."""
        self.muxing = 0
        self._refused_before = 0
        self._sockets = list(sockets)
        self._report_sockets = list(report_sockets)
        self._reader = ReportReader(report_sockets)
        self._streams = streams
        self._transmitter = transmitter
        self._rng = rng
        self._clock = clock
        self._sessions: dict[int, Session] = {}
        self._kept: list[tuple[int, Session, bytes, int]] = []
        """Muxed reports that wait to be read: row, session, datagram, tick of arrival."""
        self._by_source: dict[Source, list[int]] = {}
        self._due: list[tuple[int, int]] = []
        """A heap of ticks and rows; entries that are no longer their session's are passed over."""
        self._mux: Bool = np.zeros(capacity, np.bool_)
        self._loose: Bool = np.zeros(capacity, np.bool_)
        self._index: Int16 = np.full(capacity, -1, np.int16)

    def negotiate(
        self,
        tick: int,
        row: int,
        leg: int,
        index: int,
        remote: Remote | None,
        *,
        mux: bool,
        symmetric: bool,
        secured: bool = False,
    ) -> None:
        """What was agreed on about a leg's reports; what was counted stays.

        Args:
            tick: number of this tick.
            row: the leg's.
            leg: its number, for the log.
            index: its socket.
            remote: where reports go, None for nowhere.
            mux: they share the RTP port.
            symmetric: the peer's real source is learnt.
            secured: nothing goes or is taken in clear: until `secure` has been called, nothing at all.
        """
        if remote is None or not (mux or index < len(self._report_sockets)):
            self._pause(row)
            return
        old = self._sessions.get(row)
        if old is not None:
            old.secured = secured
        place = (index, remote, mux, symmetric)
        if old is not None and (old.socket, old.remote, old.mux, old.symmetric) == place:
            if old.due is None and not old.broken:
                self._schedule(row, old, tick + self._interval() // 2)
            return
        self._pause(row)
        if old is None:
            cname = base64.b64encode(secrets.token_bytes(_CNAME_BYTES))  # RFC 7022 §5
            items = rtcp.source_items(self._transmitter.sender(row).ssrc, cname)
            session = Session(leg, index, remote, mux, symmetric, secured, items)
            self._sessions[row] = session
        else:
            session = old
            session.socket, session.remote, session.mux, session.symmetric = place
            session.left = False
        self._mux[row] = mux
        self.muxing += mux
        self._index[row] = index
        self._loose[row] = symmetric and not mux
        if not (symmetric or mux):
            self._own(row, session, (index, _plain(remote.address), remote.port))
        self._schedule(row, session, tick + self._interval() // 2)

    def secure(self, row: int, protect: Transform | None, unprotect: Transform | None) -> None:
        """SRTCP of a leg (RFC 3711 §3.4), to be said after `negotiate`; None, None for a leg in clear."""
        session = self._sessions.get(row)
        if session is not None:
            session.protect, session.unprotect = protect, unprotect

    def remove(self, row: int) -> None:
        """Says BYE for a leg and forgets it."""
        session = self._sessions.get(row)
        if session is not None and session.due is not None:
            ssrc, _, packets, _ = self._transmitter.sender(row)
            if session.reports_sent or packets:
                self._send(row, session, rtcp.goodbye(ssrc, session.items))
        self._pause(row)
        self._sessions.pop(row, None)
        self._refused_before += int(self.refused[row])
        self.refused[row] = 0
        self._index[row] = -1

    def figures(self, row: int) -> RemoteFigures:
        """What the peer of a leg has reported."""
        session = self._sessions.get(row)
        return RemoteFigures(None, None, None, None) if session is None else session.figures()

    @property
    def refused_ever(self) -> int:
        """The sum of `refused`, legs that are gone included."""
        return self._refused_before + int(self.refused.sum())

    def _pause(self, row: int) -> None:
        self.muxing -= int(self._mux[row])
        self._mux[row] = self._loose[row] = False
        session = self._sessions.get(row)
        if session is None:
            return
        session.due = None
        if session.source is not None:
            owners = self._by_source[session.source]
            owners.remove(row)
            if not owners:
                del self._by_source[session.source]
            session.source = None

    def _own(self, row: int, session: Session, source: Source) -> None:
        session.source = source
        self._by_source.setdefault(source, []).append(row)

    # Out

    def _interval(self) -> int:
        """Ticks to the next report (RFC 3550 §6.3.1)."""
        return int(INTERVAL_TICKS * (0.5 + self._rng.random()))

    def _schedule(self, row: int, session: Session, tick: int) -> None:
        session.due = tick
        heapq.heappush(self._due, (tick, row))

    def send_due(self, tick: int) -> None:
        """Sends the reports whose time has come; those beyond `MOST_SENT` go in the next tick.

        Args:
            tick: number of this tick, whose audio has been sent.
        """
        due, left = self._due, MOST_SENT
        while due and due[0][0] <= tick and left:
            wanted, row = heapq.heappop(due)
            session = self._sessions.get(row)
            if session is None or session.due != wanted:
                continue
            left -= 1
            self._schedule(row, session, tick + self._interval())
            try:
                self._report(row, session)
            except Exception as error:
                self._break(row, session, error)

    def _report(self, row: int, session: Session) -> None:
        ssrc, timestamp, packets, octets = self._transmitter.sender(row)
        now_ns = self._clock()
        sender = None
        if session.sends(packets):
            sender = rtcp.SenderInfo(rtcp.ntp_time(now_ns), timestamp, packets, octets)
        block = session.block(self._streams.reception(row), now_ns)
        if self._send(row, session, rtcp.report(ssrc, sender, block, session.items)):
            session.reports_sent += 1

    def _destination(self, row: int, session: Session) -> Remote | None:
        if session.source is not None:
            return Remote(session.source[1], session.source[2])
        if not session.symmetric and not session.mux:
            return session.remote
        rtp = self._transmitter.destination(row)
        if rtp is None or session.mux:
            return rtp
        return Remote(rtp.address, session.remote.port)

    def _send(self, row: int, session: Session, datagram: bytes) -> bool:
        protected = session.outgoing(datagram)
        to = self._destination(row, session)
        if protected is None or to is None:
            self.failed += 1
            return False
        sockets = self._sockets if session.mux else self._report_sockets
        try:
            sockets[session.socket].sendto(protected, socket.MSG_DONTWAIT, (to.address, to.port))
        except OSError:
            self.failed += 1
            return False
        self.sent += 1
        return True

    # In

    def drain(self) -> None:
        """Throws away what waits in the RTCP sockets."""
        self._reader.drain()

    def exchange(self, tick: int) -> None:
        """A tick's share of the work: reads, sends, or nothing."""
        if tick % SLOT_TICKS == 0:
            self.read(tick)
        if tick % SLOT_TICKS == SLOT_TICKS // 2:
            self.send_due(tick)

    def read(self, tick: int) -> None:
        """Reads the muxed reports that were kept, and what has come to the RTCP sockets."""
        kept, self._kept = self._kept, []
        for row, session, datagram, came in kept:
            if self._sessions.get(row) is session:  # the row may be another leg's by now
                self._take(row, session, datagram, UNKNOWN_AGE_NS + (tick - came) * _TICK_NS)
        for index, datagram, address, port, age_ns in self._reader.receive():
            source = index, address, port
            owner = self._owner(source, datagram)
            if owner is None:
                self.foreign += 1
                continue
            session = self._sessions[owner]
            useful = self._has_turn(tick, owner, session) and self._take(owner, session, datagram, age_ns)
            if useful and self._loose[owner]:
                self._loose[owner] = False
                self._own(owner, session, source)

    def take_muxed(self, tick: int, rows: Index, packets: Index, columns: Columns, batch: Batch) -> Index:
        """Keeps the reports among the packets of a batch whose legs share the port (RFC 5761 §4).

        Args:
            tick: number of this tick.
            rows: leg of each packet.
            packets: index of each packet in the batch.
            columns: headers of the whole batch, read as if they were RTP.
            batch: the bytes.

        Returns:
            Which of the packets are not RTP.
        """
        whole = len(packets) == len(columns.payload_type)
        kind = columns.payload_type if whole else columns.payload_type[packets]
        found: Index = np.flatnonzero(kind - np.uint8(_FIRST_TYPE) < np.uint8(_TYPES))
        if not found.size:
            return found
        found = found[columns.marker[packets[found]] & self._mux[rows[found]]]
        chosen = found
        if len(found) > MOST_KEPT:
            # A flood: one of each leg, the rest is counted by columns and not looked into.
            np.add.at(self.refused, rows[found], 1)
            chosen = found[np.unique(rows[found], return_index=True)[1][:MOST_KEPT]]
            self.refused[rows[chosen]] -= 1
        for row, packet in zip(rows[chosen].tolist(), packets[chosen].tolist(), strict=True):
            session = self._sessions[row]
            if self._has_turn(tick, row, session):
                length = min(int(batch.lengths[packet]), PACKET_BYTES)
                datagram = batch.slots[packet, HEADER_OFFSET : HEADER_OFFSET + length].tobytes()
                self._kept.append((row, session, datagram, tick))
        return found

    def _has_turn(self, tick: int, row: int, session: Session) -> bool:
        """Whether a leg's datagram is to be looked into now; if not it is counted."""
        if session.broken or session.quiet_until > tick:
            self.refused[row] += 1
            return False
        session.quiet_until = tick + GAP_TICKS
        return True

    def _owner(self, source: Source, datagram: bytes) -> int | None:
        rows = self._by_source.get(source)
        if rows is not None and len(rows) == 1:
            return rows[0]
        if len(datagram) < 8:
            return None
        # The first eight bytes are in clear in SRTCP too (RFC 3711 §3.4).
        same = self._streams.ssrc == int.from_bytes(datagram[4:8], "big")
        if rows is not None:
            return next((row for row in rows if same[row]), None)
        for row in np.flatnonzero(same & self._loose & (self._index == source[0])).tolist():
            heard_from = self._transmitter.destination(row)
            if heard_from is not None and _plain(heard_from.address) == source[1]:
                return int(row)
        return None

    def _take(self, row: int, session: Session, datagram: bytes, age_ns: int) -> bool:
        """One datagram of a leg's own source; false when it was no use."""
        try:
            clear = session.incoming(datagram)
            compound = rtcp.parse(clear) if clear is not None else None
            if compound is None:
                self.refused[row] += 1
                return False
            ours, _, packets, _ = self._transmitter.sender(row)
            session.note(compound, ours, packets, self._clock() - age_ns)
        except Exception as error:
            self._break(row, session, error)
            return False
        self.received += 1
        if compound.goodbyes and not session.left:
            session.left = True
            log.info("leg %d: the peer's RTCP says BYE", session.leg)
        return True

    def _break(self, row: int, session: Session, error: Exception) -> None:
        """A fault of ours in one leg's reports ends them for that leg, and touches no audio."""
        self.faults += 1
        session.broken = True
        session.due = None
        log.error("leg %d: %s in its RTCP; it reports no more", session.leg, type(error).__name__)


def _plain(address: str) -> str:
    """An address as the kernel writes it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))
