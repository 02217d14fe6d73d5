"""Source policy over real sockets: who is heard, who is answered, who changes nothing (RTP bleed, injection)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AddLeg,
    AnyEvent,
    Codec,
    CryptoSuite,
    Direction,
    Refused,
    Remote,
    RemoveLeg,
    RTPTimeout,
    SourceLatched,
    SRTPKeys,
    UpdateLeg,
)
from media.rtp import source as policy
from media.rtp.packet import header
from tests.media.support import add, keys_of, of_type, remote_of, udp_socket

#: Where SDP says a peer behind NAT is; nothing ever comes from there.
PRIVATE = Remote("192.0.2.1", 4000)
LOUD = bytes([0x85, 0x05] * 80)


class Peer:
    """One who sends RTP from an address of his own, packet by packet."""

    def __init__(self, address: str = "127.0.0.1", *, ssrc: int = 9, sequence: int = 100) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.sock.setblocking(False)
        self.ssrc, self.sequence, self.sent = ssrc, sequence, 0

    @property
    def remote(self) -> Remote:
        return remote_of(self.sock)

    def send(self, to: socket.socket, payload_type: int = 0, payload: bytes = LOUD, *, skip: int = 0) -> None:
        self.sequence += 1 + skip
        self.sent += 1 + skip
        packet = header(payload_type, self.sequence, self.sent * 160, self.ssrc) + payload
        self.sock.sendto(packet, to.getsockname())

    def like(self, other: Peer) -> None:
        """Continues the other's stream."""
        self.ssrc, self.sequence, self.sent = other.ssrc, other.sequence, other.sent

    @property
    def heard(self) -> int:
        """Packets that have come to him since the last look."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.recv(2048)
                count += 1
        return count


class Scene:
    """An engine with one port, and as many peers as needed."""

    def __init__(self, **options: object) -> None:
        self.port = udp_socket()
        self.peers: list[Peer] = []
        self.engine = Engine([self.port], rng=np.random.default_rng(1), capacity=4, **options)  # type: ignore[arg-type]
        self.events: list[AnyEvent] = []

    def peer(self, address: str = "127.0.0.1", **stream: int) -> Peer:
        self.peers.append(Peer(address, **stream))
        return self.peers[-1]

    def tick(self, *speaking: Peer, times: int = 1) -> list[AnyEvent]:
        """Each of `speaking` sends a packet, then a tick; what happened."""
        happened = []
        for _ in range(times):
            for peer in speaking:
                peer.send(self.port)
            happened += self.engine.tick()
        self.events += happened
        return happened

    def update(self, leg: int = 1, **changes: object) -> AnyEvent:
        known = self.engine.legs[leg]
        fields = {
            "remote": known.remote,
            "symmetric": known.symmetric,
            "event_payload_type": 101,
            **changes,
        }
        return self.engine.execute(UpdateLeg(seq=1, leg=leg, codec=Codec.PCMU, **fields))[0]  # type: ignore[arg-type]

    def latches(self, leg: int = 1) -> list[Remote]:
        return [event.remote for event in of_type(self.events, SourceLatched) if event.leg == leg]

    def received(self, leg: int = 1) -> int:
        return self.engine.leg_statistics(self.engine.legs[leg]).packets_received

    def foreign(self, leg: int = 1) -> int:
        return self.engine.leg_statistics(self.engine.legs[leg]).packets_foreign

    def sends_to(self, leg: int = 1) -> Remote | None:
        return self.engine.transmitter.destination(self.engine.legs[leg].row)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    with contextlib.ExitStack() as stack:
        stack.enter_context(made.port)
        yield made
        for peer in made.peers:
            stack.enter_context(peer.sock)


# -- done-line: probes from a third address get nothing and change nothing -----------------------------------


def bleed(scene: Scene, probe: Peer) -> None:
    """What the tools do: a few packets of each payload type, one after the other, to every port."""
    for payload_type in (0, 8, 101, 18, 13):
        for _ in range(3):
            probe.send(scene.port, payload_type)
        scene.tick()


def burst(scene: Scene, probe: Peer) -> None:
    """A hundred packets of a perfect stream at once."""
    for _ in range(100):
        probe.send(scene.port)
    scene.tick(times=2)


def keys(scene: Scene, probe: Peer) -> None:
    """A telephone-event of the negotiated type: key 7, its end three times."""
    for _ in range(3):
        probe.send(scene.port, 101, bytes((7, 0x8A)) + (800).to_bytes(2, "big"))
        scene.tick()


def garbage(scene: Scene, probe: Peer) -> None:
    """Nothing, nearly RTP, RTCP."""
    rng = np.random.default_rng(5)
    for size in (1, 3, 12, 13, 172, 800, 1400):
        packet = bytearray(rng.integers(0, 256, size, np.uint8).tobytes())
        probe.sock.sendto(packet, scene.port.getsockname())
        packet[0] = 0x80
        probe.sock.sendto(packet, scene.port.getsockname())
    probe.sock.sendto(bytes((0x80, 200, 0, 1)) + bytes(24), scene.port.getsockname())
    scene.tick()


def stolen_ssrc(scene: Scene, probe: Peer) -> None:
    """A stream that continues the peer's own, while the peer speaks."""
    probe.like(scene.peers[0])
    scene.tick(scene.peers[0], probe, times=20)


