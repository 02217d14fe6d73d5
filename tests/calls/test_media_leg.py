"""A leg and its port through offers, answers and moves, against a worker that is an engine without sound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest

from media.engine import Engine
from media.protocol import (
    AddLeg,
    AnyCommand,
    AnyEvent,
    DTMFMode,
    EventBatch,
    Hello,
    Remote,
    SourceLatched,
    UpdateLeg,
    decode_commands,
    encode_events,
)
from media.rtp.packet import header
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaWorker
from sipivr.calls.media_ports import FamilyMissing, PortsExhausted
from sipivr.calls.srtp import ExposedKeys, media_keys
from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.sdes import SRTPPolicy
from sipivr.ua.sdp import Direction, NoCommonCodec, NotAcceptable, SessionDescription
from tests.media.support import remote_of, udp_socket


class House:
    """A link with one worker, whose engine is stepped by hand."""

    def __init__(self, worker: MediaWorker, theirs: socket.socket, sockets: list[socket.socket]) -> None:
        self.worker = worker
        self.engine = Engine(sockets, capacity=8)
        self.sockets = sockets
        self._theirs = theirs
        self.legs = 0

    # what a MediaLeg asks of a MediaLink
    def next_leg(self) -> int:
        self.legs += 1
        return self.legs

    def least_loaded(self) -> MediaWorker:
        return self.worker

    async def obey(self) -> list[AnyCommand]:
        """The worker reads what was sent, does it, and has one tick."""
        await asyncio.sleep(0)  # commands of one iteration travel together, behind it
        commands: list[AnyCommand] = []
        while True:
            try:
                commands += decode_commands(self._theirs.recv(65536))
            except BlockingIOError:
                break
        events: list[AnyEvent] = []
        for command in commands:
            events += self.engine.execute(command)
        events += self.engine.tick()
        if events:
            self._theirs.send(encode_events(EventBatch(tick=1, events=events)))
            self.worker.readable()
        return commands


class Owner:
    def __init__(self) -> None:
        self.leg: MediaLeg | None = None

    def on_media_event(self, event: AnyEvent) -> None:
        if isinstance(event, SourceLatched) and self.leg is not None:
            self.leg.latched(event.remote)

    def on_media_lost(self) -> None:
        raise AssertionError("the worker is not lost here")


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened = [udp_socket() for _ in range(2)]
    yield opened
    for one in opened:
        one.close()


HouseMaker = Callable[[list[socket.socket]], House]


@pytest.fixture
async def make_house() -> AsyncIterator[HouseMaker]:
    with contextlib.ExitStack() as stack:

        def make(sockets: list[socket.socket]) -> House:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for one in (ours, theirs):
                stack.enter_context(one).setblocking(False)
            hello = Hello(1, 0, 1, tuple(remote_of(one) for one in sockets))
            return House(MediaWorker(ours, hello, sharing=True, lost=lambda _: None), theirs, sockets)

        yield make


@pytest.fixture
async def house(make_house: HouseMaker, sockets: list[socket.socket]) -> House:
    return make_house(sockets)


def offer(remote: Remote, direction: Direction = Direction.SENDRECV) -> SessionDescription:
    return Negotiator(remote.address, remote.port, MediaTerms()).offer(direction)


def peer(n: int) -> Remote:
    return Remote("127.0.0.1", 5000 + n)


async def leg_of(house: House, remote: Remote, *, symmetric: bool = False) -> MediaLeg:
    owner = Owner()
    leg = owner.leg = MediaLeg(
        house,  # type: ignore[arg-type]
        owner,
        remote=remote,
        terms=MediaTerms(),
        advertised=(),
        symmetric=symmetric,
        dtmf=DTMFMode.AUTO,
        signalled="127.0.0.1",
    )
    _, agreed = leg.answer(offer(remote))
    added = leg.add(agreed)
    await house.obey()
    await added
    return leg


def named(sdp: SessionDescription) -> Remote:
    assert sdp.audio is not None
    return Remote(sdp.audio.address, sdp.audio.port)


async def test_a_peer_that_moves_stays_on_its_port(house: House) -> None:
    leg = await leg_of(house, peer(1))
    sdp, agreed = leg.answer(offer(peer(2)))
    assert named(sdp) == remote_of(house.sockets[0])
    moved = leg.update(agreed)
    await house.obey()
    await moved
    assert house.engine.legs[leg.number].remote == peer(2)


async def test_a_peer_that_moves_onto_anothers_address_is_answered_with_another_port(house: House) -> None:
    first, second, third = [await leg_of(house, peer(n)) for n in (1, 2, 3)]
    assert (first.port, second.port, third.port) == (0, 1, 0)
    sdp, agreed = third.answer(offer(peer(1)))
    assert named(sdp) == remote_of(house.sockets[1])
    moved = third.update(agreed)
    (command,) = await house.obey()
    await moved
    assert isinstance(command, UpdateLeg)
    assert (command.socket, command.remote) == (1, peer(1))
    assert house.engine.legs[third.number].socket == 1
    # The address that it left is free again on the port that it left.
    fourth = await leg_of(house, peer(3))
    assert fourth.port == 0


async def test_where_no_port_can_take_it_nothing_changes(house: House) -> None:
    first, second, third = [await leg_of(house, peer(n)) for n in (1, 1, 3)]
    with pytest.raises(PortsExhausted, match="None of 2 RTP ports"):
        third.answer(offer(peer(1)))
    for leg in (first, second, third):
        sdp, _ = leg.answer(offer(leg._remote or peer(0)))
        assert named(sdp) == remote_of(house.sockets[leg.port])
    assert third.port == 0


async def test_an_offer_that_cannot_be_answered_leaves_the_leg_on_its_port(house: House) -> None:
    first, _, third = [await leg_of(house, peer(n)) for n in (1, 2, 3)]
    bad = offer(peer(1))
    audio = replace(bad.media[0], formats=bad.media[0].formats[-1:])
    with pytest.raises(NoCommonCodec):
        third.answer(replace(bad, media=(audio,)))
    assert third.port == first.port == 0
    assert named(third.negotiator.offer()) == remote_of(house.sockets[0])


async def test_hold_of_old_peers_moves_nobody(house: House) -> None:
    """c=0.0.0.0 (RFC 2543): two legs held that way do not have one address."""
    legs = [await leg_of(house, peer(n)) for n in (1, 2, 3, 4)]
    for leg in legs:
        _, agreed = leg.answer(offer(Remote("0.0.0.0", 4000)))
        held = leg.update(agreed)
        await house.obey()
        await held
        assert house.engine.legs[leg.number].remote == leg._remote
        assert not house.engine.legs[leg.number].sends
    assert [leg.port for leg in legs] == [0, 1, 0, 1]


async def test_symmetric_legs_share_a_port_once_they_have_latched(house: House) -> None:
    waiting = [await leg_of(house, Remote("192.0.2.1", 4000), symmetric=True) for _ in range(2)]
    assert {leg.port for leg in waiting} == {0, 1}
    with pytest.raises(PortsExhausted):
        await leg_of(house, Remote("192.0.2.1", 4002), symmetric=True)
    with udp_socket() as phone:
        await speak(house, phone, waiting[0])
        third = await leg_of(house, Remote("192.0.2.1", 4002), symmetric=True)
        assert third.port == waiting[0].port
        # Its peer moves: it would wait beside the third one, so it gets another port, when there is one.
        with pytest.raises(PortsExhausted):
            waiting[0].answer(offer(Remote("192.0.2.1", 4004)))
        await speak(house, phone, waiting[1])
        sdp, agreed = waiting[0].answer(offer(Remote("192.0.2.1", 4004)))
        assert named(sdp) == remote_of(house.sockets[waiting[1].port])
        moved = waiting[0].update(agreed)
        await house.obey()
        await moved
        assert house.engine.legs[waiting[0].number].unsettled


async def speak(house: House, phone: socket.socket, leg: MediaLeg) -> None:
    for n in range(3):
        phone.sendto(header(0, n, n * 160, 7) + bytes(160), house.sockets[leg.port].getsockname())
        await house.obey()
    assert house.engine.legs[leg.number].learnt == remote_of(phone)


async def test_what_was_learnt_goes_into_the_next_worker(
    house: House, make_house: HouseMaker, sockets: list[socket.socket]
) -> None:
    leg = await leg_of(house, Remote("192.0.2.1", 4000), symmetric=True)
    with udp_socket() as phone:
        await speak(house, phone, leg)
        successor = make_house(sockets)
        successor.legs = house.legs
        revived = leg.rejoin(successor.worker)
        await asyncio.sleep(0)
        (command,) = await successor.obey()
        await revived
        assert isinstance(command, AddLeg)
        assert (command.remote, command.source) == (Remote("192.0.2.1", 4000), remote_of(phone))
        # And the next one may wait on that port.
        others = [await leg_of(successor, Remote("192.0.2.1", 4000), symmetric=True) for _ in range(2)]
        assert {other.port for other in others} == {0, 1}


async def test_word_of_a_source_that_crosses_a_move_is_no_news(house: House) -> None:
    leg = await leg_of(house, Remote("192.0.2.1", 4000), symmetric=True)
    _, agreed = leg.answer(offer(Remote("192.0.2.1", 4002)))
    moved = leg.update(agreed)
    leg.latched(peer(1))  # said before the worker had read of the move
    assert leg._seat.waits
    await house.obey()
    await moved
    leg.latched(peer(1))
    assert not leg._seat.waits


async def delayed(house: House) -> MediaLeg:
    leg = MediaLeg(
        house,  # type: ignore[arg-type]
        Owner(),
        remote=None,
        terms=MediaTerms(),
        advertised=(),
        symmetric=False,
        dtmf=DTMFMode.AUTO,
    )
    leg.negotiator.offer()
    added = leg.add(None)
    await house.obey()
    await added
    return leg


async def test_an_answer_to_our_offer(house: House) -> None:
    await leg_of(house, peer(1))
    leg = await delayed(house)
    assert leg.port == 1, "a port where nobody is yet"
    agreed = leg.accept(Negotiator("127.0.0.1", 5001, MediaTerms()).answer(offer(peer(9)))[0])
    updated = leg.update(agreed)
    await house.obey()
    await updated
    assert house.engine.legs[leg.number].remote == peer(1)


async def test_an_answer_with_anothers_address_is_not_accepted(house: House) -> None:
    for n in (1, 2):
        await leg_of(house, peer(n))
    leg = await delayed(house)
    answer = Negotiator("127.0.0.1", 5000 + 1 + leg.port, MediaTerms()).answer(offer(peer(9)))[0]
    with pytest.raises(NotAcceptable, match="another leg"):
        leg.accept(answer)


async def test_a_family_that_we_do_not_have(house: House) -> None:
    with pytest.raises(FamilyMissing, match="no RTP port for IPv6"):
        await leg_of(house, Remote("2001:db8::1", 4000))
    leg = await leg_of(house, peer(1))
    with pytest.raises(FamilyMissing):
        leg.answer(offer(Remote("2001:db8::1", 4000)))
    assert named(leg.answer(offer(peer(1)))[0]) == remote_of(house.sockets[0])


async def test_both_families_and_what_is_advertised(make_house: HouseMaker) -> None:
    with udp_socket() as four, udp_socket(socket.AF_INET6) as six:
        house = make_house([four, six])
        leg = MediaLeg(
            house,  # type: ignore[arg-type]
            Owner(),
            remote=peer(1),
            terms=MediaTerms(),
            advertised=("203.0.113.5", "2001:db8::5"),
            symmetric=False,
            dtmf=DTMFMode.AUTO,
        )
        sdp, agreed = leg.answer(offer(peer(1)))
        assert named(sdp) == Remote("203.0.113.5", four.getsockname()[1])
        added = leg.add(agreed)
        await house.obey()
        await added
        sdp, agreed = leg.answer(offer(Remote("::1", 4000)))
        assert named(sdp) == Remote("2001:db8::5", six.getsockname()[1])
        updated = leg.update(agreed)
        await house.obey()
        await updated
        assert house.engine.legs[leg.number].socket == 1


SECURED = MediaTerms(srtp=SRTPPolicy.REQUIRED)


async def secured_leg(house: House, caller: Negotiator) -> MediaLeg:
    leg = MediaLeg(
        house,  # type: ignore[arg-type]
        Owner(),
        remote=peer(1),
        terms=SECURED,
        advertised=(),
        symmetric=False,
        dtmf=DTMFMode.AUTO,
    )
    sdp, agreed = leg.answer(caller.offer())
    theirs = caller.accept(sdp)
    assert (theirs.srtp.send, theirs.srtp.receive) == (agreed.srtp.receive, agreed.srtp.send)
    added = leg.add(agreed)
    (command,) = await house.obey()
    await added
    assert isinstance(command, AddLeg)
    assert command.srtp == media_keys(agreed)
    return leg


async def test_keys_reach_the_worker_and_a_reinvite_keeps_them(house: House) -> None:
    caller = Negotiator("127.0.0.1", peer(1).port, SECURED)
    leg = await secured_leg(house, caller)
    sdp, agreed = leg.answer(caller.offer(Direction.SENDONLY))
    caller.accept(sdp)
    held = leg.update(agreed)
    (command,) = await house.obey()
    await held
    assert isinstance(command, UpdateLeg)
    assert command.srtp == media_keys(agreed)
    assert house.engine.secure.secured[house.engine.legs[leg.number].row]


async def test_in_a_new_worker_a_secured_leg_waits_for_new_keys(
    make_house: HouseMaker, sockets: list[socket.socket]
) -> None:
    house, successor = make_house(sockets), make_house(sockets)
    caller = Negotiator("127.0.0.1", peer(1).port, SECURED)
    leg = await secured_leg(house, caller)
    rejoined = leg.rejoin(successor.worker)
    (command,) = await successor.obey()
    await rejoined
    assert isinstance(command, AddLeg)
    there = successor.engine.legs[leg.number]
    assert not (there.sends or there.listens)
    renewed = leg.new_keys_offer()
    assert renewed is not None
    sdp, theirs = caller.answer(renewed)
    agreed = leg.accept(sdp)
    assert agreed.srtp is not None and theirs.srtp is not None
    assert agreed.srtp.send == theirs.srtp.receive
    assert command.srtp is not None and command.srtp.send != agreed.srtp.send
    updated = leg.update(agreed)
    await successor.obey()
    await updated
    assert there.sends and there.listens


async def test_a_leg_in_clear_needs_no_new_keys(house: House) -> None:
    leg = await leg_of(house, peer(1))
    assert leg.new_keys_offer() is None


def test_keys_in_clear_signalling_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    exposed = ExposedKeys(counted.append)
    secured = Negotiator("127.0.0.1", 5000, SECURED).offer()
    for transport, sdp in (
        ("UDP", secured),
        ("TCP", secured),
        ("TLS", secured),
        ("UDP", Negotiator("127.0.0.1", 5000, MediaTerms()).offer()),
        ("UDP", None),
    ):
        exposed.note("trk_a", transport, sdp)
    exposed.note("trk_b", "TCP", None, secured)
    assert counted == ["srtp_keys_in_clear_signalling"] * 3
    assert [record.getMessage()[:12] for record in caplog.records] == ["trunk trk_a:", "trunk trk_b:"]
    assert "inline" not in caplog.text
