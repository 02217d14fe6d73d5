"""RTCP as bytes: vectors from the RFC's figures, and whatever a hostile peer may send."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp import rtcp
from media.rtp.rtcp import Compound, ReportBlock, SenderInfo

VECTORS = Path(__file__).parents[1] / "vectors" / "rtp" / "rtcp"
HOSTILE = sorted((VECTORS / "hostile").glob("*.hex"))


def vector(path: Path) -> bytes:
    return bytes.fromhex(" ".join(line.partition("#")[0] for line in path.read_text().splitlines()))


EXPECTED = {
    "sender_report": Compound(
        0x11223344,
        SenderInfo(0xE8B45C80_80000000, 123456, 500, 80000),
        (ReportBlock(0xAABBCCDD, 64, 25, 65546, 80, 0x5C7F4000, 0x8000),),
        b"a@b.examp",
    ),
    "receiver_report_empty": Compound(0x0A0B0C0D, None, (), b"name", (0x0A0B0C0D,)),
    "unknown_types": Compound(0x11223344, SenderInfo(0xE8B45C80_00000000, 160, 1, 160), (), b"x"),
    "two_chunks": Compound(
        1,
        SenderInfo(0xE8B45C80_00000001, 0xFFFFFF60, 2, 320),
        (
            ReportBlock(2, 0, -2, 5, 0, 0, 0),
            ReportBlock(3, 255, 0x7FFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 1, 2),
            ReportBlock(4, 0, 0, 7, 8, 0, 0),
        ),
        b"mx",
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_valid_vectors(name: str) -> None:
    assert rtcp.parse(vector(VECTORS / "valid" / f"{name}.hex")) == EXPECTED[name]


def test_every_valid_vector_is_expected() -> None:
    assert {path.stem for path in (VECTORS / "valid").glob("*.hex")} == set(EXPECTED)
    assert len(HOSTILE) > 20


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_vectors_are_refused_whole(path: Path) -> None:
    assert rtcp.parse(vector(path)) is None


words = st.integers(0, 0xFFFFFFFF)
senders = st.builds(SenderInfo, st.integers(0, (1 << 64) - 1), words, words, words)
blocks = st.builds(
    ReportBlock, words, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), words, words, words, words
)
names = st.binary(max_size=255)


@given(words, st.none() | senders, st.none() | blocks, names)
def test_what_we_build_is_read_back(
    ssrc: int, sender: SenderInfo | None, block: ReportBlock | None, cname: bytes
) -> None:
    datagram = rtcp.report(ssrc, sender, block, rtcp.source_items(ssrc, cname))
    found = rtcp.parse(datagram)
    assert found == Compound(ssrc, sender, (block,) if block else (), cname)


@given(words, names)
def test_a_goodbye_is_read_back(ssrc: int, cname: bytes) -> None:
    found = rtcp.parse(rtcp.goodbye(ssrc, rtcp.source_items(ssrc, cname)))
    assert found == Compound(ssrc, None, (), cname, (ssrc,))


def test_a_loss_beyond_24_bits_stays_at_the_end_of_the_range() -> None:
    for lost, told in ((1 << 30, 0x7FFFFF), (-(1 << 30), -0x800000)):
        block = ReportBlock(1, 0, lost, 1 << 33, 1 << 40, 0, 1 << 40)
        found = rtcp.parse(rtcp.report(7, None, block, rtcp.source_items(7, b"x")))
        assert found is not None
        assert found.blocks == (ReportBlock(1, 0, told, 0, 0xFFFFFFFF, 0, 0xFFFFFFFF),)


@given(st.binary(max_size=1600))
def test_noise_never_raises(data: bytes) -> None:
    rtcp.parse(data)


@given(st.data())
def test_mutations_of_valid_packets_never_raise(data: st.DataObject) -> None:
    """Closer to the edge than noise: one vector with some octets changed, cut or grown."""
    name = data.draw(st.sampled_from(sorted(EXPECTED)))
    packet = bytearray(vector(VECTORS / "valid" / f"{name}.hex"))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    packet = packet[: data.draw(st.integers(0, len(packet)))] + data.draw(st.binary(max_size=8))
    found = rtcp.parse(bytes(packet))
    assert found is None or len(found.blocks) <= len(packet) // 24


def test_times() -> None:
    assert rtcp.ntp_time(0) == rtcp.NTP_EPOCH_S << 32
    assert rtcp.ntp_time(1_500_000_000) == (rtcp.NTP_EPOCH_S + 1) << 32 | 0x80000000
    # 2036-02-07 06:28:16: era 1 begins (RFC 5905 §6).
    assert rtcp.ntp_time(2_085_978_496_000_000_000) == 0
    assert rtcp.middle(0x1234567890ABCDEF) == 0x567890AB


def test_round_trip_of_the_rfc() -> None:
    """RFC 3550 §6.4.1, figure 2: 6.125 s."""
    block = ReportBlock(1, 0, 0, 0, 0, 0xB7052000, 0x00054000)
    assert (
        rtcp.round_trip_s(0xB7108000, block) == 0xB7108000 / 65536 - (0xB7052000 + 0x54000) / 65536 == 6.125
    )


def test_round_trip_over_the_turn_of_the_clock_and_of_a_lying_peer() -> None:
    block = ReportBlock(1, 0, 0, 0, 0, 0xFFFFF000, 0x800)
    assert rtcp.round_trip_s(0x800, block) == pytest.approx(0x1000 / 65536)
    assert rtcp.round_trip_s(0xFFFFF000, block) == pytest.approx(-0x800 / 65536)
    assert rtcp.round_trip_s(5, ReportBlock(1, 0, 0, 0, 0, 0, 0)) is None
