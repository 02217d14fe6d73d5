"""Whose packets a leg takes: those of the address that SDP names, or of the one that a symmetric leg latches to.

A leg is in one of four states (`Leg.symmetric`, `Leg.settled`, `Leg.learnt`), and the source table holds what
follows from it:

- *named*: not symmetric. Packets are taken from the SDP address and from nowhere else, for good.
- *waiting*: symmetric, source not known. Packets of the SDP address are taken; others at the leg's socket are
  weighed. A source proves itself by RTP of the negotiated payload type with one SSRC and a sequence that goes
  on: two such packets where signalling has named its IP address (SDP's, or the one that the INVITE came from, as
  with every NAT that is not odd), `STRANGER_TICKS` of them otherwise. At most one leg a socket waits
  (`Legs.check_source`), so one knows whom a stranger concerns.
- *latched*: another source than SDP's has proven itself. It is the only one taken, and where we send.
- *settled*: the SDP address proved itself, or the window closed without anybody else.

Why it is safe. RTP bleed is a stranger who sends to many ports and is sent somebody's audio. His probes of a few
packets, or of many at once, get nothing: he has to stream for half a second into the window of a leg whose peer
has not sent two packets in that time. And where SDP's address is the true one (no NAT, though the trunk says
so), it takes its leg back from whoever was faster: it is kept back in the source table until the window closes.

A source that has moved (a NAT that forgot its binding) shows the SSRC of the stream and a sequence number that
continues it, twice, and only when the former source has been quiet for `QUIET_TICKS`. Who sees no packets of
the call would have to guess 32 bits of SSRC and about 9 of 16 bits of sequence in two consecutive packets. Who
does see them can forge a source anyway, or read the audio where he sits; but he cannot turn our audio to himself
while the peer speaks. Only SRTP helps against more: with keys a packet proves nothing before it authenticates.

All of this is the slow path: it sees only packets whose source is no leg's, at most `MOST_PER_SOCKET` of each
socket (those of named addresses first, so that a flood hides no peer) and `MOST_LOOKED_AT` altogether in a tick,
and the legs that wait, one a socket.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.arrays import Bool, Index, Int64, UInt8, UInt32, UInt64
from media.legs import Leg, Legs
from media.protocol import TICK_MS, Remote, SourceLatched
from media.rtp.lookup import IPv6Key, SourceTable, kept_for, name_to_remote, source_key
from media.rtp.packet import Columns
from media.rtp.sockets import Batch
from media.rtp.stream import Streams
from media.rtp.transmit import Transmitter

LATCH_WINDOW_S: Final = 10.0
#: A moved source is believed when the former one has been quiet for so long: ten packets of 20 ms.
QUIET_TICKS: Final = 10
#: How long a source must stream that signalling has not named.
STRANGER_TICKS: Final = 25
MOST_LOOKED_AT: Final = 128
MOST_PER_SOCKET: Final = 4
#: Packets of the SDP address after which it is the source.
_ENOUGH_HEARD: Final = 2
#: Sources that a leg weighs at once; a further one pushes out the oldest stranger.
_MOST_CANDIDATES: Final = 4
#: Packets of a proof; a stranger's come at 60 ms each at the slowest.
_PROOF: Final = 2
_STRANGERS_PROOF: Final = 8
#: Each next packet of a proof: this far on in sequence, this soon.
_STEP: Final = 5
_SOON_TICKS: Final = 25
#: A moved stream may have lost this many packets, and those of the quiet time at 10 ms each.
_STEP_MOVED: Final = 50
_PACKETS_A_TICK: Final = 2
#: RFC 3550 A.1, MAX_DROPOUT: beyond it the sequence does not continue.
_LONGEST_STEP: Final = 3000

Key = int | IPv6Key


@dataclass(slots=True)
class _Wait:
    """A waiting leg's window, and the IP addresses that signalling vouches for."""

    until: int
    heard_before: int
    named: set[str]


@dataclass(slots=True)
class _Candidate:
    """A source that has shown good packets."""

    ssrc: int
    sequence: int
    first_tick: int
    tick: int
    strange: bool
    packets: int = 1


