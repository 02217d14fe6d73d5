"""The tick: everything that one media worker does in 20 ms, for all its legs at once.

    receive ─► parse ─► find legs ─► ring ─► play out ─► detect ─► mask, mix ─► prompts ─► encode ─► send
                            │ └─► telephone-event ─► keys ◄─┘
                            └─► nobody's: source policy

An engine takes sockets that are bound already and knows no clock: each call of `tick` is 20 ms of media time,
and whoever calls it keeps the schedule. Commands are carried out between ticks by `execute`.

It fails closed. Output starts as silence in every tick; audio of a source reaches it through a mask or not at
all; an exception anywhere leaves every leg with silence for that tick, every masked connection silent until
its mask is set again, and a `LegFault` for each leg. The engine itself goes on.
"""

from __future__ import annotations

import collections
import random
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from media import commands, quality
from media.arrays import Bool, Index, Int16, Int64
from media.connections import Connections
from media.dsp import dtmf
from media.dsp.echo import Echoes
from media.keys import Deduplicator, Tones
from media.legs import Leg, Legs
from media.masks import Heard, Stocks
from media.playlists import BRIDGE_SHIFT, AudioQueues, Finished, Players, PromptStore
from media.protocol import (
    FRAME_SAMPLES,
    TICK_MS,
    AnyCommand,
    AnyEvent,
    KeyPressed,
    KeyWay,
    LegFault,
    LegStatistics,
    PlayFinished,
    Refused,
    RTPTimeout,
)
from media.rtp.lookup import SourceTable
from media.rtp.packet import Columns, parse
from media.rtp.reports import Reports
from media.rtp.sockets import open_receiver
from media.rtp.source import LATCH_WINDOW_S, SourcePolicy
from media.rtp.srtp import SecureLegs
from media.rtp.stream import Events, Streams
from media.rtp.telephone_event import EVENT_BYTES, EventReceiver
from media.rtp.transmit import Transmitter

#: A core carries no more than this; each of them may send packets of 10 ms (`media.rtp.sockets.BATCH`).
MOST_LEGS: Final = 2_048
#: Legs whose statistics are said in one tick when those of all are asked for.
_MOST_REPORTED: Final = 32
#: Ticks between looks at legs that have gone quiet.
_TIMEOUT_CHECK_TICKS: Final = 10
_MOST_DRAINED: Final = 256
#: Why a packet of a leg, or to a leg, was of no use.
_REFUSED: Final = ("late", "refused", "foreign")