PROBES = (bleed, burst, keys, garbage)


def state(scene: Scene) -> tuple[object, ...]:
    leg = scene.engine.legs[1]
    streams = scene.engine.streams
    return (
        scene.received(),
        scene.sends_to(),
        leg.source,
        leg.settled,
        int(streams.ssrc[leg.row]),
        int(streams.refused[leg.row]),
        len(scene.engine.legs),
    )


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("symmetric", [False, True], ids=["named", "symmetric"])
def test_probes_before_the_peer_speaks(scene: Scene, symmetric: bool, probe: Callable[..., None]) -> None:
    peer, stranger = scene.peer(), scene.peer("127.0.0.9", ssrc=666)
    add(scene.engine, 1, PRIVATE if symmetric else peer.remote, symmetric=symmetric, signalled="127.0.0.1")
    scene.tick()
    before = state(scene)
    probe(scene, stranger)
    assert state(scene) == before
    assert not scene.engine.received_pcm(1).any()
    assert stranger.heard == 0
    assert not keys_of(scene.events)
    assert scene.foreign() == scene.engine.policy.unknown > 0
    # And the peer is heard as if nobody had knocked.
    scene.tick(peer, times=6)
    assert scene.sends_to() == peer.remote
    assert scene.engine.received_pcm(1).any()
    assert peer.heard > 0
    assert stranger.heard == 0


@pytest.mark.parametrize("probe", [*PROBES, stolen_ssrc])
@pytest.mark.parametrize("symmetric", [False, True], ids=["named", "latched"])
def test_probes_while_the_peer_speaks(scene: Scene, symmetric: bool, probe: Callable[..., None]) -> None:
    peer, stranger = scene.peer(), scene.peer("127.0.0.9", ssrc=666)
    add(scene.engine, 1, PRIVATE if symmetric else peer.remote, symmetric=symmetric, signalled="127.0.0.1")
    scene.tick(peer, times=6)
    assert scene.latches() == ([peer.remote] if symmetric else [])
    received, sent = scene.received(), peer.sent
    probe(scene, stranger)
    assert scene.received() - received == peer.sent - sent
    assert scene.sends_to() == peer.remote
    assert scene.engine.streams.ssrc[0] == peer.ssrc
    assert scene.latches() == ([peer.remote] if symmetric else [])
    assert stranger.heard == 0
    assert not keys_of(scene.events)
    assert scene.foreign() > 0


@pytest.mark.parametrize("symmetric", [False, True], ids=["named", "latched"])
def test_a_port_of_the_peers_own_address_is_a_third_address_too(scene: Scene, symmetric: bool) -> None:
    peer, neighbour = scene.peer(), scene.peer(ssrc=77)
    add(scene.engine, 1, PRIVATE if symmetric else peer.remote, symmetric=symmetric, signalled="127.0.0.1")
    scene.tick(peer, times=3)
    scene.tick(neighbour, times=60)
    assert neighbour.heard == 0
    assert scene.sends_to() == peer.remote


# -- latching --------------------------------------------------------------------------------------------------


def test_two_packets_of_a_named_address_are_a_source(scene: Scene) -> None:
    peer = scene.peer()
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    scene.tick(peer)
    assert scene.sends_to() == PRIVATE
    assert scene.tick(peer) == [SourceLatched(leg=1, remote=peer.remote)]
    assert scene.sends_to() == peer.remote
    scene.tick(peer, times=4)
    assert scene.engine.received_pcm(1).any()
    # A re-INVITE that changes nothing keeps what was learnt.
    assert isinstance(scene.update(direction=Direction.SENDONLY), Acknowledged)
    scene.tick()
    assert scene.sends_to() == peer.remote
    assert scene.latches() == [peer.remote]


