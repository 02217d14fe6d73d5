"""Keys through a bad network, and the instruments of `bench rtp_impairments`.

The network's schedules are the bench's; here an engine is ticked in step with them, so that nothing depends on the
machine.
"""

from __future__ import annotations

import contextlib
import itertools
import socket as udp
import struct
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench._impairments import EVENT_TYPE, Network, Sender, Sent, packets_of
from bench._listening import Ear, Reference, compare_keys, ear_of, judge
from bench._sounds import Track, key_track, pcm_of, speech, without_tones
from media.engine import Engine
from media.protocol import FRAME_SAMPLES, Acknowledged, KeyPressed
from tests.media.support import add, remote_of, udp_socket

SECONDS = 20.0
LEGS = 2


def packet_bytes(sent: Sent, at: int) -> bytes:
    row = sent.packets[at]
    head = struct.pack("!BBHII", 0x80, row["word"], row["sequence"], int(row["timestamp"]), int(row["ssrc"]))
    return head + sent.data[int(row["start"]) : int(row["start"]) + int(row["size"])]


class Way(NamedTuple):
    network: Network
    events: bool


NETWORKS = {"clean": Network(), "loss 5 %": Network(loss=0.05), "jitter 60 ms": Network(jitter_ms=60)}
WAYS = {
    f"{name}, {'telephone-event' if events else 'in band'}": Way(network, events)
    for name, network in NETWORKS.items()
    for events in (False, True)
}


@pytest.fixture(scope="module")
def keyed() -> dict[str, list[dict[str, int]]]:
    """What an engine makes of keys through each network: a few legs each way, all on one engine."""
    rng = np.random.default_rng(3)
    counts: dict[str, list[dict[str, int]]] = {name: [] for name in WAYS}
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(udp_socket())
        engine = Engine([ours], rng=np.random.default_rng(0), capacity=len(WAYS) * LEGS)
        plays: list[tuple[str, Track, Sent, udp.socket]] = []
        due: list[tuple[float, int, int]] = []
        for name, way in WAYS.items():
            for _ in range(LEGS):
                track = key_track(SECONDS, 100, 100, rng)
                if way.events:
                    track = without_tones(track, rng)
                sent = packets_of(track, Sender(), rng, events=way.events)
                theirs = stack.enter_context(udp_socket())
                leg = len(plays)
                assert isinstance(
                    add(engine, leg, remote_of(theirs), event_payload_type=EVENT_TYPE), Acknowledged
                )
                plays.append((name, track, sent, theirs))
                arrived, at_s = way.network.carry(sent.packets["time"], rng)
                due += [(float(when), leg, int(at)) for when, at in zip(at_s, arrived, strict=True)]
        due.sort(reverse=True)
        keys: dict[int, list[int]] = {}
        for tick in range(round((SECONDS + 1) * 50)):
            while due and due[-1][0] <= tick * 0.02:
                _, leg, at = due.pop()
                _, _, sent, theirs = plays[leg]
                theirs.sendto(packet_bytes(sent, at), ours.getsockname())
            for event in engine.tick():
                if isinstance(event, KeyPressed):
                    keys.setdefault(event.leg, []).append(event.key)
        for leg, (name, track, _, _) in enumerate(plays):
            counts[name].append(compare_keys([key.code for key in track.keys], keys.get(leg, [])))
    return counts


@pytest.mark.parametrize("way", WAYS)
def test_no_key_is_lost(keyed: dict[str, list[dict[str, int]]], way: str) -> None:
    for counts in keyed[way]:
        assert counts["keys"] > 60
        assert counts["missed"] == counts["doubled"] == counts["wrong"] == 0


# The instruments


@pytest.fixture(scope="module")
def said() -> Track:
    return speech(6.0, np.random.default_rng(1))


def heard(said: Track, sent: Sent, *, without: slice = slice(0), delay: int = 3) -> Ear:
    """The clean stream, `delay` frames later, with frames replaced by silence."""
    codes = np.concatenate((np.full(delay * FRAME_SAMPLES, 0xFF, np.uint8), said.codes))
    frames = codes[: len(codes) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).copy()
    frames[without] = 0xFF
    return Ear(frames.reshape(-1), (np.arange(len(frames)) + 1) * 0.02)


