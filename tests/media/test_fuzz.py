"""Mutated packets: no exception reaches the tick, no other leg loses a frame. `bench rtp_fuzz` does it at length."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import media.engine
from bench.rtp_fuzz import LockStepSubject, attack, live_subject, sockets_of_a_worker
from media.arrays import UInt8, UInt64
from media.rtp.lookup import SourceTable

Sockets = tuple[list[socket.socket], list[socket.socket]]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with sockets_of_a_worker() as opened:
        yield opened


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_breaks_and_no_other_leg_loses_a_frame(sockets: Sockets, seed: int) -> None:
    result = attack(LockStepSubject(*sockets, seed), sockets, seed=seed, packets=10_000, per_step=200)
    assert result["wrong"] == []
    assert result["socket_overflows"] == 0
    assert result["refused_legs"] == 0
    assert result["corpus"] > 50
    assert all(victim["said"] > 90 for victim in result["victims"])


def test_a_live_worker_stands_it(sockets: Sockets) -> None:
    """How smoothly the victims hear each other is the bench's question: here the machine may be busy."""
    with live_subject(*sockets) as (subject, worker):
        result = attack(subject, sockets, seed=3, packets=20_000, per_step=400)
        assert worker.alive
    assert result["faults"] == 0
    for victim in result["victims"]:
        assert victim["sequence_gaps"] == 0
        assert victim["heard"] > 0


def test_an_exception_is_found_out(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parse = media.engine.parse

    def fragile(slots: UInt8, lengths: Any) -> Any:
        if (lengths < 2).any():
            raise IndexError("planted")
        return parse(slots, lengths)

    monkeypatch.setattr(media.engine, "parse", fragile)
    result = attack(LockStepSubject(*sockets, 4), sockets, seed=4, packets=2_000, per_step=100)
    assert result["faults"] > 0
    assert not result["correct"]
    assert "planted" in capsys.readouterr().err


def test_a_stranger_who_is_let_in_is_found_out(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    find = SourceTable.find

    def trusting(table: SourceTable, names: UInt8, numbers: UInt64) -> Any:
        rows = find(table, names, numbers)
        return np.where((rows < 0) & (numbers == 0), 0, rows)

    monkeypatch.setattr(SourceTable, "find", trusting)
    result = attack(LockStepSubject(*sockets, 5), sockets, seed=5, packets=4_000, per_step=100)
    assert not result["correct"]
    assert result["victims"][1]["altered"] + result["victims"][1]["lost"] > 0