def test_one_that_names_another_address_starts_anew(scene: Scene) -> None:
    peer, other = scene.peer(), scene.peer(ssrc=10)
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    scene.tick(peer, times=3)
    assert isinstance(scene.update(remote=Remote("192.0.2.1", 4002)), Acknowledged)
    assert scene.sends_to() == Remote("192.0.2.1", 4002)
    received = scene.received()
    scene.tick(peer)
    assert scene.received() == received
    scene.tick(other, times=3)
    assert scene.latches() == [peer.remote, other.remote]


@pytest.mark.parametrize(
    ("stream", "latches"),
    [
        ([(1, 0), (2, 0)], True),
        ([(1, 0), (4, 0)], True),
        ([(65535, 0), (0, 0)], True),
        ([(1, 0), (1, 0)], False),
        ([(2, 0), (1, 0)], False),
        ([(1, 0), (300, 0)], False),
        ([(1, 18), (2, 18)], False),
        ([(1, 101), (2, 101)], True),
    ],
)
def test_what_proves_a_source(scene: Scene, stream: list[tuple[int, int]], latches: bool) -> None:
    peer = scene.peer()
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    for sequence, payload_type in stream:
        peer.sequence = sequence - 1
        peer.send(scene.port, payload_type)
        scene.tick()
    assert bool(scene.latches()) is latches


def test_another_ssrc_proves_nothing(scene: Scene) -> None:
    peer = scene.peer()
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    for n in range(20):
        peer.ssrc = n
        scene.tick(peer)
    assert not scene.latches()


def test_an_address_that_nobody_named_has_to_stream(scene: Scene) -> None:
    """A media gateway beside the SIP server, behind the same NAT or not: taken after half a second."""
    gateway = scene.peer("127.0.0.9")
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    scene.tick(gateway, times=policy.STRANGER_TICKS)
    assert not scene.latches()
    scene.tick(gateway, times=2)
    assert scene.latches() == [gateway.remote]


def test_the_true_address_takes_its_leg_back_while_the_window_is_open() -> None:
    scene = Scene(latch_window_s=2.0)
    peer, thief = scene.peer(), scene.peer("127.0.0.9", ssrc=666)
    with scene.port, peer.sock, thief.sock:
        add(scene.engine, 1, peer.remote, symmetric=True)
        scene.tick(thief, times=30)
        assert scene.sends_to() == thief.remote
        scene.tick(thief, peer, times=3)
        assert scene.sends_to() == peer.remote
        assert scene.latches() == [thief.remote, peer.remote]
        scene.tick(thief, peer, times=30)
        assert scene.sends_to() == peer.remote
        assert scene.engine.streams.ssrc[0] == peer.ssrc


def test_the_window_closes() -> None:
    scene = Scene(latch_window_s=0.5)
    late, beside = scene.peer(), scene.peer()
    with scene.port, late.sock, beside.sock:
        add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
        waiting = AddLeg(seq=1, leg=2, socket=0, codec=Codec.PCMU, remote=beside.remote, symmetric=True)
        assert isinstance(scene.engine.execute(waiting)[0], Refused), "two unknown sources on one port"
        scene.tick(times=40)
        assert scene.latches() == [PRIVATE]
        scene.tick(late, times=60)
        assert scene.latches() == [PRIVATE]
        assert late.heard == 0
        assert isinstance(scene.engine.execute(waiting)[0], Acknowledged), "the port waits for nobody now"
        scene.tick(beside, times=3)
        assert scene.latches(2) == [beside.remote]


def test_the_window_waits_for_a_held_call() -> None:
    scene = Scene(latch_window_s=0.5)
    peer = scene.peer()
    with scene.port, peer.sock:
        add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1", direction=Direction.INACTIVE)
        scene.tick(peer, times=60)
        assert not scene.latches()
        scene.update()
        scene.tick(peer, times=3)
        assert scene.latches() == [peer.remote]


def test_a_flood_does_not_hide_the_peer(scene: Scene) -> None:
    peer = scene.peer()
    flood = [scene.peer("127.0.0.9", ssrc=n) for n in range(20)]
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    for _ in range(2):
        for one in flood:
            for _ in range(10):
                one.send(scene.port)
        scene.tick(peer)
    assert scene.latches() == [peer.remote]


