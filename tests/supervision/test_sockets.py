"""The ports that outlive their workers: RTP on even ones, RTCP one above."""

from __future__ import annotations

import socket

import msgspec
import pytest

from sipivr.config import RTPSettings
from sipivr.supervision import sockets


def test_each_rtp_port_has_the_rtcp_port_above() -> None:
    bound = sockets.bind_workers(RTPSettings(ports_per_worker=3), 2)
    try:
        assert [len(one.rtp) for one in bound] == [len(one.rtcp) for one in bound] == [3, 3]
        for worker in bound:
            for rtp, rtcp in zip(worker.rtp, worker.rtcp, strict=True):
                assert rtp.getsockname()[1] % 2 == 0
                assert rtcp.getsockname()[1] == rtp.getsockname()[1] + 1
            assert set(worker.descriptors) == {one.fileno() for one in (*worker.rtp, *worker.rtcp)}
    finally:
        sockets.close_all(bound)


def test_a_port_above_that_is_taken_is_named() -> None:
    first = sockets.bind_workers(RTPSettings(ports_per_worker=1), 1)
    port = first[0].rtp[0].getsockname()[1]
    first[0].rtp[0].close()
    settings = msgspec.structs.replace(RTPSettings(ports_per_worker=1), first_port=port)
    try:
        with pytest.raises(sockets.PortTakenError, match=f"{port + 1} .* RTCP"):
            sockets.bind_workers(settings, 1)
        # And the even one was given back.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(("127.0.0.1", port))
    finally:
        first[0].rtcp[0].close()
