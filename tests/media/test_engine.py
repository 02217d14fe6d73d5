"""Engines joined over real loopback sockets, stepped tick by tick."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import numpy as np
import pytest

from media.dsp import tones
from media.engine import Engine
from media.protocol import (
    Acknowledged,
    AnyEvent,
    Codec,
    Connect,
    Direction,
    DTMFMode,
    KeyPressed,
    KeyWay,
    LegFault,
    LegStatistics,
    LoadPrompt,
    MaskApplied,
    MaskMode,
    Play,
    PlayFinished,
    QueryStatistics,
    Refused,
    Remote,
    RemoveLeg,
    RTPTimeout,
    SendKey,
    SetMask,
    StopPlaying,
    UnloadPrompt,
    UpdateLeg,
)
from media.rtp.packet import header
from tests.media.support import add, keys_of, loopback_pair, of_type, remote_of, udp_socket

KEYS = [4, 1, 1, 10, 15, 0]


def run(ticks: int, *engines: Engine) -> list[AnyEvent]:
    """Steps engines in turn; returns the last one's events."""
    events: list[AnyEvent] = []
    for _ in range(ticks):
        for engine in engines:
            happened = engine.tick()
        events += happened
    return events


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("codec", list(Codec))
def test_audio_and_keys_in_band(codec: Codec, portable: bool) -> None:
    with loopback_pair(portable=portable) as (telephone, switch):
        for engine in (telephone, switch):
            change = UpdateLeg(
                seq=9, leg=1, codec=codec, remote=engine.legs[1].remote, event_payload_type=101
            )
            assert engine.execute(change) == [Acknowledged(seq=9)]
        telephone.queue_audio(1, tones.key_sequence(KEYS, 50, 50))
        sent, heard, events = [], [], []
        for _ in range(45):
            telephone.tick()
            sent.append(telephone.sent_pcm(1).copy())
            events += switch.tick()
            heard.append(switch.received_pcm(1).copy())
        assert keys_of(events) == KEYS
        assert all(event.way is KeyWay.INBAND for event in of_type(events, KeyPressed))
        one, other = np.concatenate(sent[:40]), np.concatenate(heard[2:42])
        noise = one.astype(float) - other
        assert np.sqrt(np.mean(noise**2)) < 0.03 * np.sqrt(np.mean(one.astype(float) ** 2))


@pytest.mark.parametrize("portable", [False, True])
def test_keys_as_telephone_event(portable: bool) -> None:
    with loopback_pair(portable=portable) as (telephone, switch):
        for key in KEYS:
            assert telephone.execute(SendKey(seq=1, leg=1, key=key)) == [Acknowledged(seq=1)]
        telephone.queue_audio(1, np.full(8000, 3000, np.int16))
        events = run(80, telephone, switch)
        assert keys_of(events) == KEYS
        assert all(event.way is KeyWay.RFC4733 for event in of_type(events, KeyPressed))
        statistics = switch.leg_statistics(switch.legs[1])
        assert statistics.keys_rfc4733 == len(KEYS)
        assert statistics.packets_lost == 0
        assert statistics.packets_refused == 0


def test_one_press_by_both_ways_is_one_key() -> None:
    """A gateway that sends the tone and the event of each press."""
    with udp_socket() as peer, udp_socket() as ours:
        switch = Engine([ours], capacity=8)
        add(switch, 1, remote_of(peer))
        to = ours.getsockname()
        tone = tones.dtmf_tone(7, 80)
        audio = np.concatenate([tones.silence(100), tone, tones.silence(120)] * 4)
        from media.dsp.g711 import ENCODE

        codes = ENCODE[0][audio.view(np.uint16)].reshape(-1, 160)
        events, sequence = [], 0
        for tick, frame in enumerate(codes):
            peer.sendto(header(0, sequence, tick * 160, 5) + frame.tobytes(), to)
            sequence += 1
            within = tick % 15 - 5
            if 0 <= within < 4:
                payload = bytes((7, 0x8A if within == 3 else 0x0A)) + (within * 160 + 160).to_bytes(2, "big")
                start = (tick - within) * 160
                peer.sendto(header(101, sequence, start, 5, marker=within == 0) + payload, to)
                sequence += 1
            events += switch.tick()
        events += run(5, switch)
        assert keys_of(events) == [7] * 4
        statistics = switch.leg_statistics(switch.legs[1])
        assert (statistics.keys_inband, statistics.keys_rfc4733) == (4, 4)
        starts = [event.timestamp for event in of_type(events, KeyPressed)]
        assert starts == [800 + n * 2400 for n in range(4)]