def test_what_came_whole_is_whole(said: Track) -> None:
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    result = judge(Reference(said), sent, heard(said, sent), 1.0, 5.0)
    assert result["lost_percent"] == result["filled_percent"] == result["longest_gap_ms"] == 0
    assert result["jumps_per_min"] == 0
    assert result["snr_db"] == 35
    assert result["delay_ms"] == pytest.approx(60, abs=0.1)


def loudest(said: Track) -> int:
    """A frame, as it is heard three frames later, in the midst of speech."""
    levels = np.abs(pcm_of(said.codes).astype(np.int64)).reshape(-1, FRAME_SAMPLES).max(axis=1)
    return 75 + int(levels[75:200].argmax()) + 3


def percent_of_speech(said: Track, frames: int) -> object:
    return pytest.approx(100 * frames * FRAME_SAMPLES / said.active[8_000:40_000].sum(), abs=0.05)


def test_a_hole_is_measured(said: Track) -> None:
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    at = loudest(said)
    result = judge(Reference(said), sent, heard(said, sent, without=slice(at, at + 4)), 1.0, 5.0)
    assert result["longest_gap_ms"] == pytest.approx(80, abs=0.5)
    assert result["lost_percent"] == percent_of_speech(said, 4)
    assert result["jumps_per_min"] == 0
    assert result["snr_db"] < 35
    assert result["lsd_db"] > 3


def test_a_splice_is_measured(said: Track) -> None:
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    whole = heard(said, sent)
    at = loudest(said) * FRAME_SAMPLES
    codes = np.concatenate((whole.codes[:at], whole.codes[at + FRAME_SAMPLES :]))
    result = judge(Reference(said), sent, Ear(codes, whole.arrival_s[:-1]), 1.0, 5.0)
    assert result["jumps_per_min"] == 15
    assert result["longest_gap_ms"] == 0
    assert result["lost_percent"] == percent_of_speech(said, 1)
    assert result["delay_last_ms"] == pytest.approx(result["delay_first_ms"] - 20, abs=0.1)


def test_what_is_heard_twice_is_made_up(said: Track) -> None:
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    whole = heard(said, sent)
    at = loudest(said) * FRAME_SAMPLES
    codes = np.concatenate((whole.codes[:at], whole.codes[at - FRAME_SAMPLES :]))
    result = judge(Reference(said), sent, Ear(codes, np.append(whole.arrival_s, 9.0)), 1.0, 5.0)
    assert result["longest_gap_ms"] == 20
    assert result["lost_percent"] == 0


def test_a_pause_may_become_shorter(said: Track) -> None:
    """An adaptive buffer does it; nobody hears it."""
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    whole = heard(said, sent)
    pauses = np.flatnonzero(~said.active.reshape(-1, FRAME_SAMPLES).any(axis=1))
    at = int(pauses[(pauses > 60) & (pauses < 240)][1] + 3) * FRAME_SAMPLES
    codes = np.concatenate((whole.codes[:at], whole.codes[at + FRAME_SAMPLES :]))
    result = judge(Reference(said), sent, Ear(codes, whole.arrival_s[:-1]), 1.0, 5.0)
    assert result["lost_percent"] == result["filled_percent"] == result["jumps_per_min"] == 0
    assert result["pause_jumps_per_min"] == 15


def test_nothing_heard_is_everything_lost(said: Track) -> None:
    sent = packets_of(said, Sender(), np.random.default_rng(2))
    assert judge(Reference(said), sent, ear_of([]), 1.0, 5.0)["lost_percent"] == 100


def test_suppressed_silence_is_no_loss(said: Track) -> None:
    sent = packets_of(said, Sender(suppresses_silence=True), np.random.default_rng(2))
    assert not sent.carried.all()
    codes = np.where(sent.carried, said.codes, 0xFF).astype(np.uint8)
    quiet = Track(codes, said.active)
    result = judge(Reference(said), sent, heard(quiet, sent), 1.0, 5.0)
    assert result["lost_percent"] == pytest.approx(0, abs=0.1)
    assert result["longest_gap_ms"] < 5


