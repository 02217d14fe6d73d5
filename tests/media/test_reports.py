"""Two engines that report to each other over loopback, and what stands between them."""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AnyEvent,
    CryptoSuite,
    Direction,
    LegFault,
    Refused,
    Remote,
    RemoveLeg,
    SendKey,
    SRTPKeys,
    UpdateLeg,
)
from media.rtp import rtcp
from media.rtp.packet import header
from media.rtp.reports import GAP_TICKS, INTERVAL_TICKS, MOST_SENT, SLOT_TICKS, Reports
from media.rtp.stream import Streams
from media.rtp.transmit import Transmitter
from tests.media.support import add, of_type, remote_of, udp_socket

SECOND = 50


class Clock:
    """A wall clock that only the test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_780_000_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns


class Way:
    """One direction of a path: datagrams that come to one socket leave from another, late or never."""

    def __init__(self, come: socket.socket, leave: socket.socket, to: Remote) -> None:
        self._come, self._leave, self._to = come, leave, to
        self._held: collections.deque[tuple[int, bytes]] = collections.deque()
        self._rng = np.random.default_rng(5)
        self.delay_ticks = 0
        self.loss = 0.0

    def step(self, tick: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram = self._come.recv(2048)
                if self._rng.random() >= self.loss:
                    self._held.append((tick + self.delay_ticks, datagram))
        while self._held and self._held[0][0] <= tick:
            self._leave.sendto(self._held.popleft()[1], (self._to.address, self._to.port))


class Line:
    """A telephone and a switch, leg 1 each, with a relay between them on every port."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        *,
        mux: bool,
        symmetric: bool = False,
        keys: tuple[SRTPKeys | None, SRTPKeys | None] = (None, None),
    ) -> None:
        def opened() -> socket.socket:
            return stack.enter_context(udp_socket())

        self.clock = Clock()
        ours, theirs = [opened(), opened()], [opened(), opened()]
        facing_ours, facing_theirs = [opened(), opened()], [opened(), opened()]
        self.facing_switch = facing_ours
        self.switch = Engine(
            [ours[0]],
            report_sockets=[ours[1]],
            capacity=8,
            wall_clock=self.clock,
            rng=np.random.default_rng(1),
        )
        self.telephone = Engine(
            [theirs[0]],
            report_sockets=[theirs[1]],
            capacity=8,
            wall_clock=self.clock,
            rng=np.random.default_rng(2),
        )
        self.outward = [Way(facing_ours[n], facing_theirs[n], remote_of(theirs[n])) for n in (0, 1)]
        self.inward = [Way(facing_theirs[n], facing_ours[n], remote_of(ours[n])) for n in (0, 1)]
        ends = ((self.switch, facing_ours, keys[0]), (self.telephone, facing_theirs, keys[1]))
        for engine, facing, key in ends:
            rtp, reports = remote_of(facing[0]), remote_of(facing[1])
            if symmetric and engine is self.switch:
                # A private address in the SDP; the packets come from elsewhere.
                rtp, reports = Remote("127.9.9.9", rtp.port), Remote("127.9.9.9", 9)
            answer = add(
                engine,
                1,
                rtp,
                rtcp=rtp if mux else reports,
                rtcp_mux=mux,
                symmetric=symmetric and engine is self.switch,
                srtp=key,
            )
            assert isinstance(answer, Acknowledged)
        self.tick = 0

    def run(self, ticks: int) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        for _ in range(ticks):
            self.tick += 1
            self.clock.now_ns += 20_000_000
            self.telephone.tick()
            for way in (*self.inward, *self.outward):
                way.step(self.tick)
            events += self.switch.tick()
        return events


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("mux", [True, False], ids=["mux", "port above"])
def test_both_sides_learn_what_the_other_hears(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch, mux: bool
) -> None:
    # How long a report has waited is the kernel's to say, and its clock does not run ahead with the test's.
    monkeypatch.setattr("media.rtp.reports.SLOT_TICKS", 1)
    line = Line(stack, mux=mux)
    for way in line.outward:
        way.loss = 0.1
    for way in (*line.outward, *line.inward):
        way.delay_ticks = 4
    line.run(30 * SECOND)
    ours = line.switch.leg_statistics(line.switch.legs[1])
    theirs = line.telephone.leg_statistics(line.telephone.legs[1])
    assert 100 < theirs.packets_lost < 200
    # The last report is at most 7.5 s old, of 30.
    assert (
        ours.remote_lost is not None and 0.6 * theirs.packets_lost < ours.remote_lost <= theirs.packets_lost
    )
    assert theirs.remote_lost == ours.packets_lost == 0
    # Four ticks each way, and two until the relay and the telephone have their turn again.
    for one in (ours, theirs):
        assert one.round_trip_ms == pytest.approx(200, abs=30)
    assert ours.remote_mos == pytest.approx(3.3, abs=0.2)
    assert theirs.mos == pytest.approx(3.3, abs=0.2)
    assert ours.mos is not None and ours.mos > 4.2
    assert theirs.remote_mos is not None and theirs.remote_mos > 4.2
    assert line.switch.reports.foreign == line.telephone.reports.foreign == 0
    assert line.switch.reports.refused_ever == 0
    # Reports are not audio, on whatever port they come.
    assert ours.packets_refused == theirs.packets_refused == 0