@pytest.mark.parametrize(
    ("mode", "expected"), [(DTMFMode.OFF, 0), (DTMFMode.INFO, 0), (DTMFMode.INBAND, 2), (DTMFMode.RFC4733, 1)]
)
def test_dtmf_mode(mode: DTMFMode, expected: int) -> None:
    with loopback_pair() as (telephone, switch):
        switch.execute(
            UpdateLeg(
                seq=1,
                leg=1,
                codec=Codec.PCMU,
                remote=switch.legs[1].remote,
                event_payload_type=101,
                dtmf=mode,
            )
        )
        telephone.queue_audio(1, tones.key_sequence([1, 2], 60, 60))
        events = run(20, telephone, switch)
        telephone.execute(SendKey(seq=1, leg=1, key=3))
        events += run(20, telephone, switch)
        assert len(keys_of(events)) == expected


class Bridge:
    """A switch with two legs and the sockets of their peers."""

    def __init__(self, **options: object) -> None:
        self.ours, self.customer, self.operator = udp_socket(), udp_socket(), udp_socket()
        self.engine = Engine([self.ours], rng=np.random.default_rng(3), **{"capacity": 4, **options})  # type: ignore[arg-type]
        add(self.engine, 1, remote_of(self.customer))
        add(self.engine, 2, remote_of(self.operator), codec=Codec.PCMA)
        self._sent = 0

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.ours, self.customer, self.operator):
            sock.close()

    def speak(self, ticks: int = 6) -> list[AnyEvent]:
        """The customer says something loud."""
        events = []
        for _ in range(ticks):
            payload = bytes([0x85, 0x05] * 80)
            self.customer.sendto(
                header(0, self._sent, self._sent * 160, 9) + payload, self.ours.getsockname()
            )
            self._sent += 1
            events += self.engine.tick()
        return events

    def heard(self) -> int:
        """The loudest sample that the operator is sent now."""
        return int(np.abs(self.engine.sent_pcm(2).astype(int)).max())

    def do(self, command: object) -> list[AnyEvent]:
        return self.engine.execute(command)  # type: ignore[arg-type]


def test_masks_over_sockets() -> None:
    with Bridge() as bridge:
        bridge.speak()
        assert bridge.heard() == 0, "not connected"
        bridge.do(Connect(seq=1, source=1, destination=2))
        bridge.speak()
        assert bridge.heard() == 0, "silence is the default mask"
        bridge.do(SetMask(seq=2, source=1, destination=2, mask=MaskMode.OPEN))
        bridge.speak(1)
        assert bridge.heard() > 10_000
        bridge.do(SetMask(seq=3, source=1, destination=2, mask=MaskMode.COMFORT_NOISE))
        bridge.speak(1)
        assert 0 < bridge.heard() < 400


@pytest.mark.parametrize("mode", [mode for mode in MaskMode if mode is not MaskMode.OPEN])
def test_packets_under_a_mask_tell_nothing(mode: MaskMode) -> None:
    """One a tick and all of one size, whether the customer speaks, keys or is not there at all."""
    with Bridge() as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2))
        command = SetMask(seq=2, source=1, destination=2, mask=mode, beeps=True)
        applied = MaskApplied(seq=2, source=1, destination=2, mask=mode)
        assert bridge.do(command) == [Acknowledged(seq=2), applied]
        bridge.speak(20)
        run(20, bridge.engine)
        packets = [bridge.operator.recv(2048) for _ in range(40)]
        assert {(len(packet), packet[1]) for packet in packets} == {(172, 8)}
        with pytest.raises(BlockingIOError):
            bridge.operator.recv(2048)


