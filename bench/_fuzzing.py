"""Mutated packets against a worker's legs while two victims talk on its sockets.

`Attack` works in steps of 20 ms on any `Subject`: a live worker in real time, or an engine in this process in
lock-step, where nothing depends on the machine and an exception shows its traceback. The same seed makes the same
packets for both.

The targets are legs of every kind (plain, with rtcp-mux, with RTCP beside, with each SRTP suite, symmetric), on the
victims' sockets and on others. Packets come from the targets' own addresses and from two that belong to no leg; some
of the latter bear the very header that a victim will send next.
"""

from __future__ import annotations

import collections
import dataclasses
import random
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bench._mutations import EVENT_TYPE, Forged, Forger
from bench._victims import Victim
from bench._worker import open_sockets
from media.protocol import (
    AddLeg,
    AnyCommand,
    Codec,
    Connect,
    CryptoSuite,
    MaskMode,
    Remote,
    SRTPKeys,
)

WORKER_SOCKETS: Final = 4
CORPUS: Final = Path(__file__).parents[1] / "tests" / "vectors"
_STRANGERS: Final = 2
_QUIET_STEPS: Final = 25
_REMEMBERED_STEPS: Final = 3
#: When this process itself was so late, victims spoke late: their frames around it are no evidence.
_LATE_S: Final = 0.01
_EXCUSED_BEFORE: Final = 5
_EXCUSED_AFTER: Final = 25
#: Share of packets that come from addresses that belong to no leg.
_STRANGE: Final = 0.2
#: Bytes that a datagram of ours takes in a socket's buffer, and how much of the buffer may be filled in a step.
_TRUE_SIZE: Final = 2_304
_FILLED: Final = 0.33


class Health(NamedTuple):
    """What a subject says of itself."""

    faults: int
    overflows: int
    received: int
    late_ticks: int


