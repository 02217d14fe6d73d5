"""A call that loses its worker: the next one is told what was declared, mask first; what is refused stays silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from media.dsp import mask
from media.protocol import (
    AnyEvent,
    Connect,
    DTMFMode,
    MaskMode,
    Play,
    Remote,
    SetMask,
)
from sipivr.calls.media_bridge import MediaBridge
from sipivr.calls.media_leg import MediaLeg
from sipivr.calls.media_link import MediaLink, MediaRefused, MediaWorker
from sipivr.calls.restoration import Restoration
from sipivr.ua.negotiation import MediaTerms, Negotiator
from sipivr.ua.ports import SIPLeg
from sipivr.ua.sdp import SessionDescription
from tests.calls.far_worker import FarWorker, kinds

NOISE = MaskMode.COMFORT_NOISE
OPEN = MaskMode.OPEN


class Owner:
    """Of two legs, as a call is."""

    def __init__(self, link: MediaLink) -> None:
        self.link = link
        self.lost = 0
        self.events: list[AnyEvent] = []
        self.bridge = MediaBridge()
        self.legs: list[MediaLeg] = []
        self.sip: list[SIPLeg | None] = [None, None]
        self.restored = 0
        self.failures: list[str] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self.restoration = Restoration(
            link,
            self.bridge,
            background=self._background,
            restored=self._on_restored,
            failed=self.failures.append,
        )
        link.on_arrival(self._arrived)

    async def open(self, far: FarWorker) -> None:
        """Customer and operator, connected both ways, the customer masked."""
        for port in (50_000, 50_002):
            leg = MediaLeg(
                self.link,
                self,
                remote=Remote("127.0.0.1", port),
                terms=MediaTerms(),
                advertised=(),
                symmetric=False,
                dtmf=DTMFMode.AUTO,
                beside=self.legs[0] if self.legs else None,
            )
            self.legs.append(leg)
            _, agreed = leg.answer(Negotiator("127.0.0.1", port, MediaTerms()).offer())
            leg.add(agreed)
        self.bridge.set(*self.legs, NOISE)
        self.bridge.set(*reversed(self.legs), OPEN)
        await far.settle()

    def on_media_event(self, event: AnyEvent) -> None:
        self.events.append(event)

    def on_media_lost(self) -> None:
        self.lost += 1

    def _arrived(self, worker: MediaWorker) -> None:
        self.restoration.worker_arrived(worker, list(zip(self.legs, self.sip, strict=False)))

    def _on_restored(self) -> None:
        self.restored += 1

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@pytest.fixture
def rtp() -> Iterator[list[socket.socket]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        yield [one]


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[MediaLink]:
    made = MediaLink(tmp_path / "media.sock", sharing=True)
    made.start()
    yield made
    made.stop()
    FarWorker.all_die()


@pytest.fixture
async def far(link: MediaLink, tmp_path: Path, rtp: list[socket.socket]) -> FarWorker:
    made = FarWorker(link, tmp_path / "media.sock", rtp)
    await made.arrive()
    return made


@pytest.fixture
async def owner(link: MediaLink, far: FarWorker) -> Owner:
    made = Owner(link)
    await made.open(far)
    return made


async def gone(link: MediaLink) -> None:
    async with asyncio.timeout(5):
        while link.workers:
            await asyncio.sleep(0)


async def successor(link: MediaLink, path: Path, rtp: list[socket.socket]) -> FarWorker:
    """A worker that is taken in and has not answered anything."""
    made = FarWorker(link, path / "media.sock", rtp)
    made.answering = False
    await made.arrive()
    return made


def open_ways(far: FarWorker) -> set[tuple[int, int]]:
    """Connections that carry audio in the worker's engine, by leg."""
    rows = {row: leg.number for row, leg in far.engine.legs.by_row.items()}
    return {
        (rows[source], rows[destination])
        for (source, destination), one in far.engine.connections._all.items()
        if one.mode == mask.OPEN
    }


async def test_a_connection_begins_silent_and_ends_as_declared(owner: Owner, far: FarWorker) -> None:
    connects = [one for one in far.told if isinstance(one, Connect)]
    assert [one.mask for one in connects] == [MaskMode.SILENCE, MaskMode.SILENCE]
    customer, operator = (leg.number for leg in owner.legs)
    assert open_ways(far) == {(operator, customer)}