def test_quality_falls_with_loss_and_with_delay(stack: contextlib.ExitStack) -> None:
    line = Line(stack, mux=True)
    line.run(4 * SECOND)
    scores = [line.switch.leg_statistics(line.switch.legs[1]).mos]
    line.inward[0].loss = 0.1
    line.run(8 * SECOND)
    scores.append(line.switch.leg_statistics(line.switch.legs[1]).mos)
    line.inward[0].delay_ticks = line.outward[0].delay_ticks = 20
    line.run(25 * SECOND)
    scores.append(line.switch.leg_statistics(line.switch.legs[1]).mos)
    assert all(score is not None for score in scores)
    assert scores[0] - 0.2 > scores[1] > scores[2] + 0.2  # type: ignore[operator]


def test_a_peer_behind_nat_is_known_by_its_host_and_its_stream(stack: contextlib.ExitStack) -> None:
    """Its reports come from a port that no SDP has named; ours go back there (RFC 4961)."""
    line = Line(stack, mux=False, symmetric=True)
    line.run(20 * SECOND)
    ours = line.switch.leg_statistics(line.switch.legs[1])
    theirs = line.telephone.leg_statistics(line.telephone.legs[1])
    assert ours.remote_lost == 0 and theirs.remote_lost == 0
    assert ours.round_trip_ms is not None
    # Locked: another port of the same host, with the same SSRC, is foreign now.
    impostor = stack.enter_context(udp_socket())
    ssrc = int(line.switch.streams.ssrc[0])
    to = line.switch.reports._report_sockets[0].getsockname()
    impostor.sendto(rtcp.goodbye(ssrc, rtcp.source_items(ssrc, b"x")), to)
    line.run(SLOT_TICKS + 1)
    assert line.switch.reports.foreign == 1


@pytest.mark.parametrize("mux", [True, False], ids=["mux", "port above"])
def test_a_third_address_changes_nothing(stack: contextlib.ExitStack, mux: bool) -> None:
    line = Line(stack, mux=mux)
    line.run(12 * SECOND)
    before = line.switch.leg_statistics(line.switch.legs[1])
    assert before.remote_lost == 0
    ssrc = int(line.telephone.transmitter.sender(0).ssrc)
    ours = int(line.switch.transmitter.sender(0).ssrc)
    lie = rtcp.report(
        ssrc, None, rtcp.ReportBlock(ours, 255, 9999, 1, 99999, 1, 1), rtcp.source_items(ssrc, b"x")
    )
    attacker = stack.enter_context(udp_socket())
    for target in (line.switch.sockets[0], line.switch.reports._report_sockets[0]):
        attacker.sendto(lie, target.getsockname())
    line.run(SLOT_TICKS + 1)
    after = line.switch.leg_statistics(line.switch.legs[1])
    assert (after.remote_lost, after.remote_jitter_ms) == (0, before.remote_jitter_ms)
    assert line.switch.reports.foreign + line.switch.policy.unknown == 2