class Subject(Protocol):
    """What is attacked."""

    def command(self, commands: Sequence[AnyCommand]) -> int:
        """Carries out commands; says how many were refused."""

    def step(self) -> float:
        """Lets 20 ms pass; says how much later than it should it did, seconds."""

    def health(self) -> Health:
        """How it is. Raises `RuntimeError` when it is no more."""

    def faulted(self) -> bool:
        """Whether it has complained since it was last asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    source: socket.socket
    reports: socket.socket
    """Where its RTCP comes from: the same socket with rtcp-mux."""
    worker: int
    forger: Forger


class Attack:
    """One run.

    Args:
        subject: what is attacked; it has been made with `worker_sockets`.
        worker_sockets: the subject's RTP sockets.
        report_sockets: the subject's RTCP sockets beside them, or none.
        seed: of everything.
    """

    def __init__(
        self,
        subject: Subject,
        worker_sockets: Sequence[socket.socket],
        report_sockets: Sequence[socket.socket],
        seed: int,
    ) -> None:
        self._subject = subject
        self._rng = random.Random(seed)
        self._addresses = [sock.getsockname() for sock in worker_sockets]
        self._report_addresses = [sock.getsockname() for sock in report_sockets]
        self._sockets = open_sockets(2)
        self.victims = [Victim(self._sockets[at], self._addresses[at], at, seed) for at in range(2)]
        self._strangers = open_sockets(_STRANGERS)
        self._sockets += self._strangers
        self.corpus = corpus()
        self._targets: list[_Target] = []
        self._excused: set[int] = set()
        self._late_steps = 0
        self._recent: collections.deque[list[bytes]] = collections.deque(maxlen=_REMEMBERED_STEPS)
        self.suspects: list[bytes] = []
        self.sent = {"rtp": 0, "rtcp": 0, "foreign": 0, "forged": 0, "not_sent": 0}
        self.refused = self._set_up()
        buffers = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in worker_sockets]
        self.most_per_step = int(min(buffers) / _TRUE_SIZE * _FILLED)

    def close(self) -> None:
        """Closes the attack's sockets."""
        for sock in self._sockets:
            sock.close()

    def _set_up(self) -> int:
        rng = self._rng
        commands: list[AnyCommand] = [
            AddLeg(seq=0, leg=at, socket=at, codec=Codec.PCMU, remote=_remote(victim.socket))
            for at, victim in enumerate(self.victims)
        ]
        commands += [Connect(seq=0, source=at, destination=1 - at, mask=MaskMode.OPEN) for at in range(2)]
        if refused := self._subject.command(commands):
            raise RuntimeError(f"{refused} of the victims' commands refused")
        kinds: list[dict[str, Any]] = [
            {"codec": Codec.PCMU, "comfort_noise": True},
            {"codec": Codec.PCMA, "rtcp_mux": True},
            {"codec": Codec.PCMU, "rtcp": True},
            {"codec": Codec.PCMA, "rtcp": True},
            *({"codec": Codec.PCMU, "rtcp_mux": True, "srtp": _keys(suite, rng)} for suite in CryptoSuite),
            {"codec": Codec.PCMU, "rtcp": True, "srtp": _keys(CryptoSuite.AES_CM_128_HMAC_SHA1_80, rng)},
            {"codec": Codec.PCMU, "symmetric": True, "comfort_noise": True},
            {"codec": Codec.PCMU, "symmetric": True, "rtcp_mux": True},
        ]
        commands = []
        for at, kind in enumerate(kinds):
            sock, beside = open_sockets(2)
            self._sockets += [sock, beside]
            reports = sock if kind.get("rtcp_mux") else beside
            reporting = kind.get("rtcp") or kind.get("rtcp_mux")
            remotes = {"remote": _remote(sock), "rtcp": _remote(reports) if reporting else None}
            index = at % WORKER_SOCKETS
            commands.append(
                AddLeg(seq=0, leg=at + 2, socket=index, event_payload_type=EVENT_TYPE, **(kind | remotes))
            )
            forger = Forger(
                random.Random(rng.getrandbits(64)),
                int(kind["codec"]),
                [victim.ssrc for victim in self.victims],
                self.corpus,
                kind.get("srtp"),
            )
            self._targets.append(_Target(sock, reports, index, forger))
        modes = (MaskMode.OPEN, MaskMode.COMFORT_NOISE)
        commands += [
            Connect(seq=0, source=at + 2, destination=(at ^ 1) + 2, mask=modes[at // 2 % 2])
            for at in range(len(kinds))
        ]
        return self._subject.command(commands)

    def run(self, packets: int, per_step: int, tell: Callable[[int], None]) -> dict[str, Any]:
        """Sends so many packets and says what came of it.

        Args:
            packets: how many.
            per_step: in 20 ms.
            tell: is called now and then with how many have gone.
        """
        before = self._subject.health()
        for _ in range(_QUIET_STEPS):
            self._step([])
        done = 0
        per_step = max(1, min(per_step, self.most_per_step))
        while done < packets:
            count = min(per_step, packets - done)
            self._step([self._forge() for _ in range(count)])
            done += count
            if self._subject.faulted() and not self.suspects:
                self.suspects = [packet for step in self._recent for packet in step]
            if done // per_step % 250 == 0:
                tell(done)
        for _ in range(_QUIET_STEPS):
            self._step([])
        after = self._subject.health()
        return {
            "packets": done,
            "per_step": per_step,
            **self.sent,
            "refused_legs": self.refused,
            "faults": after.faults - before.faults,
            "socket_overflows": after.overflows - before.overflows,
            "received": after.received - before.received,
            "late_steps": self._late_steps,
            "late_ticks": after.late_ticks - before.late_ticks,
            "victims": [self.victims[at].account(self.victims[1 - at], self._excused) for at in range(2)],
        }

    def _forge(self) -> tuple[socket.socket, tuple[str, int], bytes]:
        rng = self._rng
        target = rng.choice(self._targets)
        if rng.random() < 0.02:
            victim = rng.choice(self.victims)
            self.sent["forged"] += 1
            packet = victim.next_header() + rng.randbytes(160)
            return rng.choice(self._strangers), victim.worker, packet
        forged = target.forger.packet()
        self.sent["rtcp" if forged.report else "rtp"] += 1
        place = self._place(target, forged)
        if rng.random() < _STRANGE:
            self.sent["foreign"] += 1
            anywhere = rng.choice((place, *self._addresses, *self._report_addresses))
            return rng.choice(self._strangers), anywhere, forged.packet
        return target.reports if forged.report else target.source, place, forged.packet

    def _place(self, target: _Target, forged: Forged) -> tuple[str, int]:
        beside = forged.report and target.reports is not target.source and self._report_addresses
        address: tuple[str, int] = (self._report_addresses if beside else self._addresses)[target.worker]
        return address

    def _step(self, forged: list[tuple[socket.socket, tuple[str, int], bytes]]) -> None:
        """The victims speak in the midst of the attack, at another place in each step."""
        turns = sorted(self._rng.randrange(len(forged) + 1) for _ in self.victims)
        for at, (source, place, packet) in enumerate(forged):
            for victim, turn in zip(self.victims, turns, strict=True):
                if turn == at:
                    victim.speak()
            try:
                source.sendto(packet, place)
            except OSError:
                self.sent["not_sent"] += 1
        for victim, turn in zip(self.victims, turns, strict=True):
            if turn == len(forged):
                victim.speak()
        self._recent.append([packet for _, _, packet in forged])
        if self._subject.step() > _LATE_S:
            self._late_steps += 1
            said = self.victims[0].said
            self._excused.update(range(said - _EXCUSED_BEFORE, said + _EXCUSED_AFTER))
        for victim in self.victims:
            victim.listen()
        for target in self._targets:
            for packet in _received(target.source):
                target.forger.hear(packet)
        for sock in self._sockets[2:]:
            _received(sock)


def _remote(sock: socket.socket) -> Remote:
    return Remote(*sock.getsockname()[:2])


def _keys(suite: CryptoSuite, rng: random.Random) -> SRTPKeys:
    size = 28 if suite is CryptoSuite.AEAD_AES_128_GCM else 30
    return SRTPKeys(suite, send=rng.randbytes(size), receive=rng.randbytes(size))


def _received(sock: socket.socket) -> list[bytes]:
    packets: list[bytes] = []
    while True:
        try:
            packets.append(sock.recv(2048))
        except BlockingIOError:
            return packets
        except ConnectionRefusedError:
            continue


def corpus() -> list[bytes]:
    """The packets of `tests/vectors`; none where there are no tests."""
    return [path.read_bytes() for path in sorted(CORPUS.rglob("*.bin"))]
