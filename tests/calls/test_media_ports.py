"""Port sharing: two rules that no sequence of legs may break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.protocol import Remote
from sipivr.calls.media_ports import PortsExhausted, PortTable

SOCKETS = tuple(Remote("127.0.0.1", 40_000 + 2 * i) for i in range(3))
PEER = Remote("192.0.2.1", 4000)
OTHER = Remote("192.0.2.2", 4000)


def test_legs_of_different_peers_may_share_a_port() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    assert table.take(1, PEER, source_known=True) == 0
    assert table.take(2, OTHER, source_known=True) == 0


def test_one_peer_address_never_twice_on_a_port() -> None:
    table = PortTable(SOCKETS, sharing=True)
    assert {table.take(leg, PEER, source_known=True) for leg in range(3)} == {0, 1, 2}
    with pytest.raises(PortsExhausted):
        table.take(4, PEER, source_known=True)


def test_only_one_leg_of_unknown_source_on_a_port() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    table.take(1, None, source_known=False)
    with pytest.raises(PortsExhausted):
        table.take(2, PEER, source_known=False)
    assert table.take(3, OTHER, source_known=True) == 0


def test_without_sharing_every_leg_has_a_port_of_its_own() -> None:
    table = PortTable(SOCKETS, sharing=False)
    assert {table.take(1, PEER, source_known=True), table.take(2, OTHER, source_known=True)} == {0, 1}


def test_a_released_port_may_be_taken_again() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    table.take(1, PEER, source_known=True)
    table.release(1, 0)
    assert table.take(2, PEER, source_known=True) == 0
    assert table.legs == 1


def test_a_peer_may_not_move_onto_anothers_address() -> None:
    table = PortTable(SOCKETS[:1], sharing=True)
    table.take(1, PEER, source_known=True)
    table.take(2, OTHER, source_known=True)
    assert not table.move(2, 0, PEER)
    assert table.may_move(2, 0, Remote("192.0.2.4", 4000))
    assert not table.may_move(1, 0, OTHER), "asking has moved nobody"
    assert table.move(2, 0, Remote("192.0.2.3", 4000))
    assert table.take(3, OTHER, source_known=True) == 0


peers = st.one_of(st.none(), st.integers(0, 3).map(lambda n: Remote("192.0.2.9", 4000 + n)))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), peers), max_size=60))
def test_no_sequence_breaks_the_two_rules(steps: list[tuple[bool, int, Remote | None]]) -> None:
    table = PortTable(SOCKETS, sharing=True)
    where: dict[int, tuple[int, Remote | None]] = {}
    for adds, leg, peer in steps:
        if adds and leg not in where:
            try:
                where[leg] = (table.take(leg, peer, source_known=peer is not None), peer)
            except PortsExhausted:
                continue
        elif leg in where:
            table.release(leg, where.pop(leg)[0])
    for port in range(len(SOCKETS)):
        on_port = [peer for index, peer in where.values() if index == port]
        known = [peer for peer in on_port if peer is not None]
        assert len(set(known)) == len(known)
        assert len(on_port) - len(known) <= 1