class SourcePolicy:
    """The rules above, and what they refused.

    Args:
        legs: all legs of the engine.
        table: whose packets are whose; this policy alone writes it.
        streams: what legs have received.
        transmitter: where they send.
        window_s: how long a leg waits for its source.

    Attributes:
        proves: whether a packet (leg, index in the batch) authenticates as the leg's. It is asked last, once for
            each packet that would settle a leg's source, and must leave that leg's replay window as it was or
            count the packet as seen: the packets of a proof are not played. Legs without SRTP: always.
        unknown: packets whose source was no leg's.
        foreign: `(rows,)` those among them that can be laid to one leg.
        latched, moved: sources that were learnt, and learnt anew.
    """

    def __init__(
        self,
        legs: Legs,
        table: SourceTable,
        streams: Streams,
        transmitter: Transmitter,
        *,
        window_s: float = LATCH_WINDOW_S,
    ) -> None:
        self._legs = legs
        self._table = table
        self._streams = streams
        self._transmitter = transmitter
        self._window_ticks = round(window_s * 1000 / TICK_MS)
        self._waits: dict[int, _Wait] = {}
        self._candidates: dict[int, dict[Key, _Candidate]] = {}
        self._kept: dict[int, tuple[Key, int]] = {}
        self._can_move: Bool = np.zeros(legs.rows.capacity, np.bool_)
        self._roaming: Index = np.zeros(0, np.intp)
        self._named: UInt32 | None = None
        self.proves: Callable[[Leg, int], bool] = _clear
        self.unknown = 0
        self.latched = 0
        self.moved = 0
        self.foreign: Int64 = np.zeros(legs.rows.capacity, np.int64)

    def assign(self, leg: Leg, key: Key | None) -> None:
        """Gives a leg the source that was negotiated (or learnt in a former worker); None: nothing is taken."""
        if key is not None:
            self._table.add(key, leg.row)
        leg.source = key
        self._may_move(leg, leg.symmetric and leg.settled)

    def release(self, leg: Leg) -> None:
        """A leg has no source any more, and everything about it is forgotten but the count."""
        if leg.source is not None:
            self._table.remove(leg.source)
            leg.source = None
        self._forget_window(leg.row)
        self._give_up_kept(leg.row)
        self._may_move(leg, False)

    def _may_move(self, leg: Leg, can: bool) -> None:
        if self._can_move[leg.row] != can:
            self._can_move[leg.row] = can
            self._roaming = np.flatnonzero(self._can_move)

    def _forget_window(self, row: int) -> None:
        self._waits.pop(row, None)
        self._candidates.pop(row, None)
        self._named = None

    def _give_up_kept(self, row: int) -> None:
        kept = self._kept.pop(row, None)
        if kept is not None:
            self._table.drop_kept(kept[0], row)

    # The tick

    def watch(self, tick: int) -> list[SourceLatched]:
        """Settles waiting legs whose SDP address was heard or whose window is over; opens windows."""
        events: list[SourceLatched] = []
        for leg in list(self._legs.unsettled.values()):
            # The window is open while the peer may send: a call that begins on hold has not begun.
            if leg.remote is None or not leg.listens:
                continue
            received = int(self._streams.received[leg.row])
            wait = self._waits.get(leg.row)
            if wait is None:
                self._waits[leg.row] = _Wait(tick + self._window_ticks, received, leg.named)
                self._named = None
            elif received - wait.heard_before >= _ENOUGH_HEARD or tick >= wait.until:
                self._settle(leg, leg.remote)
                events.append(SourceLatched(leg=leg.number, remote=leg.remote))
        return events

    def tidy(self, tick: int) -> list[SourceLatched]:
        """What need not happen in every tick: windows close."""
        for row in [row for row, (_, until) in self._kept.items() if tick >= until]:
            self._give_up_kept(row)
        return self.watch(tick)

    def see(self, tick: int, rows: Index, batch: Batch, columns: Columns) -> list[SourceLatched]:
        """Counts and weighs the packets of a batch whose sources are no leg's (`rows` negative)."""
        strange = np.flatnonzero(rows < 0)
        self.unknown += len(strange)
        self._count_foreign(batch.sockets[strange])
        if not (self._legs.unsettled or self._kept or self._roaming.size):
            return []
        # A leg's window may open with this very batch.
        events = self.watch(tick) if len(self._waits) < len(self._legs.unsettled) else []
        moving = _among(columns.ssrc[strange], self._streams.ssrc[self._roaming])
        may_have_moved = set(strange[moving].tolist())
        for packet in self._worth_a_look(strange, moving | (rows[strange] < -1), batch, columns).tolist():
            index = int(batch.sockets[packet])
            remote = name_to_remote(batch.names[packet])
            key = source_key(remote, index)
            if key in self._table:  # given to a leg by an earlier packet of this batch
                continue
            ssrc, sequence = int(columns.ssrc[packet]), int(columns.sequence[packet])
            leg = self._moving(tick, index, ssrc, sequence) if packet in may_have_moved else None
            if leg is None and rows[packet] < -1:
                leg = self._legs.by_row[kept_for(int(rows[packet]))]
            leg = leg or self._waiting(index)
            if leg is None or int(columns.payload_type[packet]) not in (int(leg.codec), leg.event_type):
                continue
            if self._convinces(tick, leg, key, remote, ssrc, sequence) and self.proves(leg, packet):
                self._latch(tick, leg, key, remote, ssrc)
                events.append(SourceLatched(leg=leg.number, remote=remote))
        return events

    def _count_foreign(self, sockets: UInt64) -> None:
        counts = np.bincount(sockets.astype(np.intp))
        for index in np.flatnonzero(counts).tolist():
            leg = self._legs.whose(index)
            if leg is not None:
                self.foreign[leg.row] += counts[index]

    def _worth_a_look(self, strange: Index, first: Bool, batch: Batch, columns: Columns) -> Index:
        """Well-formed packets that may concern a leg: `first`, those of named addresses, then few of each socket."""
        wanted = first | _among(batch.sockets[strange], np.fromiter(self._legs.unsettled, np.uint64))
        wanted &= columns.valid[strange] & (columns.size[strange] > 0)
        chosen = strange[wanted]
        first = first[wanted] | _among(_tails(batch.names[chosen]), self._named_tails())
        order = np.lexsort((~first, batch.sockets[chosen]))
        ordered = batch.sockets[chosen][order]
        few = order[np.arange(len(ordered)) - ordered.searchsorted(ordered) < MOST_PER_SOCKET]
        few = few[np.argsort(~first[few], kind="stable")][:MOST_LOOKED_AT]
        return chosen[np.sort(few)]

    def _named_tails(self) -> UInt32:
        if self._named is None:
            named = {_tail(address) for wait in self._waits.values() for address in wait.named}
            self._named = np.array(sorted(named), np.uint32)
        return self._named

    def _moving(self, tick: int, index: int, ssrc: int, sequence: int) -> Leg | None:
        """The leg whose stream this packet continues after a silence, if any."""
        for row in self._roaming[self._streams.ssrc[self._roaming] == ssrc].tolist():
            leg = self._legs.by_row[row]
            quiet = tick - int(self._streams.last_tick[row])
            longest = min(_LONGEST_STEP, _STEP_MOVED + _PACKETS_A_TICK * quiet)
            if (
                leg.socket == index
                and leg.listens
                and quiet >= QUIET_TICKS
                and _continues(self._streams.last_sequence(row), sequence, longest)
            ):
                return leg
        return None

    def _waiting(self, index: int) -> Leg | None:
        """The leg of a socket whose window is open."""
        leg = self._legs.unsettled.get(index)
        return leg if leg is not None and leg.row in self._waits else None

    def _convinces(self, tick: int, leg: Leg, key: Key, remote: Remote, ssrc: int, sequence: int) -> bool:
        """Whether this packet completes a source's proof."""
        known = self._candidates.setdefault(leg.row, {})
        seen = known.get(key)
        if (
            seen is None
            or seen.ssrc != ssrc
            or tick - seen.tick > _SOON_TICKS
            or not _continues(seen.sequence, sequence, _STEP)
        ):
            known.pop(key, None)
            if len(known) >= _MOST_CANDIDATES:
                del known[next((key for key, one in known.items() if one.strange), next(iter(known)))]
            # A stream that moves has shown what no stranger knows.
            strange = not leg.settled and remote.address not in leg.named
            known[key] = _Candidate(ssrc, sequence, tick, tick, strange)
            return False
        seen.sequence, seen.tick, seen.packets = sequence, tick, seen.packets + 1
        if not seen.strange:
            return seen.packets >= _PROOF
        return seen.packets >= _STRANGERS_PROOF and tick - seen.first_tick >= STRANGER_TICKS

    def _latch(self, tick: int, leg: Leg, key: Key, remote: Remote, ssrc: int) -> None:
        former, wait = leg.source, self._waits.get(leg.row)
        self.latched += not leg.settled
        self.moved += leg.settled
        if remote == leg.remote:
            self._give_up_kept(leg.row)
        if former is not None:
            self._table.remove(former)
        self._table.add(key, leg.row)
        leg.source = key
        if former is not None and wait is not None and tick < wait.until:
            self._table.keep(former, leg.row)
            self._kept[leg.row] = former, wait.until
        if ssrc != self._streams.ssrc[leg.row]:
            self._streams.restart(leg.row)
        self._streams.last_tick[leg.row] = tick
        self._transmitter.redirect(leg.row, remote)
        self._settle(leg, remote)

    def _settle(self, leg: Leg, remote: Remote) -> None:
        leg.settled = True
        leg.learnt = None if remote == leg.remote else remote
        self._forget_window(leg.row)
        self._legs.refresh(leg)
        self._may_move(leg, True)


def _clear(leg: Leg, packet: int) -> bool:
    return not leg.secure


def _continues(last: int, sequence: int, longest: int) -> bool:
    return 1 <= (sequence - last) & 0xFFFF <= longest


def _tail(address: str) -> int:
    """The last four bytes of an address as they lie in memory."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address)[-4:], "little")


def _tails(names: UInt8) -> UInt32:
    """The same of `sockaddr_in` and `sockaddr_in6`, whose addresses end at bytes 8 and 24."""
    words = names.view(np.uint32)
    return np.where(names.view(np.uint16)[:, 0] == socket.AF_INET, words[:, 1], words[:, 5])


def _among(values: NDArray[Any], known: NDArray[Any]) -> Bool:
    """`np.isin`, without its sorting where there is little to compare."""
    if len(values) * len(known) <= 1 << 15:
        found: Bool = (values[:, None] == known).any(axis=1)
        return found
    return np.isin(values, known)