class Engine:
    """All legs of one worker.

    Args:
        sockets: bound UDP sockets; `AddLeg.socket` is an index into them. They stay the caller's.
        rng: for SSRCs, sequence numbers and comfort noise.
        depth_ms: how long after its arrival a leg's first packet is played; later ones as jitter demands.
        timeout_s: quiet time after which `RTPTimeout` is said.
        latch_window_s: how long a symmetric leg waits for its source.
        dtmf_params: limits of the detector.
        portable: avoid `recvmmsg` and `sendmmsg`.
        capacity: most legs; more are refused. Room that is not used costs address space and no memory, and no
            column ever moves while legs are talking.
        report_sockets: bound UDP sockets for RTCP, one beside each of `sockets`; without them only legs with
            rtcp-mux report.
        wall_clock: nanoseconds since 1970, for RTCP alone.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        rng: np.random.Generator | None = None,
        depth_ms: int = 40,
        timeout_s: float = 30.0,
        latch_window_s: float = LATCH_WINDOW_S,
        dtmf_params: dtmf.DTMFParams | None = None,
        portable: bool = False,
        capacity: int = MOST_LEGS,
        report_sockets: Sequence[socket.socket] = (),
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.rng = rng if rng is not None else np.random.default_rng()
        self.sockets = list(sockets)
        self.legs = Legs(capacity)
        self.sources = SourceTable()
        self.streams = Streams(capacity, depth_ms)
        self.connections = Connections(capacity, self.rng)
        self.prompts = PromptStore()
        self.players = Players(self.prompts, capacity)
        self.queues = AudioQueues()
        self.secure = SecureLegs(capacity)
        self.transmitter = Transmitter(sockets, capacity, self.rng, portable=portable, secure=self.secure)
        self.policy = SourcePolicy(
            self.legs, self.sources, self.streams, self.transmitter, window_s=latch_window_s
        )
        self.policy.proves = self._is_authentic
        self.reports = Reports(
            sockets,
            report_sockets,
            capacity,
            self.streams,
            self.transmitter,
            rng=random.Random(int(self.rng.spawn(1)[0].integers(1 << 62))),
            clock=wall_clock,
        )
        self.keys = Deduplicator()
        self.tones = Tones()
        self.event_receiver = EventReceiver(capacity)
        self.ticks = 0
        self.packets_received = 0
        self.packets_sent = 0
        self.faults = 0
        self._refused_before = dict.fromkeys(_REFUSED, 0)
        self._timeout_s = timeout_s
        self._params = dtmf_params or dtmf.DTMFParams()
        self._detector = dtmf.DTMFState(capacity)
        self.echoes = Echoes(capacity)
        self._decoyed: Index = np.zeros(0, np.intp)
        self._receiver = open_receiver(sockets, portable=portable)
        self._stocks = Stocks(self.rng)
        self._keyed: Bool = np.zeros(capacity, np.bool_)
        self._pcm: Int16 = np.zeros((capacity, FRAME_SAMPLES), np.int16)
        self._previous: Int16 = np.zeros((capacity, FRAME_SAMPLES), np.int16)
        self._bare: Int16 = np.zeros((capacity, FRAME_SAMPLES), np.int16)
        """What was received without the echoes of our decoys."""
        self._out: Int16 = np.zeros((capacity, FRAME_SAMPLES), np.int16)
        self._wipe = False
        self._silent: Bool = np.zeros(capacity, np.bool_)
        self._owed: collections.deque[int] = collections.deque()
        self.sockets_changed = True
        self.keys_inband = np.zeros(capacity, np.int64)
        self.keys_rfc4733 = np.zeros(capacity, np.int64)
        self.keys_info = np.zeros(capacity, np.int64)
        self._counters = {
            KeyWay.INBAND: self.keys_inband,
            KeyWay.RFC4733: self.keys_rfc4733,
            KeyWay.INFO: self.keys_info,
        }
        self._signalled: list[tuple[int, int]] = []
        """Keys that came by signalling since the last tick: leg and code."""

    # Commands

    def execute(self, command: AnyCommand) -> list[AnyEvent]:
        """Carries out one command; it shows in the next tick.

        Returns:
            `Acknowledged` or `Refused`, and what followed from it. `QueryStatistics` is answered with the
            legs' part only, `Shutdown` drops the legs: the rest is the worker's.
        """
        try:
            return commands.execute(self, command)
        except Exception as error:
            events: list[AnyEvent] = [
                Refused(seq=command.seq, reason=f"{type(error).__name__} in the command")
            ]
            self._fail(error, events)
            return events

    def hear_signalled(self, leg: Leg, key: int) -> None:
        """A key of a leg's peer that came by SIP INFO; it counts in the next tick."""
        self._signalled.append((leg.number, key))

    def load_prompt(self, prompt: int, samples: Int16) -> None:
        """Takes a prompt from memory."""
        self.prompts.load(prompt, samples)

    def queue_audio(self, leg: int, samples: Int16) -> None:
        """Speaks samples on a leg, after those that were queued before."""
        self.queues.add(self.legs[leg].row, samples)

    def queued_samples(self, leg: int) -> int:
        """Samples that the leg still has to speak."""
        return self.queues.length(self.legs[leg].row)

    def received_pcm(self, leg: int) -> Int16:
        """What the leg's peer was heard saying in the last tick; a view, valid until the next tick."""
        view: Int16 = self._pcm[self.legs[leg].row]
        return view

    def sent_pcm(self, leg: int) -> Int16:
        """What the leg's peer was sent in the last tick, before its law; a view valid until the next tick."""
        view: Int16 = self._out[self.legs[leg].row]
        return view

    def drop_all(self) -> None:
        """Silences and forgets every leg at once."""
        for leg in self.legs.all():
            self.drop(leg)

    def drop(self, leg: Leg) -> list[AnyEvent]:
        """Forgets a leg and overwrites its audio."""
        row = leg.row
        events = self.finished(self.players.stop(row))
        self.policy.release(leg)
        for name in _REFUSED:
            self._refused_before[name] += int(self._refused(name)[row])
        self.connections.remove_leg(row)
        self.queues.clear(row)
        self.keys.clear(row)
        self.tones.clear(row)
        self.event_receiver.clear(row)
        self.reports.remove(row)
        self.transmitter.clear(row)
        self.secure.clear(row)
        self.streams.clear(row)
        self._detector.clear(row)
        if row in self._decoyed:
            self.echoes.clear(row)
        for audio in (self._pcm, self._previous, self._bare, self._out):
            audio[row] = 0
        for counter in self._counters.values():
            counter[row] = 0
        self.policy.foreign[row] = 0
        self._silent[row] = False
        self.legs.remove(leg)
        self.sockets_changed = True
        self._wipe = True
        return events

    def leg_statistics(self, leg: Leg) -> LegStatistics:
        """What was counted for a leg."""
        row, streams = leg.row, self.streams
        received, lost, late = int(streams.received[row]), streams.lost(row), int(streams.late[row])
        remote = self.reports.figures(row)
        buffer_ms = float(streams.depth.wait[row]) / 8
        return LegStatistics(
            leg=leg.number,
            packets_received=received,
            packets_sent=int(self.transmitter.sent[row]),
            packets_lost=lost,
            packets_late=late,
            packets_refused=int(streams.refused[row]),
            jitter_ms=round(float(streams.jitter[row]) / 8, 3),
            keys_inband=int(self.keys_inband[row]),
            keys_rfc4733=int(self.keys_rfc4733[row]),
            keys_info=int(self.keys_info[row]),
            tone_shortest_ms=self.tones.shortest_ms(row),
            tone_softest_dbm0=self.tones.softest_dbm0(row),
            keys_disagreed=self.keys.disagreements(row),
            keys_way=self.keys.pinned(row),
            packets_foreign=int(self.policy.foreign[row]),
            srtp_failed=int(self.secure.failed[row]),
            packets_duplicate=int(streams.counts.duplicates[row]),
            resyncs=int(streams.resyncs[row]),
            frames_concealed=int(streams.playout.concealed[row]),
            buffer_ms=round(buffer_ms, 1),
            clock_ppm=round(streams.depth.clock_ppm(row), 1),
            round_trip_ms=remote.round_trip_ms,
            remote_lost=remote.lost,
            remote_jitter_ms=remote.jitter_ms,
            mos=quality.heard(received, lost + late, remote.round_trip_ms, buffer_ms),
            remote_mos=remote.mos,
        )

    def packets_refused(self, why: str) -> int:
        """Packets that were `late`, `refused` or `foreign`, of all legs there ever were."""
        return self._refused_before[why] + int(self._refused(why).sum())

    def _refused(self, why: str) -> Int64:
        return {"late": self.streams.late, "refused": self.streams.refused, "foreign": self.policy.foreign}[
            why
        ]

    def owe_statistics(self) -> None:
        """The statistics of all legs, a few in each of the coming ticks: thousands at once would make it late."""
        self._owed = collections.deque(leg.number for leg in self.legs.all())

    def _report(self, events: list[AnyEvent]) -> None:
        for _ in range(min(len(self._owed), _MOST_REPORTED)):
            number = self._owed.popleft()
            if number in self.legs:
                events.append(self.leg_statistics(self.legs[number]))

    def drain(self) -> None:
        """Throws away what waits in the sockets (it was meant for an earlier incarnation)."""
        for _ in range(_MOST_DRAINED):
            if not self._receiver.receive():
                break
        self.reports.drain()

    # The tick

    def tick(self) -> list[AnyEvent]:
        """Twenty milliseconds for every leg. Never raises; returns what happened, in order."""
        events: list[AnyEvent] = []
        legs = self.legs.rows.high
        out = self._out[:legs]
        out[:] = 0
        try:
            self._receive(events)
            self._pcm, self._previous = self._previous, self._pcm
            valid = self.streams.play(
                self.ticks, legs, self.legs.alaw_rows, self._pcm[:legs], self._previous[:legs]
            )
            self._detect(legs, valid, events)
            self._hear_signalled(events)
            self._mix(legs, valid, out, events)
        except Exception as error:
            self._fail(error, events)
            self._pcm[:legs] = 0
            out[:] = 0
        self._guard(lambda: self._send(out), events)
        self._guard(lambda: self.reports.exchange(self.ticks), events)
        self._guard(lambda: self._check_timeouts(events), events)
        if self._owed:
            self._guard(lambda: self._report(events), events)
        if self._wipe:
            self._receiver.batch.wipe()
            self._wipe = False
        self.ticks += 1
        return events

    def _guard(self, stage: Callable[[], None], events: list[AnyEvent]) -> None:
        try:
            stage()
        except Exception as error:
            self._fail(error, events)

    def _fail(self, error: Exception, events: list[AnyEvent]) -> None:
        self.faults += 1
        # The text of an exception may quote data; its type cannot.
        events += self.fault_all(f"{type(error).__name__} in the tick")

    def fault_all(self, reason: str) -> list[AnyEvent]:
        """Silences all masked connections until their masks are set again, and says so once for each leg."""
        self.connections.silence_masked()
        fresh = [leg for leg in self.legs.all() if not leg.faulted]
        for leg in fresh:
            leg.faulted = True
        return [LegFault(leg=leg.number, reason=reason) for leg in fresh]

    def _receive(self, events: list[AnyEvent]) -> None:
        if self.sockets_changed:
            self.sockets_changed = False
            self._receiver.watch(self.transmitter.sockets_in_use())
        count = self._receiver.receive()
        if not count:
            return
        self.packets_received += count
        batch = self._receiver.batch
        columns = parse(batch.slots[:count], batch.lengths[:count])
        rows = self.sources.find(batch.names[:count], batch.sockets[:count])
        if rows.min() < 0:
            events += self.policy.see(self.ticks, rows, batch, columns)
            packets = np.flatnonzero(rows >= 0)
            if not packets.size:
                return
            rows = rows[packets]
        else:
            packets = np.arange(count)
        if self.reports.muxing:
            reports = self.reports.take_muxed(self.ticks, rows, packets, columns, batch)
            if reports.size:
                rows, packets = np.delete(rows, reports), np.delete(packets, reports)
            if not rows.size:
                return
        if self.secure:
            rows, packets = self.secure.open(rows, packets, columns, batch.slots, batch.lengths)
        found = self.streams.receive(self.ticks, rows, packets, columns, batch.slots)
        if self.legs.unsettled:
            events += self.policy.watch(self.ticks)
        if found.rows.size:
            self._receive_events(found, columns, events)

    def _is_authentic(self, leg: Leg, packet: int) -> bool:
        """Whether a packet from a source that is no leg's was made by this leg's peer, as far as keys can tell."""
        batch = self._receiver.batch
        return self.secure.authentic(leg.row, packet, batch.slots, batch.lengths)

    def _receive_events(self, found: Events, columns: Columns, events: list[AnyEvent]) -> None:
        chosen = self.legs.events[found.rows] & (columns.size[found.packets] >= EVENT_BYTES)
        rows, packets = found.rows[chosen], found.packets[chosen]
        start = columns.offset[packets][:, None] + np.arange(EVENT_BYTES)
        payload = self._receiver.batch.slots[packets[:, None], start]
        for press in self.event_receiver.receive(
            rows, columns.ssrc[packets], columns.timestamp[packets], columns.marker[packets], payload
        ):
            timestamp = press.timestamp
            if press.ssrc != self.streams.ssrc[press.row]:
                # Another clock than the audio's, or no audio yet: now is the best that is known.
                timestamp = self.streams.now(press.row)
            self._key(press.row, KeyWay.RFC4733, press.key, timestamp, events)

    def _detect(self, legs: int, valid: tuple[Bool, Bool], events: list[AnyEvent]) -> None:
        presses = dtmf.detect(self._detector, self._params, self._without_echoes(legs, valid), valid)
        for release in self._detector.released:
            self.tones.note(release)
        for press in presses:
            if not self.legs.inband[press.row]:
                continue
            if press.row in self._decoyed and self.echoes.unsure(press.row):
                continue
            # The timelines have moved on to the next frame already.
            start = int(self.streams.play_timestamp[press.row]) - FRAME_SAMPLES + press.start
            hole = self.streams.playout.hole_before(press.row, start)
            self._key(press.row, KeyWay.INBAND, press.key, start & 0xFFFFFFFF, events, hole)

    def _without_echoes(self, legs: int, valid: tuple[Bool, Bool]) -> Int16:
        rows = self.connections.decoyed()
        if rows is not self._decoyed:
            for row in np.setxor1d(rows, self._decoyed).tolist():
                self.echoes.clear(row)
                self._bare[row] = 0
            # Keys come during prompts, too: what buries them is not lowered for a prompt.
            self.players.shift[self._decoyed] = BRIDGE_SHIFT
            self.players.shift[rows] = 0
            self._decoyed = rows
        if not rows.size:
            return self._pcm[:legs]
        bare = self._bare[:legs]
        bare[:] = self._pcm[:legs]
        self.echoes.take_out(rows, bare, valid[0] & valid[1])
        return bare

    def _hear_signalled(self, events: list[AnyEvent]) -> None:
        # Taken first: what fails once must not fail in every tick.
        signalled, self._signalled = self._signalled, []
        for number, key in signalled:
            if number in self.legs:
                self._key(self.legs[number].row, KeyWay.INFO, key, None, events)

    def _key(
        self, row: int, way: KeyWay, key: int, timestamp: int | None, events: list[AnyEvent], hole: int = 0
    ) -> None:
        self._counters[way][row] += 1
        if not self.keys.accept(row, way, key, timestamp, hole, tick=self.ticks):
            return
        leg = self.legs.by_row[row]
        now = self.streams.now(row) if timestamp is None else timestamp
        events.append(KeyPressed(leg=leg.number, key=key, way=way, timestamp=now))
        events += self.finished(self.players.key_pressed(row))

    def _mix(self, legs: int, valid: tuple[Bool, Bool], out: Int16, events: list[AnyEvent]) -> None:
        self._keyed[:] = False
        for event in events:
            if isinstance(event, KeyPressed):
                self._keyed[self.legs[event.leg].row] = True
        heard = Heard(self._pcm[:legs], self._keyed, valid[0] & valid[1])
        faulty = self.connections.mix(out, heard, self._stocks)
        if self._decoyed.size:
            self.echoes.keep(self._decoyed, out[self._decoyed])
        for row in faulty:
            leg = self.legs.by_row[row]
            if not leg.faulted:
                leg.faulted = True
                events.append(LegFault(leg=leg.number, reason="a mask in an unknown state"))
        events += self.finished(self.players.mix(out))
        self.queues.mix(out)

    def finished(self, ended: list[Finished]) -> list[AnyEvent]:
        """Ends of playlists as events."""
        return [
            PlayFinished(
                leg=self.legs.by_row[end.row].number, playlist=end.playlist, interrupted=end.interrupted
            )
            for end in ended
        ]

    def _send(self, out: Int16) -> None:
        self.packets_sent += self.transmitter.send(out, self.legs.alaw_rows)

    def _check_timeouts(self, events: list[AnyEvent]) -> None:
        if self.ticks % _TIMEOUT_CHECK_TICKS:
            return
        events += self.policy.tidy(self.ticks)
        self.keys.tidy(self.ticks)
        limit = self._timeout_s * 1000 / TICK_MS
        legs = self.legs.rows.high
        quiet = self.ticks - self.streams.last_tick[:legs] >= limit
        self._silent[:legs] &= quiet
        for row in np.flatnonzero(quiet & ~self._silent[:legs]).tolist():
            leg = self.legs.by_row.get(row)
            if leg is not None and leg.listens and leg.remote is not None:
                self._silent[row] = True
                events.append(RTPTimeout(leg=leg.number, seconds=self._timeout_s))