def test_hold_in_a_clamp_lets_nothing_old_out() -> None:
    with Bridge() as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.CLAMP))
        bridge.speak(30)
        assert bridge.heard() > 10_000
        remote = bridge.engine.legs[1].remote
        for direction in (Direction.INACTIVE, Direction.SENDRECV):
            bridge.do(UpdateLeg(seq=2, leg=1, codec=Codec.PCMU, remote=remote, direction=direction))
            run(1, bridge.engine)
            assert bridge.heard() < 400


@pytest.mark.parametrize("stage", ["_detect", "_receive"])
def test_exception_in_a_stage_is_silence(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bridge() as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.OPEN))
        bridge.do(Connect(seq=2, source=1, destination=1, mask=MaskMode.COMFORT_NOISE))
        bridge.speak()

        def explode(*_: object) -> None:
            raise ZeroDivisionError("4111111111111111")

        with monkeypatch.context() as patch:
            patch.setattr(bridge.engine, stage, explode)
            events = bridge.speak(3)
            assert bridge.heard() == 0
        faults = of_type(events, LegFault)
        assert sorted(fault.leg for fault in faults) == [1, 2], "said once for each leg"
        assert not any("4111" in fault.reason for fault in faults)
        assert bridge.engine.faults == 3
        bridge.speak(4)
        assert bridge.heard() > 10_000, "what was open is heard again"
        assert not bridge.engine.sent_pcm(1).any(), "what was masked stays silent"


def test_exception_while_sending_does_not_end_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bridge() as bridge:
        with monkeypatch.context() as patch:
            patch.setattr(bridge.engine.transmitter, "send", lambda *_: 1 / 0)
            bridge.speak(2)
        assert bridge.engine.faults == 2
        bridge.speak(2)
        assert bridge.engine.packets_sent > 0


def test_idle_leg_sends_silence_every_tick() -> None:
    with Bridge() as bridge:
        run(5, bridge.engine)
        packets = [bridge.operator.recv(2048) for _ in range(5)]
        assert {len(p) for p in packets} == {172}
        assert {p[1] for p in packets} == {8}
        assert {p[12:] for p in packets} == {b"\xd5" * 160}
        stamps = [int.from_bytes(p[4:8], "big") for p in packets]
        assert {(b - a) % 2**32 for a, b in itertools.pairwise(stamps)} == {160}
        numbers = [int.from_bytes(p[2:4], "big") for p in packets]
        assert {(b - a) % 2**16 for a, b in itertools.pairwise(numbers)} == {1}


@pytest.mark.parametrize(
    ("direction", "sends", "listens"),
    [
        (Direction.SENDRECV, True, True),
        (Direction.SENDONLY, True, False),
        (Direction.RECVONLY, False, True),
        (Direction.INACTIVE, False, False),
    ],
)
def test_directions(direction: Direction, sends: bool, listens: bool) -> None:
    with Bridge() as bridge:
        leg = bridge.engine.legs[1]
        bridge.do(UpdateLeg(seq=1, leg=1, codec=Codec.PCMU, remote=leg.remote, direction=direction))
        bridge.speak()
        assert bool(bridge.engine.received_pcm(1).any()) is listens
        try:
            sent = bool(bridge.customer.recv(2048))
        except BlockingIOError:
            sent = False
        assert sent is sends


def test_port_sharing_rules() -> None:
    with Bridge() as bridge:
        customer = remote_of(bridge.customer)
        assert isinstance(add(bridge.engine, 3, customer), Refused)
        assert isinstance(add(bridge.engine, 3, Remote("127.0.0.1", 9), symmetric=True), Acknowledged)
        assert isinstance(add(bridge.engine, 4, None), Refused)
        assert isinstance(add(bridge.engine, 4, Remote("127.0.0.1", 10), symmetric=True), Refused)
        assert isinstance(add(bridge.engine, 4, Remote("127.0.0.1", 10)), Acknowledged)
        bridge.do(RemoveLeg(seq=1, leg=3))
        assert isinstance(add(bridge.engine, 5, None), Acknowledged)