async def test_nothing_opens_before_the_masks_are_acknowledged(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    far.die()
    await gone(link)
    assert owner.lost == 2
    new = await successor(link, tmp_path, rtp)
    assert kinds(await new.serve()) == ["AddLeg", "AddLeg", "Connect", "Connect", "SetMask"]
    customer, operator = (leg.number for leg in owner.legs)
    assert new.masks() == [(customer, operator, NOISE)]
    assert open_ways(new) == set()
    assert kinds(await new.serve()) == []
    assert owner.restored == 0
    new.answering = True
    await new.answer()
    await new.settle()
    assert new.masks()[1:] == [(operator, customer, OPEN)]
    assert open_ways(new) == {(operator, customer)}
    assert (owner.restored, owner.failures, link.figures.calls_restored) == (1, [], 1)


async def test_a_refused_mask_leaves_everything_silent(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    far.die()
    await gone(link)
    new = await successor(link, tmp_path, rtp)
    new.answering = True
    await new.serve(refuse=SetMask)
    await new.settle()
    assert open_ways(new) == set()
    assert owner.restored == 0
    assert owner.failures == ["refused by the test"]


async def test_what_is_declared_without_a_worker_is_told_to_the_next(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    customer, operator = owner.legs
    far.die()
    await gone(link)
    with pytest.raises(MediaRefused):
        await owner.bridge.set(operator, customer, NOISE)
    with pytest.raises(MediaRefused):
        await owner.bridge.set(customer, customer, NOISE)
    owner.bridge.part(customer, operator)
    new = await successor(link, tmp_path, rtp)
    new.answering = True
    await new.settle()
    assert set(new.masks()) == {
        (operator.number, customer.number, NOISE),
        (customer.number, customer.number, NOISE),
    }
    assert len(new.engine.connections) == 2
    assert owner.restored == 1


async def test_a_mask_asked_for_while_the_call_moves_is_not_overrun(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    customer, operator = owner.legs
    far.die()
    await gone(link)
    new = await successor(link, tmp_path, rtp)
    await new.serve()
    closed = owner.bridge.set(operator, customer, NOISE)
    new.answering = True
    await new.settle()
    await closed
    assert open_ways(new) == set()
    assert owner.restored == 1


async def test_a_successor_that_dies_as_well(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    far.die()
    await gone(link)
    second = await successor(link, tmp_path, rtp)
    await second.serve()
    second.die()
    await gone(link)
    assert (owner.restored, owner.failures) == (0, [])
    third = await successor(link, tmp_path, rtp)
    third.answering = True
    await third.settle()
    assert (owner.restored, owner.failures) == (1, [])
    assert len(open_ways(third)) == 1


async def test_a_successor_that_comes_before_the_death_was_noticed(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    new = FarWorker(link, tmp_path / "media.sock", rtp)
    await new.arrive()
    await new.settle()
    assert owner.lost == 2
    assert owner.restored == 1
    assert len(link.workers) == 1


async def test_a_worker_with_other_ports_cannot_take_the_call(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path
) -> None:
    far.die()
    await gone(link)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        new = await successor(link, tmp_path, [other])
        assert kinds(await new.serve()) == []
    assert len(owner.failures) == 1


async def test_a_repeating_playlist_begins_anew_and_a_single_one_does_not(
    owner: Owner, far: FarWorker, link: MediaLink, tmp_path: Path, rtp: list[socket.socket]
) -> None:
    tone = tmp_path / "tone.s16"
    tone.write_bytes(bytes(16_000))
    customer, operator = owner.legs
    customer.play(7, [tone], barge_in=False, repeat=True)
    operator.play(8, [tone], barge_in=False, repeat=False)
    await far.settle()
    far.die()
    await gone(link)
    new = await successor(link, tmp_path, rtp)
    new.answering = True
    await new.settle()
    assert [one.playlist for one in new.told if isinstance(one, Play)] == [7]
    assert customer.worker.prompt_uses == 1


class Secured(MediaLeg):
    """Whose media is encrypted."""

    def new_keys_offer(self) -> SessionDescription | None:
        return self.negotiator.offer()


class Peer(SIPLeg):
    """Keeps the offers that it gets."""

    def __init__(self) -> None:
        self.offers: list[SessionDescription] = []

    def reinvite(self, sdp: SessionDescription) -> None:
        self.offers.append(sdp)


@pytest.fixture
def secured(owner: Owner) -> Peer:
    peer = Peer()  # type: ignore[abstract]  # of a leg this test needs one method
    owner.legs[0].__class__ = Secured
    owner.sip[0] = peer
    return peer


async def test_a_secured_leg_is_back_when_its_peer_has_answered_with_keys(
    owner: Owner,
    secured: Peer,
    far: FarWorker,
    link: MediaLink,
    tmp_path: Path,
    rtp: list[socket.socket],
) -> None:
    far.die()
    await gone(link)
    new = await successor(link, tmp_path, rtp)
    new.answering = True
    await new.settle()
    assert (len(secured.offers), owner.restored) == (1, 0)
    leg = owner.legs[0]
    answer, _ = Negotiator("127.0.0.1", 50_000, MediaTerms()).answer(secured.offers[0])
    owner.restoration.reanswered(leg, leg.update(leg.negotiator.accept(answer)))
    await new.settle()
    assert (owner.restored, owner.failures) == (1, [])


async def test_a_peer_that_refuses_fresh_keys_loses_the_call(
    owner: Owner,
    secured: Peer,
    far: FarWorker,
    link: MediaLink,
    tmp_path: Path,
    rtp: list[socket.socket],
) -> None:
    far.die()
    await gone(link)
    new = await successor(link, tmp_path, rtp)
    new.answering = True
    await new.settle()
    owner.restoration.reoffer_failed(owner.legs[0], 488)
    assert (owner.restored, owner.failures) == (0, ["the peer refused a fresh key with 488"])
    assert link.figures.calls_not_restored == 1
