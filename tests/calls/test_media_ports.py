"""Port sharing: two rules that no sequence of legs may break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.protocol import Remote
from sipivr.calls.media_ports import FamilyMissing, PortsExhausted, PortTable, Seat

SOCKETS = tuple(Remote("127.0.0.1", 40_000 + 2 * i) for i in range(3))
SIX = Remote("2001:db8::1", 40_000)
PEER = Remote("192.0.2.1", 4000)
OTHER = Remote("192.0.2.2", 4000)


def take(table: PortTable, leg: int, source: Remote | None, *, waits: bool = False) -> int:
    seat = Seat(source, waits or source is None)
    index = table.choose(leg, seat)
    table.seat(leg, index, seat)
    return index


def test_legs_of_different_peers_may_share_a_port() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    assert take(table, 1, PEER) == 0
    assert take(table, 2, OTHER) == 0


def test_one_peer_address_never_twice_on_a_port() -> None:
    table = PortTable(SOCKETS, sharing=True)
    assert {take(table, leg, PEER) for leg in range(3)} == {0, 1, 2}
    with pytest.raises(PortsExhausted):
        take(table, 4, PEER)


def test_only_one_leg_a_port_waits_for_its_source() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    take(table, 1, None)
    with pytest.raises(PortsExhausted):
        take(table, 2, PEER, waits=True)
    assert take(table, 3, OTHER) == 0


def test_nobody_joins_one_who_waits_while_another_port_will_do() -> None:
    """Its address, when it comes, may be the newcomer's."""
    table = PortTable(SOCKETS[:2], sharing=True)
    take(table, 1, None)
    assert [take(table, leg, Remote("192.0.2.9", leg)) for leg in (2, 3, 4)] == [1, 1, 1]


def test_a_leg_that_has_latched_waits_no_more() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    take(table, 1, PEER, waits=True)
    table.settle(1, 0, OTHER)
    assert take(table, 2, PEER, waits=True) == 0
    with pytest.raises(PortsExhausted):
        take(table, 3, OTHER)


def test_without_sharing_every_leg_has_a_port_of_its_own() -> None:
    table = PortTable(SOCKETS[:2], sharing=False)
    assert {take(table, 1, PEER), take(table, 2, OTHER)} == {0, 1}
    with pytest.raises(PortsExhausted):
        take(table, 3, Remote("192.0.2.3", 4000))
    assert table.choose(1, Seat(Remote("192.0.2.4", 1), waits=False), 0) == 0, "alone it may do what it likes"


def test_a_released_port_may_be_taken_again() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    take(table, 1, PEER)
    table.release(1, 0)
    assert take(table, 2, PEER) == 0
    assert table.legs == 1


def test_a_peer_that_moves_onto_anothers_address_gets_another_port() -> None:
    table = PortTable(SOCKETS[:2], sharing=True)
    take(table, 1, PEER)
    take(table, 2, PEER)
    assert take(table, 3, OTHER) == 0
    onto = Seat(PEER, waits=False)
    with pytest.raises(PortsExhausted):
        table.choose(3, onto, 0)
    table.release(2, 1)
    assert table.choose(3, onto, 0) == 1
    assert table.choose(1, Seat(OTHER, waits=False), 0) == 1, "choosing has moved nobody"
    table.seat(3, 1, onto, before=0)
    assert table.choose(1, Seat(OTHER, waits=False), 0) == 0
    assert table.choose(1, Seat(Remote("192.0.2.3", 4000), waits=False), 0) == 0


def test_a_move_that_would_make_two_wait_is_to_another_port() -> None:
    table = PortTable(SOCKETS[:2], sharing=True)
    take(table, 1, PEER, waits=True)
    table.settle(1, 0, OTHER)
    take(table, 2, Remote("192.0.2.3", 1))
    assert take(table, 3, Remote("192.0.2.4", 1), waits=True) == 0
    assert table.choose(1, Seat(Remote("192.0.2.5", 1), waits=True), 0) == 1


def test_a_leg_stands_where_its_peers_family_is() -> None:
    table = PortTable((*SOCKETS[:1], SIX), sharing=True)
    assert take(table, 1, Remote("2001:db8::2", 4000)) == 1
    assert take(table, 2, PEER) == 0
    assert take(table, 3, None) == 0, "our offers are of the first family"
    assert table.choose(2, Seat(Remote("2001:db8::3", 4000), waits=False), 0) == 1, "it may change in a call"


@pytest.mark.parametrize("address", ["2001:db8::2", "fe80::1", "::ffff:192.0.2.1"])
def test_a_family_without_a_port_is_refused(address: str) -> None:
    table = PortTable(SOCKETS, sharing=True)
    with pytest.raises(FamilyMissing) as refused:
        take(table, 1, Remote(address, 4000))
    assert refused.value.status == 488
    assert table.legs == 0


# -- any sequence -------------------------------------------------------------------------------------------------

peers = st.one_of(
    st.none(),
    st.integers(0, 3).map(lambda n: Remote("192.0.2.9", 4000 + n)),
    st.integers(0, 1).map(lambda n: Remote("2001:db8::9", 4000 + n)),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "move", "settle", "release"]), st.integers(1, 9), peers, st.booleans()
    ),
    max_size=60,
)


@given(steps, st.booleans())
def test_no_sequence_breaks_the_rules(
    script: list[tuple[str, int, Remote | None, bool]], sharing: bool
) -> None:
    sockets = (*SOCKETS, SIX)
    table = PortTable(sockets, sharing=sharing)
    where: dict[int, tuple[int, Seat]] = {}
    for what, leg, peer, waits in script:
        seat = Seat(peer, waits or peer is None)
        index, known = where.get(leg, (None, None))
        if (what == "take" and index is None) or (what == "move" and index is not None):
            others = [on for other, (on, _) in where.items() if other != leg]
            try:
                chosen = table.choose(leg, seat, index)
            except PortsExhausted:
                # Only when it is true: an empty port of the family would have done.
                family = [n for n, one in enumerate(sockets) if (":" in one.address) is _six(peer)]
                assert all(n in others for n in family)
                continue
            table.seat(leg, chosen, seat, before=index)
            where[leg] = chosen, seat
        elif (
            what == "settle" and index is not None and known is not None and known.waits and peer is not None
        ):
            # As the worker does it: only to a source that is nobody's on this port, and of its family.
            taken = {there.source for on, there in where.values() if on == index}
            if peer not in taken - {known.source} and _six(peer) is (":" in sockets[index].address):
                table.settle(leg, index, peer)
                where[leg] = index, Seat(peer, waits=False)
        elif what == "release" and index is not None:
            table.release(leg, index)
            del where[leg]
        for port, local in enumerate(sockets):
            there = [one for on, one in where.values() if on == port]
            known_sources = [one.source for one in there if one.source is not None]
            assert len(set(known_sources)) == len(known_sources)
            assert sum(one.waits for one in there) <= 1
            assert sharing or len(there) <= 1
            assert all(_six(source) is (":" in local.address) for source in known_sources)
        assert table.legs == len(where)


def _six(peer: Remote | None) -> bool:
    return peer is not None and ":" in peer.address