@pytest.mark.parametrize(
    "changes",
    [
        {"remote": Remote("example.org", 5)},
        {"remote": Remote("127.0.0.1", 0)},
        {"remote": Remote("127.0.0.1", 70000)},
        {"socket": 1},
        {"socket": -1},
        {"leg": 1},
        {"event_payload_type": 0},
    ],
)
def test_bad_legs_are_refused_and_change_nothing(changes: dict[str, object]) -> None:
    with Bridge() as bridge:
        before = len(bridge.engine.legs)
        remote = changes.pop("remote", Remote("127.0.0.1", 77))
        assert isinstance(add(bridge.engine, changes.pop("leg", 3), remote, **changes), Refused)  # type: ignore[arg-type]
        assert len(bridge.engine.legs) == before
        assert isinstance(add(bridge.engine, 3, Remote("127.0.0.1", 77)), Acknowledged)


def test_unknown_legs_and_prompts_are_refused() -> None:
    with Bridge() as bridge:
        for command in (
            RemoveLeg(seq=1, leg=9),
            Connect(seq=1, source=1, destination=9),
            SetMask(seq=1, source=1, destination=2, mask=MaskMode.OPEN),
            Play(seq=1, leg=1, playlist=1, prompts=(5,)),
            UnloadPrompt(seq=1, prompt=5),
            LoadPrompt(seq=1, prompt=5, path="/nowhere"),
            SendKey(seq=1, leg=1, key=16),
            StopPlaying(seq=1, leg=9),
            QueryStatistics(seq=1, leg=9),
        ):
            assert isinstance(bridge.do(command)[0], Refused), command


def test_prompt_and_barge_in(tmp_path: Path) -> None:
    with loopback_pair() as (telephone, switch):
        file = tmp_path / "prompt.raw"
        file.write_bytes(np.full(16000, 5000, "<i2").tobytes())
        assert switch.execute(LoadPrompt(seq=1, prompt=1, path=str(file))) == [Acknowledged(seq=1)]
        switch.execute(Play(seq=2, leg=1, playlist=3, prompts=(1,), barge_in=True))
        assert isinstance(switch.execute(UnloadPrompt(seq=3, prompt=1))[0], Refused)
        events = run(5, telephone, switch)
        assert telephone.received_pcm(1).max() > 4000
        telephone.execute(SendKey(seq=1, leg=1, key=2))
        events += run(10, telephone, switch)
        assert of_type(events, PlayFinished) == [PlayFinished(leg=1, playlist=3, interrupted=True)]
        assert not switch.sent_pcm(1).any()
        assert switch.execute(UnloadPrompt(seq=3, prompt=1)) == [Acknowledged(seq=3)]


def test_removed_leg_leaves_nothing() -> None:
    with Bridge() as bridge:
        bridge.engine.load_prompt(1, np.full(8000, 77, np.int16))
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.OPEN))
        bridge.do(Play(seq=1, leg=1, playlist=4, prompts=(1,)))
        bridge.engine.queue_audio(2, np.full(8000, 99, np.int16))
        bridge.speak()
        answer = bridge.do(RemoveLeg(seq=5, leg=1))
        assert PlayFinished(leg=1, playlist=4, interrupted=True) in answer
        bridge.do(RemoveLeg(seq=6, leg=2))
        bridge.engine.tick()
        engine = bridge.engine
        assert len(engine.legs) == 0
        assert len(engine.connections) == 0
        assert engine.legs.rows.high == 0
        for audio in (
            engine._pcm,
            engine._previous,
            engine._out,
            engine._detector.history,
            engine.streams.ring.codes,
            engine._receiver.batch.slots,
            engine.transmitter._packets[:, 12:],
        ):
            assert not audio.any()


