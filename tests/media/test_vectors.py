"""The packets of tests/vectors/rtp, as the header parser sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.rtp.packet import HEADER_OFFSET, parse
from tests.media.test_packet import batch_of
from tests.vectors.rtp import make

VECTORS = Path(make.__file__).parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text(encoding="utf-8"))
PACKETS = {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("*.bin"))}
RTP = sorted(name for name, said in EXPECTED.items() if said["kind"] == "rtp")


def test_files_are_what_the_generator_makes() -> None:
    assert {name: packet for name, (packet, _) in make.VECTORS.items()} == PACKETS
    assert {name: said for name, (_, said) in make.VECTORS.items()} == EXPECTED


@pytest.mark.parametrize("name", RTP)
def test_header(name: str) -> None:
    said = EXPECTED[name]
    columns = parse(*batch_of([PACKETS[name]]))
    assert bool(columns.valid[0]) is said["valid"], said.get("why")
    if said["valid"]:
        for field in ("marker", "payload_type", "sequence", "timestamp", "ssrc", "size"):
            assert getattr(columns, field)[0] == said[field], field
        assert columns.offset[0] - HEADER_OFFSET == said["offset"]


def test_together_as_alone() -> None:
    """A bad packet changes nothing in how its neighbours in the batch are read."""
    names = sorted(PACKETS)
    together = parse(*batch_of([PACKETS[name] for name in names]))
    for at, name in enumerate(names):
        alone = parse(*batch_of([PACKETS[name]]))
        for ours, theirs in zip(together, alone, strict=True):
            if alone.valid[0] or ours is together.valid:
                assert np.array_equal(ours[at : at + 1], theirs), name


def test_reports_never_look_like_a_leg_s_audio_or_keys() -> None:
    """RFC 5761 §4: sharing a port, RTCP shows as RTP of payload type 64 to 95, which is never negotiated."""
    for name, said in EXPECTED.items():
        if said["kind"] == "rtcp" and said["valid"]:
            columns = parse(*batch_of([PACKETS[name]]))
            assert not columns.valid[0] or 64 <= columns.payload_type[0] <= 95, name