def test_what_was_learnt_goes_with_a_leg_into_another_worker(scene: Scene) -> None:
    peer, second = scene.peer(), scene.peer()
    for leg, one in ((1, peer), (2, second)):
        answer = add(scene.engine, leg, Remote("192.0.2.1", 4000 + leg), symmetric=True, source=one.remote)
        assert isinstance(answer, Acknowledged), "neither waits"
    scene.tick(peer, second, times=3)
    assert (scene.received(1), scene.received(2)) == (3, 3)
    assert (peer.heard > 0, second.heard > 0) == (True, True)


# -- moving ------------------------------------------------------------------------------------------------------


def latched(scene: Scene) -> tuple[Peer, Peer]:
    peer, moved = scene.peer(), scene.peer()
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1")
    scene.tick(peer, times=10)
    return peer, moved


def test_a_stream_that_moved_is_followed(scene: Scene) -> None:
    peer, moved = latched(scene)
    scene.tick(times=policy.QUIET_TICKS)
    moved.like(peer)
    moved.sent += policy.QUIET_TICKS
    scene.tick(moved, times=3)
    assert scene.latches() == [peer.remote, moved.remote]
    assert scene.sends_to() == moved.remote
    assert scene.engine.policy.moved == 1
    received = scene.received()
    scene.tick(peer)
    assert scene.received() == received, "the former source is nobody now"


def test_not_while_the_former_source_speaks(scene: Scene) -> None:
    peer, moved = latched(scene)
    moved.like(peer)
    scene.tick(peer, moved, times=60)
    assert scene.latches() == [peer.remote]


@pytest.mark.parametrize(("ssrc", "skip"), [(10, 0), (9, 5000), (9, -200)])
def test_not_by_guessing(scene: Scene, ssrc: int, skip: int) -> None:
    peer, moved = latched(scene)
    scene.tick(times=policy.QUIET_TICKS)
    moved.like(peer)
    moved.ssrc = ssrc
    moved.sequence += skip
    scene.tick(moved, times=60)
    assert scene.latches() == [peer.remote]
    assert moved.heard == 0


def test_not_without_symmetric(scene: Scene) -> None:
    peer, moved = scene.peer(), scene.peer()
    add(scene.engine, 1, peer.remote)
    scene.tick(peer, times=5)
    scene.tick(times=policy.QUIET_TICKS)
    moved.like(peer)
    scene.tick(moved, times=60)
    assert not scene.latches()
    assert (scene.sends_to(), moved.heard) == (peer.remote, 0)


def test_the_stranger_does_not_keep_a_dead_call_alive() -> None:
    scene = Scene(timeout_s=0.4)
    peer, stranger = scene.peer(), scene.peer("127.0.0.9", ssrc=1)
    with scene.port, peer.sock, stranger.sock:
        add(scene.engine, 1, peer.remote)
        scene.tick(peer, times=3)
        assert of_type(scene.tick(stranger, times=40), RTPTimeout)


# -- SRTP --------------------------------------------------------------------------------------------------------


def secure(scene: Scene) -> None:
    keys = SRTPKeys(CryptoSuite.AES_CM_128_HMAC_SHA1_80, bytes(30), b"r" * 30)
    add(scene.engine, 1, PRIVATE, symmetric=True, signalled="127.0.0.1", srtp=keys)


def test_clear_packets_latch_no_leg_with_keys(scene: Scene) -> None:
    peer = scene.peer()
    secure(scene)
    scene.tick(peer, times=60)
    assert not scene.latches()
    assert peer.heard == 0


def test_an_authentic_packet_latches_it(scene: Scene) -> None:
    peer = scene.peer()
    secure(scene)
    scene.engine.policy.proves = lambda leg, packet: bool(scene.engine._receiver.batch.slots[packet].any())
    scene.tick(peer, times=2)
    assert scene.latches() == [peer.remote]


# -- ports -------------------------------------------------------------------------------------------------------


