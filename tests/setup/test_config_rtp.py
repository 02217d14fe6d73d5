"""RTP addresses in the settings, and the sockets that come of them."""

from __future__ import annotations

import socket

import pytest

from sipivr import config
from sipivr.config import ConfigError, RTPSettings
from sipivr.supervision import sockets


def load(**values: str) -> RTPSettings:
    return config.load(None, {f"SIPIVR_RTP__{name.upper()}": value for name, value in values.items()}).rtp


@pytest.mark.parametrize(
    ("address", "advertised"),
    [
        ("192.0.2.1,192.0.2.2", ""),
        ("fe80::1", ""),
        ("fe80::1%lo", ""),
        ("::ffff:192.0.2.1", ""),
        ("localhost", ""),
        ("", ""),
        ("0.0.0.0", ""),
        ("0.0.0.0", "2001:db8::1"),
        ("127.0.0.1", "rtp.example.org"),
    ],
)
def test_what_sdp_cannot_say_is_refused(address: str, advertised: str) -> None:
    with pytest.raises(ConfigError):
        load(address=address, advertised_address=advertised)


def test_one_address_of_each_family() -> None:
    rtp = load(address="0.0.0.0, ::", advertised_address="2001:db8::1,192.0.2.1")
    assert config.addresses(rtp.address) == ("0.0.0.0", "::")
    assert config.addresses(rtp.advertised_address) == ("2001:db8::1", "192.0.2.1")


def test_a_worker_has_ports_on_each_address() -> None:
    bound = sockets.bind_workers(load(address="127.0.0.1,::1", ports_per_worker="2"), 2)
    try:
        for worker in bound:
            assert [one.family for one in worker.rtp] == [socket.AF_INET] * 2 + [socket.AF_INET6] * 2
            assert all(one.getsockname()[1] % 2 == 0 for one in worker.rtp)
    finally:
        sockets.close_all(bound)


def test_both_wildcards_have_the_same_ports() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        first = probe.getsockname()[1]
    settings = load(address="0.0.0.0,::", advertised_address="127.0.0.1,::1", first_port=str(first))
    bound = sockets.bind_workers(RTPSettings(**{**_fields(settings), "ports_per_worker": 1}), 1)
    try:
        assert len({one.getsockname()[1] for one in bound[0].rtp}) == 1
    finally:
        sockets.close_all(bound)


def _fields(settings: RTPSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