def test_legs_that_come_and_go_do_not_disturb_others() -> None:
    with Bridge(capacity=300) as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.OPEN))
        bridge.speak()
        for first in range(3, 300, 33):
            legs = range(first, min(first + 33, 300))
            for leg in legs:
                assert isinstance(add(bridge.engine, leg, Remote("127.0.0.1", 20000 + leg)), Acknowledged)
            bridge.speak(1)
            assert bridge.heard() > 10_000
        for leg in range(3, 300):
            bridge.do(RemoveLeg(seq=1, leg=leg))
            if leg % 40 == 0:
                bridge.speak(1)
                assert bridge.heard() > 10_000
        assert bridge.engine.leg_statistics(bridge.engine.legs[1]).packets_lost == 0
        packets = [bridge.operator.recv(2048) for _ in range(bridge.engine.ticks)]
        numbers = [int.from_bytes(p[2:4], "big") for p in packets]
        stamps = [int.from_bytes(p[4:8], "big") for p in packets]
        assert {(b - a) % 2**16 for a, b in itertools.pairwise(numbers)} == {1}, (
            "no packet of it was left out"
        )
        assert {(b - a) % 2**32 for a, b in itertools.pairwise(stamps)} == {160}


def test_legs_beyond_the_capacity_are_refused() -> None:
    with Bridge() as bridge:
        for leg in (3, 4):
            assert isinstance(add(bridge.engine, leg, Remote("127.0.0.1", 20000 + leg)), Acknowledged)
        assert isinstance(add(bridge.engine, 5, Remote("127.0.0.1", 20005)), Refused)
        bridge.do(RemoveLeg(seq=1, leg=3))
        assert isinstance(add(bridge.engine, 5, Remote("127.0.0.1", 20005)), Acknowledged)


def test_statistics_of_all_legs_come_a_few_a_tick() -> None:
    with Bridge(capacity=200) as bridge:
        for leg in range(3, 200):
            add(bridge.engine, leg, Remote("127.0.0.1", 20000 + leg))
        assert bridge.do(QueryStatistics(seq=7)) == [Acknowledged(seq=7)]
        bridge.do(RemoveLeg(seq=8, leg=150))
        told = [len(of_type(bridge.engine.tick(), LegStatistics)) for _ in range(10)]
        assert sum(told) == 198
        assert max(told) < 60
        assert told[-1] == 0


def test_what_waits_at_an_idle_socket_is_read_and_gone() -> None:
    """The leg that uses the socket one day is not to find what strangers sent there before."""
    with udp_socket() as busy, udp_socket() as idle, udp_socket() as other, udp_socket() as stranger:
        switch = Engine([busy, idle, other], capacity=4)
        add(switch, 1, Remote("127.0.0.1", 9))
        for sock in (idle, other):
            stranger.sendto(header(0, 0, 0, 1) + bytes(160), sock.getsockname())
        run(4, switch)
        assert switch.packets_received == 2
        for sock in (idle, other):
            with pytest.raises(BlockingIOError):
                sock.recv(2048)


def test_row_that_goes_to_another_socket_at_once_sends_from_there() -> None:
    """A leg goes and another takes its row between two ticks: its packets are whole and only its own."""
    with udp_socket() as first, udp_socket() as second, udp_socket() as one, udp_socket() as two:
        switch = Engine([first, second], capacity=1)
        for number in range(6):
            add(switch, number, remote_of(one if number % 2 else two), socket=number % 2)
            run(3, switch)
            peer = one if number % 2 else two
            packets = [peer.recvfrom(2048) for _ in range(3)]
            with pytest.raises(BlockingIOError):
                peer.recv(2048)
            assert {source for _, source in packets} == {(second if number % 2 else first).getsockname()}
            numbers = [int.from_bytes(packet[2:4], "big") for packet, _ in packets]
            assert {(b - a) % 2**16 for a, b in itertools.pairwise(numbers)} == {1}
            switch.execute(RemoveLeg(seq=1, leg=number))