def test_a_leg_moves_to_another_port_and_its_stream_goes_on() -> None:
    with udp_socket() as first, udp_socket() as second:
        engine = Engine([first, second], capacity=4)
        peer, other = Peer(), Peer()
        with peer.sock, other.sock:
            add(engine, 1, peer.remote)
            add(engine, 2, other.remote)
            engine.tick()
            before = peer.sock.recv(2048)
            change = UpdateLeg(seq=1, leg=2, codec=Codec.PCMU, remote=peer.remote)
            assert isinstance(engine.execute(change)[0], Refused), "the port has a leg of that peer"
            change = UpdateLeg(seq=1, leg=2, codec=Codec.PCMU, remote=peer.remote, socket=1)
            assert engine.execute(change) == [Acknowledged(seq=1)]
            engine.tick()
            packets = dict(peer.sock.recvfrom(2048)[::-1] for _ in range(2))
            by_port = {source[1]: packet for source, packet in packets.items()}
            assert set(by_port) == {first.getsockname()[1], second.getsockname()[1]}
            # Its own SSRC, and the sequence of the leg goes on (RFC 3550 §8.2 would take a new one for another).
            assert by_port[first.getsockname()[1]][8:12] == before[8:12]
            assert by_port[second.getsockname()[1]][8:12] != before[8:12]
            peer.send(first)
            peer.send(second)
            engine.tick()
            received = [engine.leg_statistics(engine.legs[leg]).packets_received for leg in (1, 2)]
            assert received == [1, 1]
            # The old address on the old port is free again.
            assert isinstance(add(engine, 3, other.remote), Acknowledged)


@pytest.mark.parametrize(
    "remote",
    [
        Remote("::1", 4000),
        Remote("fe80::1", 4000),
        Remote("fe80::1%lo", 4000),
        Remote("::ffff:127.0.0.1", 4000),
    ],
)
def test_addresses_that_a_socket_cannot_reach(scene: Scene, remote: Remote) -> None:
    assert isinstance(add(scene.engine, 1, remote), Refused)
    assert len(scene.engine.legs) == 0


def test_both_families_side_by_side() -> None:
    with udp_socket() as four, udp_socket(socket.AF_INET6) as six:
        engine = Engine([four, six], capacity=4)
        peers = [Peer(), Peer("::1")]
        with peers[0].sock, peers[1].sock:
            for leg, peer in enumerate(peers):
                assert isinstance(add(engine, leg, peer.remote, socket=leg), Acknowledged)
                assert isinstance(add(engine, 9, peer.remote, socket=1 - leg), Refused)
            for _ in range(4):
                for peer, port in zip(peers, (four, six), strict=True):
                    peer.send(port)
                engine.tick()
            assert [engine.received_pcm(leg).any() for leg in (0, 1)] == [True, True]
            assert [peer.heard for peer in peers] == [4, 4]


def test_ipv6_latches() -> None:
    with udp_socket(socket.AF_INET6) as port:
        engine = Engine([port], capacity=4)
        peer, stranger = Peer("::1"), Peer("::1", ssrc=3)
        with peer.sock, stranger.sock:
            add(engine, 1, Remote("2001:db8::1", 4000), symmetric=True, signalled="::1")
            for _ in range(6):
                peer.send(port)
                engine.tick()
            for _ in range(60):
                stranger.send(port)
                engine.tick()
            assert engine.legs[1].learnt == peer.remote
            assert stranger.heard == 0
            assert peer.heard > 0


# -- no sequence of commands and packets breaks it ------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("update"), st.integers(1, 4), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("remove"), st.integers(1, 4), st.just(0), st.just(False)),
        st.tuples(st.just("speak"), st.integers(0, 3), st.integers(1, 3), st.just(False)),
        st.tuples(st.just("tick"), st.integers(1, 12), st.just(0), st.just(False)),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(steps)
def test_every_source_has_one_leg_and_every_leg_one_source(script: list[tuple[str, int, int, bool]]) -> None:
    scene = Scene(latch_window_s=0.3)
    peers = [Peer(ssrc=n) for n in range(4)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(scene.port)
        for peer in peers:
            stack.enter_context(peer.sock)
        for what, one, other, symmetric in script:
            if what == "add":
                add(scene.engine, one, peers[other].remote, symmetric=symmetric, signalled="127.0.0.1")
            elif what == "update" and one in scene.engine.legs:
                scene.update(one, remote=peers[other].remote, symmetric=symmetric)
            elif what == "remove":
                scene.engine.execute(RemoveLeg(seq=1, leg=one))
            elif what == "speak":
                scene.tick(peers[one], times=other)
            else:
                scene.tick(times=one)
            legs = scene.engine.legs.all()
            sources = [leg.source for leg in legs]
            assert len(set(sources)) == len(sources), "no source of two legs"
            assert all(scene.engine.sources.row_of(leg.source) == leg.row for leg in legs if leg.source)
            assert sum(leg.unsettled for leg in legs) <= 1
            assert all(leg.destination == scene.sends_to(leg.number) for leg in legs)
        assert scene.engine.faults == 0
        scene.engine.drop_all()
        assert not len(scene.engine.sources)
        assert not scene.engine.policy._kept
        assert not scene.engine.policy._waits
