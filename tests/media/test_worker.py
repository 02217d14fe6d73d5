"""A worker as a real process over its control socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from media.dsp import tones
from media.engine import Engine
from media.protocol import (
    PROTOCOL_VERSION,
    Acknowledged,
    AddLeg,
    Codec,
    Connect,
    EventBatch,
    KeyPressed,
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
    SetMask,
    Shutdown,
    SourceLatched,
    WorkerStatistics,
    encode_commands,
)
from media.rtp import rtcp
from media.rtp.packet import header
from media.worker import EXIT_CONTROL_CLOSED
from tests.media.support import WorkerProcess, add, of_type, remote_of, udp_socket


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened = [udp_socket() for _ in range(2)]
    yield opened
    for sock in opened:
        sock.close()


@pytest.fixture
def worker(tmp_path: Path, sockets: list[socket.socket]) -> Iterator[WorkerProcess]:
    process = WorkerProcess(tmp_path, sockets[:1])
    yield process
    process.close()


def speak(engine: Engine, worker: WorkerProcess, ticks: int) -> None:
    """Runs a telephone in real time until its audio has been said."""
    deadline = time.monotonic()
    for _ in range(ticks):
        engine.tick()
        deadline += 0.02
        worker.next_batch(max(0.0, deadline - time.monotonic()))
        time.sleep(max(0.0, deadline - time.monotonic()))


def test_hello_names_sockets(worker: WorkerProcess, sockets: list[socket.socket]) -> None:
    assert worker.hello.version == PROTOCOL_VERSION
    assert worker.hello.sockets == (remote_of(sockets[0]),)
    assert worker.hello.pid == worker.process.pid


def test_call_keys_prompt_and_statistics(
    worker: WorkerProcess, sockets: list[socket.socket], tmp_path: Path
) -> None:
    mine, theirs = remote_of(sockets[0]), remote_of(sockets[1])
    answer = worker.command(
        AddLeg(seq=0, leg=5, socket=0, codec=Codec.PCMA, remote=theirs, event_payload_type=101)
    )
    assert isinstance(answer, Acknowledged)
    prompt = tmp_path / "prompt.raw"
    prompt.write_bytes(tones.dtmf_tone(5, 100).tobytes())
    assert isinstance(worker.command(LoadPrompt(seq=0, prompt=1, path=str(prompt))), Acknowledged)
    telephone = Engine([sockets[1]], capacity=8)
    add(telephone, 1, mine, codec=Codec.PCMA)
    telephone.queue_audio(1, tones.key_sequence([4, 2, 10], 60, 60))
    worker.command(Play(seq=0, leg=5, playlist=9, prompts=(1,)))
    speak(telephone, worker, 25)
    worker.wait_for(lambda e: isinstance(e, PlayFinished) and e.playlist == 9 and not e.interrupted)
    worker.wait_for(lambda e: isinstance(e, KeyPressed) and e.key == 10)
    assert [e.key for e in of_type(worker.events, KeyPressed)] == [4, 2, 10]
    worker.command(QueryStatistics(seq=0))
    statistics = worker.wait_for(lambda e: isinstance(e, WorkerStatistics))
    assert isinstance(statistics, WorkerStatistics)
    assert statistics.legs == 1
    assert statistics.faults == 0
    assert statistics.packets_received >= 25
    assert isinstance(worker.command(RemoveLeg(seq=0, leg=5)), Acknowledged)
    assert isinstance(worker.command(RemoveLeg(seq=0, leg=5)), Refused)


def test_masks_are_acknowledged(worker: WorkerProcess, sockets: list[socket.socket]) -> None:
    for leg, remote in ((1, remote_of(sockets[1])), (2, None)):
        worker.command(AddLeg(seq=0, leg=leg, socket=0, codec=Codec.PCMU, remote=remote))
    assert isinstance(worker.command(Connect(seq=0, source=1, destination=2)), Acknowledged)
    worker.command(SetMask(seq=0, source=1, destination=2, mask=MaskMode.OPEN))
    applied = worker.wait_for(lambda e: isinstance(e, MaskApplied))
    assert isinstance(applied, MaskApplied)
    assert applied.mask is MaskMode.OPEN


def dscp_of(sock: socket.socket) -> int:
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) >> 2
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2


@pytest.mark.parametrize(("options", "dscp"), [((), 46), (("--dscp", "34"), 34), (("--dscp", "0"), 0)])
def test_packets_go_out_with_their_dscp(tmp_path: Path, options: tuple[str, ...], dscp: int) -> None:
    with udp_socket() as four, udp_socket(socket.AF_INET6) as six:
        process = WorkerProcess(tmp_path, [four, six], *options)
        try:
            # Socket options belong to the open file, which the worker shares with us.
            assert [dscp_of(four), dscp_of(six)] == [dscp, dscp]
        finally:
            process.close()


@pytest.mark.parametrize("symmetric", [False, True])
def test_probes_of_a_running_worker_get_nothing(
    worker: WorkerProcess, sockets: list[socket.socket], symmetric: bool
) -> None:
    peer, stranger = sockets[1], socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        stranger.bind(("127.0.0.9", 0))
        stranger.setblocking(False)
        worker.command(
            AddLeg(
                seq=0,
                leg=1,
                socket=0,
                codec=Codec.PCMU,
                remote=Remote("192.0.2.1", 4000) if symmetric else remote_of(peer),
                event_payload_type=101,
                symmetric=symmetric,
                signalled="127.0.0.1",
            )
        )
        probe(stranger, sockets[0], 0)
        telephone = Engine([peer], capacity=8)
        add(telephone, 1, remote_of(sockets[0]))
        speak(telephone, worker, 10)
        if symmetric:
            worker.wait_for(lambda e: isinstance(e, SourceLatched))
        probe(stranger, sockets[0], 200)
        speak(telephone, worker, 10)
        worker.command(QueryStatistics(seq=0))
        leg = worker.wait_for(lambda e: isinstance(e, LegStatistics))
        assert isinstance(leg, LegStatistics)
        # Those that proved a source are not played: two, and what a slow tick took in together with the second.
        proving = leg.packets_foreign - 400
        assert 2 <= proving < 10 if symmetric else proving == 0
        assert leg.packets_refused == leg.keys_rfc4733 == 0
        assert leg.packets_received > 10
        assert [e.remote for e in of_type(worker.events, SourceLatched)] == [remote_of(peer)] * symmetric
        assert not of_type(worker.events, KeyPressed)
        assert telephone.packets_received > 0, "the peer is sent what is his"
        with pytest.raises(BlockingIOError):
            stranger.recv(2048)


def probe(stranger: socket.socket, target: socket.socket, first: int) -> None:
    """A perfect stream of speech and keys, as fast as it goes."""
    for n in range(first, first + 100):
        stranger.sendto(header(0, 2 * n, n * 160, 666) + bytes(160), target.getsockname())
        stranger.sendto(header(101, 2 * n + 1, n * 160, 666) + bytes((5, 0x8A, 3, 32)), target.getsockname())


def test_control_side_gone_ends_the_worker(worker: WorkerProcess, sockets: list[socket.socket]) -> None:
    worker.command(AddLeg(seq=0, leg=1, socket=0, codec=Codec.PCMU, remote=remote_of(sockets[1])))
    worker.control.close()
    assert worker.process.wait(5) == EXIT_CONTROL_CLOSED


def test_shutdown_is_acknowledged(worker: WorkerProcess) -> None:
    assert isinstance(worker.command(Shutdown(seq=0)), Acknowledged)
    assert worker.process.wait(5) == 0


def test_malformed_message_does_not_end_it(worker: WorkerProcess) -> None:
    worker.control.send(b"\xc1not a batch")
    worker.control.send(encode_commands([]))
    worker.command(QueryStatistics(seq=0))


def test_refused_command_does_not_stop_those_behind(worker: WorkerProcess) -> None:
    batch = [RemoveLeg(seq=101, leg=77), QueryStatistics(seq=102)]
    worker.control.send(encode_commands(batch))
    worker.wait_for(lambda e: isinstance(e, Refused) and e.seq == 101)
    worker.wait_for(lambda e: isinstance(e, Acknowledged) and e.seq == 102)


def test_process_is_not_dumpable(worker: WorkerProcess) -> None:
    limits = Path(f"/proc/{worker.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_events_flow_in_one_message_a_tick(worker: WorkerProcess) -> None:
    """However many there are, and however many ticks their commands take."""
    worker.control.send(encode_commands([QueryStatistics(seq=seq) for seq in range(50)]))
    batches: list[EventBatch] = []
    while sum(len(batch.events) for batch in batches) < 100:
        batch = worker.next_batch()
        assert batch is not None
        batches.append(batch)
    ticks = [batch.tick for batch in batches]
    assert ticks == sorted(set(ticks))
    answers = [event for batch in batches for event in of_type(batch.events, Acknowledged)]
    assert [answer.seq for answer in answers] == list(range(50))


def test_received_audio_is_seen(worker: WorkerProcess, sockets: list[socket.socket]) -> None:
    worker.command(AddLeg(seq=0, leg=1, socket=0, codec=Codec.PCMU, remote=remote_of(sockets[1])))
    telephone = Engine([sockets[1]], capacity=8)
    add(telephone, 1, remote_of(sockets[0]))
    speak(telephone, worker, 5)
    assert not np.any(telephone.received_pcm(1)), "an idle leg sends silence"
    assert telephone.packets_received > 0


def test_a_worker_reports_on_the_port_beside_its_rtp(tmp_path: Path, sockets: list[socket.socket]) -> None:
    """RTCP in real time, with the kernel's own time of arrival."""
    with udp_socket() as ours, udp_socket() as peer:
        peer.settimeout(20)
        worker = WorkerProcess(tmp_path, sockets[:1], report_sockets=[ours])
        try:
            command = AddLeg(seq=0, leg=1, socket=0, codec=Codec.PCMU, remote=remote_of(sockets[1]))
            command = msgspec.structs.replace(command, rtcp=remote_of(peer))
            assert isinstance(worker.command(command), Acknowledged)
            first = rtcp.parse(peer.recv(2048))
            assert first is not None and first.sender is not None and first.cname is not None
            # Answered at once: what is left of the round trip is this machine's own.
            block = rtcp.ReportBlock(first.ssrc, 0, 4, 9, 16, rtcp.middle(first.sender.ntp), 0)
            answer = rtcp.report(7, None, block, rtcp.source_items(7, b"peer"))
            peer.sendto(answer, ours.getsockname())
            figures: LegStatistics | None = None
            end = time.monotonic() + 20
            while (figures is None or figures.remote_lost is None) and time.monotonic() < end:
                worker.events.clear()
                worker.command(QueryStatistics(seq=0, leg=1))
                found = worker.wait_for(lambda event: isinstance(event, LegStatistics))
                assert isinstance(found, LegStatistics)
                figures = found
            assert figures is not None
            assert (figures.remote_lost, figures.remote_jitter_ms) == (4, 2.0)
            assert figures.round_trip_ms is not None and 0 <= figures.round_trip_ms < 10_000
            worker.command(QueryStatistics(seq=0, leg=1))
            worker.wait_for(lambda event: isinstance(event, WorkerStatistics) and event.reports_received == 1)
            assert isinstance(worker.command(RemoveLeg(seq=0, leg=1)), Acknowledged)
            goodbyes: tuple[int, ...] = ()
            while not goodbyes:
                last = rtcp.parse(peer.recv(2048))
                assert last is not None
                goodbyes = last.goodbyes
            assert goodbyes == (first.ssrc,)
        finally:
            worker.close()