@pytest.mark.parametrize("mux", [True, False], ids=["mux", "port above"])
def test_a_flood_of_reports_costs_the_leg_that_it_comes_from(stack: contextlib.ExitStack, mux: bool) -> None:
    line = Line(stack, mux=mux)
    hostile = [stack.enter_context(udp_socket()) for _ in range(2)]
    rtp, reports = remote_of(hostile[0]), remote_of(hostile[1])
    assert isinstance(add(line.switch, 2, rtp, rtcp=rtp if mux else reports, rtcp_mux=mux), Acknowledged)
    line.run(2 * SECOND)
    sock = hostile[0] if mux else hostile[1]
    to = line.switch.sockets[0] if mux else line.switch.reports._report_sockets[0]
    ours = int(line.switch.transmitter.sender(1).ssrc)
    lie = rtcp.report(7, None, rtcp.ReportBlock(ours, 255, 9999, 1, 1, 1, 1), rtcp.source_items(7, b"x"))
    junk = lie[:-4] + b"\xff\xff\xff\xff"
    before = line.switch.leg_statistics(line.switch.legs[1])
    sent, events = 0, []
    for n in range(12 * SECOND):
        for _ in range(40):
            sock.sendto(junk if n % 3 else lie, to.getsockname())
            sent += 1
        events += line.run(1)
    after = line.switch.leg_statistics(line.switch.legs[1])
    assert after.packets_received - before.packets_received == 12 * SECOND
    assert after.packets_lost == after.packets_late == 0
    assert after.remote_lost == 0
    assert not of_type(events, LegFault)
    flooded = line.switch.reports
    assert flooded.refused[0] == 0
    assert flooded.refused[1] > sent * 0.9
    assert flooded.received <= 12 * SECOND / GAP_TICKS + 20


def test_a_flood_of_foreign_reports_leaves_room_for_the_legs_own(stack: contextlib.ExitStack) -> None:
    line = Line(stack, mux=False)
    attacker = stack.enter_context(udp_socket())
    to = line.switch.reports._report_sockets[0].getsockname()
    for _ in range(12 * SECOND):
        for _ in range(30):
            attacker.sendto(b"\x81\xc9" * 20, to)
        line.run(1)
    line.run(SLOT_TICKS)
    assert line.switch.reports.foreign == 12 * SECOND * 30
    assert line.switch.leg_statistics(line.switch.legs[1]).remote_lost == 0


def legs_that_only_report(stack: contextlib.ExitStack, count: int) -> tuple[Reports, socket.socket]:
    """Many legs on one port, on hold, so that nothing but reports leaves; all peers are one socket."""
    peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    peer.setblocking(False)
    sockets = [stack.enter_context(udp_socket())]
    rng = np.random.default_rng(3)
    transmitter = Transmitter(sockets, count, rng)
    reports = Reports(sockets, (), count, Streams(count, 40), transmitter, rng=random.Random(3))
    for row in range(count):
        transmitter.add(row, 0)
        transmitter.negotiate(row, remote_of(peer), 0, None, sending=False)
        reports.negotiate(0, row, row, 0, remote_of(peer), mux=True, symmetric=False)
    return reports, peer


def reporters(peer: socket.socket) -> list[int]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            compound = rtcp.parse(peer.recv(2048))
            assert compound is not None
            found.append(compound.ssrc)
    return found


def test_intervals_are_random_within_their_bounds(stack: contextlib.ExitStack) -> None:
    reports, peer = legs_that_only_report(stack, 100)
    times: dict[int, list[int]] = collections.defaultdict(list)
    for tick in range(60 * SECOND):
        reports.exchange(tick)
        for ssrc in reporters(peer):
            times[ssrc].append(tick)
    assert len(times) == 100
    firsts = [ticks[0] for ticks in times.values()]
    assert min(firsts) >= INTERVAL_TICKS // 4 and max(firsts) < INTERVAL_TICKS * 3 // 4 + SLOT_TICKS
    gaps = np.concatenate([np.diff(ticks) for ticks in times.values()])
    assert gaps.min() >= INTERVAL_TICKS // 2 and gaps.max() < INTERVAL_TICKS * 3 // 2 + SLOT_TICKS
    assert gaps.mean() == pytest.approx(INTERVAL_TICKS, rel=0.05)
    # Uniform: a third of them in each third of the range.
    assert np.histogram(gaps, 3)[0] / len(gaps) == pytest.approx([1 / 3] * 3, abs=0.08)


def test_legs_that_came_together_do_not_report_together(stack: contextlib.ExitStack) -> None:
    reports, peer = legs_that_only_report(stack, 4000)
    seen: set[int] = set()
    counts = []
    for tick in range(8 * SECOND):
        reports.exchange(tick)
        heard = reporters(peer)
        counts.append(len(heard))
        seen.update(heard)
    assert max(counts) == MOST_SENT  # twice the legs that a worker is made for
    assert len(seen) == 4000