@given(st.lists(st.integers(0, 15), max_size=30), st.data())
def test_counts_of_keys_add_up(pressed: list[int], data: st.DataObject) -> None:
    received = data.draw(st.lists(st.integers(0, 15), max_size=30))
    counts = compare_keys(pressed, received)
    assert counts["keys"] == len(pressed)
    assert min(counts.values()) >= 0
    assert len(received) - len(pressed) <= counts["doubled"] + counts["wrong"]
    assert (pressed == received) == (counts["missed"] + counts["doubled"] + counts["wrong"] == 0)


def test_what_became_of_keys() -> None:
    assert compare_keys([1, 2, 3, 4], [1, 2, 2, 4]) == {"keys": 4, "missed": 0, "doubled": 0, "wrong": 1}
    assert compare_keys([1, 2, 3, 4], [1, 2, 2, 3, 4]) == {"keys": 4, "missed": 0, "doubled": 1, "wrong": 0}
    assert compare_keys([1, 2, 3, 4], [1, 3, 4]) == {"keys": 4, "missed": 1, "doubled": 0, "wrong": 0}
    assert compare_keys([1, 2], [1, 2, 7]) == {"keys": 2, "missed": 0, "doubled": 0, "wrong": 1}


def test_networks_do_what_they_are_called() -> None:
    times = np.arange(50_000) * 0.02
    rng = np.random.default_rng(3)
    for loss, burst in ((0.05, 1.0), (0.05, 3.0)):
        arrived, _ = Network(loss=loss, burst=burst).carry(times, rng)
        lost = np.setdiff1d(np.arange(len(times)), arrived)
        assert len(lost) / len(times) == pytest.approx(loss, rel=0.15)
        assert len(lost) / (np.diff(lost) > 1).sum() == pytest.approx(max(burst, 1.05), rel=0.1)
    arrived, at_s = Network(jitter_ms=60).carry(times, rng)
    transit = at_s - times[arrived]
    by_sender = transit[np.argsort(arrived)]
    assert np.abs(np.diff(by_sender)).mean() == pytest.approx(0.060, rel=0.03)
    assert (np.diff(at_s) >= 0).all() and (np.diff(arrived) < 0).any()
    arrived, _ = Network(jitter_ms=60, in_order=True).carry(times, rng)
    assert (np.diff(arrived) == 1).all()
    arrived, _ = Network(duplicates=0.1).carry(times, rng)
    assert len(arrived) == pytest.approx(1.1 * len(times), rel=0.02)


def test_a_clock_that_is_wrong_sends_at_its_own_pace(said: Track) -> None:
    fast = packets_of(said, Sender(ppm=1000), np.random.default_rng(2)).packets["time"]
    right = packets_of(said, Sender(), np.random.default_rng(2)).packets["time"]
    assert right[-1] / fast[-1] == pytest.approx(1.001, abs=1e-6)


def test_an_event_is_sent_as_rfc_4733_has_it() -> None:
    rng = np.random.default_rng(5)
    track = without_tones(key_track(6.0, 100, 100, rng), rng)
    sent = packets_of(track, Sender(), rng, events=True)
    packets = [packet_bytes(sent, at) for at in range(len(sent.packets))]
    events = [packet for packet in packets if packet[1] & 0x7F == EVENT_TYPE]
    presses = [list(group) for _, group in itertools.groupby(events, lambda packet: packet[4:8])]
    assert len(presses) == len(track.keys)
    for key, press in zip(track.keys, presses, strict=True):
        assert {packet[12] for packet in press} == {key.code}
        assert [packet[1] >> 7 for packet in press] == [1] + [0] * (len(press) - 1)
        durations = [int.from_bytes(packet[14:16], "big") for packet in press]
        assert set(np.diff(durations[:-3]).tolist()) == {160}
        assert durations[-3:] == [800] * 3
        assert [packet[13] >> 7 for packet in press] == [0] * (len(press) - 3) + [1] * 3