def test_timeout_is_said_once_until_packets_come() -> None:
    with Bridge(timeout_s=0.4) as bridge:
        silent = of_type(run(60, bridge.engine), RTPTimeout)
        assert sorted(event.leg for event in silent) == [1, 2]
        bridge.speak(11)
        assert [event.leg for event in of_type(run(40, bridge.engine), RTPTimeout)] == [1]


def test_ipv6() -> None:
    try:
        ours, peer = udp_socket(socket.AF_INET6), udp_socket(socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with ours, peer:
        switch = Engine([ours], capacity=4)
        assert isinstance(add(switch, 1, remote_of(peer)), Acknowledged)
        for n in range(6):
            peer.sendto(header(0, n, n * 160, 9) + bytes([0x85] * 160), ours.getsockname())
            switch.tick()
        assert switch.received_pcm(1).any()
        assert len(peer.recv(2048)) == 172


def test_thousands_of_hostile_packets_disturb_no_one() -> None:
    rng = np.random.default_rng(11)
    with Bridge() as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.OPEN))
        to = bridge.ours.getsockname()
        for _ in range(40):
            for _ in range(50):
                packet = bytearray(rng.integers(0, 256, int(rng.integers(0, 300)), np.uint8).tobytes())
                if packet:
                    packet[0] = 0x80 | packet[0] & 0x3F
                bridge.operator.sendto(packet, to)
            bridge.speak(1)
            if bridge.engine.ticks > 5:
                assert bridge.heard() > 10_000
        assert bridge.engine.faults == 0
        assert bridge.engine.leg_statistics(bridge.engine.legs[1]).packets_lost == 0


def test_command_that_explodes_is_refused_and_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bridge() as bridge:
        bridge.do(Connect(seq=1, source=1, destination=2, mask=MaskMode.COMFORT_NOISE))
        monkeypatch.setattr(bridge.engine.players, "stop", lambda *_: 1 / 0)
        answer = bridge.do(StopPlaying(seq=7, leg=1))
        assert isinstance(answer[0], Refused)
        assert len(of_type(answer, LegFault)) == 2
        bridge.speak()
        assert bridge.heard() == 0


def test_one_press_by_both_ways_is_one_key_on_a_bad_network() -> None:
    """Loss of 5 % and 60 ms of jitter: depth moves, starts are lost, and neither way counts a press twice."""
    from media.dsp.g711 import ENCODE

    rng = np.random.default_rng(12)
    keys = [int(key) for key in rng.integers(0, 12, 40)]
    parts = [np.concatenate((tones.dtmf_tone(key, 100), tones.silence(140))) for key in keys]
    codes = ENCODE[0][np.concatenate(parts).view(np.uint16)].reshape(-1, 160)
    arriving: dict[int, list[bytes]] = {}
    sequence = 0
    for tick, frame in enumerate(codes):
        made = [header(0, sequence, tick * 160, 5) + frame.tobytes()]
        sequence += 1
        within = tick % 12
        if within < 7:
            end, duration = within >= 4, min(within + 1, 5) * 160
            payload = bytes((keys[tick // 12], 0x8A if end else 0x0A)) + duration.to_bytes(2, "big")
            made.append(header(101, sequence, (tick - within) * 160, 5, marker=within == 0) + payload)
            sequence += 1
        for packet in made:
            if tick == 0 or rng.random() >= 0.05:
                arriving.setdefault(tick + int(rng.integers(0, 4)), []).append(packet)
    with udp_socket() as peer, udp_socket() as ours:
        switch = Engine([ours], capacity=8)
        add(switch, 1, remote_of(peer), comfort_noise=True)
        events = []
        for tick in range(len(codes) + 20):
            for packet in arriving.get(tick, []):
                peer.sendto(packet, ours.getsockname())
            events += switch.tick()
        assert keys_of(events) == keys
        statistics = switch.leg_statistics(switch.legs[1])
        assert statistics.keys_inband == statistics.keys_rfc4733 == len(keys)
        assert statistics.packets_lost > 0
        assert statistics.frames_concealed > 0
        assert statistics.resyncs == 0
        assert 20 <= statistics.buffer_ms <= 200
        assert 10 < statistics.jitter_ms < 40