def test_a_sender_report_maps_media_time_to_the_wall_clock(stack: contextlib.ExitStack) -> None:
    clock = Clock()
    ours, peer = stack.enter_context(udp_socket()), stack.enter_context(udp_socket())
    engine = Engine([ours], capacity=8, wall_clock=clock)
    remote = remote_of(peer)
    add(engine, 1, remote, rtcp=remote, rtcp_mux=True)
    engine.execute(SendKey(seq=1, leg=1, key=5))
    infos: list[tuple[int, rtcp.SenderInfo, int, int, int]] = []
    packets = octets = timestamp = 0
    for _ in range(20 * SECOND):
        clock.now_ns += 20_000_000
        engine.tick()
        with contextlib.suppress(BlockingIOError):
            while True:
                data = peer.recv(2048)
                if data[1] in (200, 201):
                    compound = rtcp.parse(data)
                    assert compound is not None and compound.sender is not None
                    assert compound.cname is not None and len(compound.cname) == 16
                    infos.append((clock.now_ns, compound.sender, packets, octets, timestamp))
                else:
                    packets += 1
                    octets += len(data) - 12
                    if data[1] == 0:
                        timestamp = int.from_bytes(data[4:8], "big")
    assert len(infos) >= 3
    for now_ns, info, so_far, payload, stamp in infos:
        assert info.ntp == rtcp.ntp_time(now_ns)
        assert (info.rtp_timestamp, info.packets, info.octets) == (stamp, so_far, payload)


def test_a_leg_that_goes_says_so_and_a_peers_goodbye_is_noted_once(
    stack: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(stack, mux=False)
    line.run(8 * SECOND)
    ssrc = int(line.telephone.transmitter.sender(0).ssrc)
    sent = []
    line.inward[1]._leave = _Tap(line.inward[1]._leave, sent)  # type: ignore[assignment]
    with caplog.at_level(logging.INFO, "media.rtp.reports"):
        assert line.telephone.execute(RemoveLeg(seq=5, leg=1)) == [Acknowledged(seq=5)]
        line.run(GAP_TICKS + 2)
    parsed = [rtcp.parse(datagram) for datagram in sent]
    assert [compound.goodbyes for compound in parsed if compound] == [(ssrc,)]
    assert caplog.text.count("BYE") == 1
    assert 1 in line.switch.legs


class _Tap:
    def __init__(self, sock: socket.socket, seen: list[bytes]) -> None:
        self._sock, self._seen = sock, seen

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        self._seen.append(data)
        self._sock.sendto(data, to)


def test_a_leg_on_hold_still_reports_and_one_without_an_address_does_not(stack: contextlib.ExitStack) -> None:
    line = Line(stack, mux=False)
    line.run(8 * SECOND)
    leg = line.switch.legs[1]
    hold = UpdateLeg(
        seq=1,
        leg=1,
        codec=leg.codec,
        remote=leg.remote,
        event_payload_type=101,
        direction=Direction.INACTIVE,
        rtcp=remote_of(line.facing_switch[1]),
    )
    assert line.switch.execute(hold) == [Acknowledged(seq=1)]
    sent = line.switch.reports.sent
    line.run(12 * SECOND)
    assert line.switch.reports.sent - sent >= 2
    nowhere = UpdateLeg(seq=2, leg=1, codec=leg.codec, remote=leg.remote, direction=Direction.INACTIVE)
    assert line.switch.execute(nowhere) == [Acknowledged(seq=2)]
    sent, foreign = line.switch.reports.sent, line.switch.reports.foreign
    line.run(12 * SECOND)
    assert line.switch.reports.sent == sent
    assert line.switch.reports.foreign > foreign
    assert line.switch.execute(hold) == [Acknowledged(seq=1)]
    line.run(12 * SECOND)
    assert line.switch.reports.sent > sent


@pytest.mark.parametrize("address", ["example.invalid", "127.0.0.1\0", "1.2.3", "::g"])
def test_an_address_that_is_none_is_refused(stack: contextlib.ExitStack, address: str) -> None:
    engine = Engine([stack.enter_context(udp_socket())], capacity=8)
    answer = add(engine, 1, Remote("127.0.0.1", 9), rtcp=Remote(address, 9))
    assert isinstance(answer, Refused)
    assert len(engine.legs) == 0
    assert isinstance(add(engine, 1, Remote("127.0.0.1", 9), rtcp=Remote("127.0.0.1", 0)), Refused)


@pytest.mark.parametrize("mux", [True, False], ids=["mux", "port above"])
def test_a_leg_with_keys_says_and_hears_nothing_in_clear(stack: contextlib.ExitStack, mux: bool) -> None:
    rng = np.random.default_rng(9)
    suite = CryptoSuite.AES_CM_128_HMAC_SHA1_80
    one, other = rng.bytes(30), rng.bytes(30)
    line = Line(stack, mux=mux, keys=(SRTPKeys(suite, one, other), SRTPKeys(suite, other, one)))
    seen: list[bytes] = []
    way = line.inward[0 if mux else 1]
    way._leave = _Tap(way._leave, seen)  # type: ignore[assignment]
    line.run(15 * SECOND)
    ours = line.switch.leg_statistics(line.switch.legs[1])
    assert ours.remote_lost == 0 and ours.round_trip_ms is not None
    assert line.switch.reports.refused_ever == 0
    reports = [datagram for datagram in seen if datagram[1] in (200, 201)]
    assert reports
    # RFC 3711 §3.4: eight bytes in clear, then what nobody can read.
    assert all(datagram[4:8] == reports[0][4:8] and rtcp.parse(datagram) is None for datagram in reports)
    # The peer's own address, in clear: refused. What is repeated is refused too.
    before = line.switch.reports.received
    clear = rtcp.report(int.from_bytes(reports[0][4:8], "big"), None, None, rtcp.source_items(1, b"x"))
    for forged in (clear, reports[0]):
        line.run(GAP_TICKS)
        refused = line.switch.reports.refused_ever
        line.facing_switch[0 if mux else 1].sendto(
            forged, (line.switch.sockets[0] if mux else line.switch.reports._report_sockets[0]).getsockname()
        )
        for _ in range(SLOT_TICKS + 1):
            line.switch.tick()
        assert line.switch.reports.refused_ever == refused + 1
    assert line.switch.reports.received <= before + 1


def test_until_its_keys_are_there_a_leg_with_keys_is_mute(stack: contextlib.ExitStack) -> None:
    reports, peer = legs_that_only_report(stack, 1)
    remote = remote_of(peer)
    reports.negotiate(0, 0, 0, 0, remote, mux=True, symmetric=False, secured=True)
    for tick in range(10 * SECOND):
        reports.exchange(tick)
    assert reporters(peer) == []
    assert reports.failed > 0


def test_a_fault_of_ours_in_one_legs_reports_ends_those_only(stack: contextlib.ExitStack) -> None:
    line = Line(stack, mux=False)
    line.run(8 * SECOND)

    def broken(_: bytes) -> bytes:
        raise RuntimeError

    line.switch.reports.secure(0, broken, broken)
    events = line.run(12 * SECOND)
    assert line.switch.reports.faults >= 1
    assert not of_type(events, LegFault)
    assert line.switch.faults == 0
    assert line.switch.leg_statistics(line.switch.legs[1]).packets_lost == 0


def test_reports_over_ipv6(stack: contextlib.ExitStack) -> None:
    ours = [stack.enter_context(udp_socket(socket.AF_INET6)) for _ in range(2)]
    theirs = [stack.enter_context(udp_socket(socket.AF_INET6)) for _ in range(2)]
    clock = Clock()
    engines = []
    for mine, peer in ((ours, theirs), (theirs, ours)):
        engine = Engine(mine[:1], report_sockets=mine[1:], capacity=8, wall_clock=clock)
        # Written as no kernel writes it.
        spelt = Remote("0:0:0:0:0:0:0:1", peer[1].getsockname()[1])
        assert isinstance(add(engine, 1, remote_of(peer[0]), rtcp=spelt), Acknowledged)
        engines.append(engine)
    for _ in range(20 * SECOND):
        clock.now_ns += 20_000_000
        for engine in engines:
            engine.tick()
    for engine in engines:
        assert engine.leg_statistics(engine.legs[1]).remote_lost == 0
        assert engine.reports.foreign == 0


def test_a_report_on_the_audio_port_without_mux_is_refused(stack: contextlib.ExitStack) -> None:
    ours, peer = stack.enter_context(udp_socket()), stack.enter_context(udp_socket())
    engine = Engine([ours], capacity=8)
    add(engine, 1, remote_of(peer))
    peer.sendto(rtcp.report(5, None, None, rtcp.source_items(5, b"x")), ours.getsockname())
    peer.sendto(header(0, 1, 160, 5) + bytes(160), ours.getsockname())
    engine.tick()
    statistics = engine.leg_statistics(engine.legs[1])
    assert (statistics.packets_received, statistics.packets_refused) == (1, 1)
    assert engine.reports.received == 0
