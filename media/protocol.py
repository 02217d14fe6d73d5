"""Commands to a media worker and events from it: the only module of `media` that `sipivr` imports.

One message is one MessagePack document in one packet of a named SOCK_SEQPACKET socket on which `sipivr`
listens (mode 0600, peer credentials checked) and to which each worker connects. The worker says `Hello`
first; after that it sends at most one `EventBatch` a tick, and `sipivr` sends `CommandBatch` messages.

Legs are numbers that `sipivr` hands out and never uses twice in the life of a worker. Keys cross this
pipe as telephone-event codes (RFC 4733 §3.2: 0–9, 10 = `*`, 11 = `#`, 12–15 = A–D), one at a time, in a
type whose repr shows none (PCI DSS 3.3.1).

Ownership: `sipivr` decides, the worker obeys and acknowledges. When the socket closes, the worker silences
every leg in that tick and drops them all.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 4

#: Largest message either side may send, bytes. Well under the ~213 kB that a seqpacket socket takes.
MAX_MESSAGE_BYTES: Final = 65_536

SAMPLE_RATE_HZ: Final = 8_000
TICK_MS: Final = 20
FRAME_SAMPLES: Final = SAMPLE_RATE_HZ * TICK_MS // 1000

KEY_CHARACTERS: Final = "0123456789*#ABCD"


class Codec(enum.IntEnum):
    """G.711 laws by their static RTP payload types (RFC 3551 §6)."""

    PCMU = 0
    PCMA = 8


class MaskMode(enum.StrEnum):
    """What replaces the source's audio on one connection. `OPEN` is the absence of a mask.

    `DECOY` is for a three-way bridge (`Connect`): tones of our own that bury the source's keys there. Everywhere
    else it is silence.
    """

    OPEN = "open"
    SILENCE = "silence"
    COMFORT_NOISE = "comfort_noise"
    TONE = "tone"
    SCRAMBLE = "scramble"
    CLAMP = "clamp"
    DECOY = "decoy"


class KeyWay(enum.StrEnum):
    """How a key press reached us."""

    INBAND = "inband"
    RFC4733 = "rfc4733"
    INFO = "info"


class DTMFMode(enum.StrEnum):
    """Which ways of keys a leg listens to; `AUTO` takes all, one press one key, and learns (`media.keys`)."""

    AUTO = "auto"
    RFC4733 = "rfc4733"
    INBAND = "inband"
    INFO = "info"
    OFF = "off"


class Direction(enum.StrEnum):
    """RTP direction of a leg as we see it (RFC 3264): SENDONLY means that we send and do not listen."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


class CryptoSuite(enum.StrEnum):
    """SRTP transforms by their SDES names (RFC 4568 §6.2, RFC 7714 §14.2)."""

    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"


class SRTPKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Master key and salt, one after the other, for each direction (RFC 3711 §8.2; 30 bytes, GCM 28)."""

    suite: CryptoSuite
    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        """Shows the suite, never a key."""
        return f"SRTPKeys({self.suite.value})"


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands. `seq` comes back in `Acknowledged` or `Refused`, exactly once."""

    seq: int


class Remote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a leg's RTP goes to and must come from: a numeric IPv4 or IPv6 address and a UDP port."""

    address: str
    port: int


class AddLeg(Command, frozen=True, kw_only=True):
    """A new leg on one of the worker's sockets. `remote=None`: not known yet, nothing is sent or accepted.

    Two legs on one socket must differ in `remote`; the worker refuses otherwise (port-sharing rule one), and
    refuses a second leg with an unknown or symmetric, not yet latched source (rule two).

    `rtcp` is where reports go, None for nowhere; with `rtcp_mux` they share the RTP port both ways (RFC 5761).
    `comfort_noise`: the peer offered payload type 13, which may then mean silence (RFC 3389). With `srtp` the
    leg neither sends nor takes anything in clear. `ptime_ms` is that of what we send. `signalled` is
    the numeric address that the peer's SIP comes from: a symmetric leg believes it as it does SDP's. `source` is
    what `SourceLatched` said of a symmetric leg in a former worker: its source is known, and we send there.
    """

    leg: int
    socket: int
    codec: Codec
    remote: Remote | None
    event_payload_type: int | None = None
    ptime_ms: int = TICK_MS
    direction: Direction = Direction.SENDRECV
    symmetric: bool = False
    dtmf: DTMFMode = DTMFMode.AUTO
    rtcp: Remote | None = None
    rtcp_mux: bool = False
    comfort_noise: bool = False
    srtp: SRTPKeys | None = None
    signalled: str | None = None
    source: Remote | None = None


class UpdateLeg(Command, frozen=True, kw_only=True):
    """Replaces what was negotiated for a leg (re-INVITE, UPDATE). Masks, connections and playlist stay.

    Keys that are those of before continue their SRTP context; others start a new one. `socket`: the leg moves
    to another of the worker's sockets (its peer's new address stood on the old one already); None stays.
    """

    leg: int
    codec: Codec
    remote: Remote | None
    event_payload_type: int | None = None
    ptime_ms: int = TICK_MS
    direction: Direction = Direction.SENDRECV
    symmetric: bool = False
    dtmf: DTMFMode = DTMFMode.AUTO
    rtcp: Remote | None = None
    rtcp_mux: bool = False
    comfort_noise: bool = False
    srtp: SRTPKeys | None = None
    socket: int | None = None


class RemoveLeg(Command, frozen=True, kw_only=True):
    """Forgets a leg: its connections, playlist and audio history go with it and are overwritten."""

    leg: int


class Connect(Command, frozen=True, kw_only=True):
    """Source is heard at destination through `mask`. Several sources of one destination are mixed.

    `source == destination` is the three-way bridge of a transfer-in call: the leg's own audio is never
    returned to it, only the mask's own sound is played into the bridge, under any prompt.
    `beeps`: see `SetMask`.
    """

    source: int
    destination: int
    mask: MaskMode = MaskMode.SILENCE
    beeps: bool = False


class Disconnect(Command, frozen=True, kw_only=True):
    """Source is no longer heard at destination."""

    source: int
    destination: int


class SetMask(Command, frozen=True, kw_only=True):
    """Changes a connection's mask; effective from the next tick, answered by `MaskApplied`.

    `beeps`: whether `MaskMode.TONE` may tell that keys come; not during the security code. Setting the mode that
    is on already changes this alone.
    """

    source: int
    destination: int
    mask: MaskMode
    beeps: bool = False


class LoadPrompt(Command, frozen=True, kw_only=True):
    """Reads a prompt into memory: a headerless file of int16 little-endian samples at 8 kHz."""

    prompt: int
    path: str


class UnloadPrompt(Command, frozen=True, kw_only=True):
    """Forgets a prompt; refused while a playlist still holds it."""

    prompt: int


class Play(Command, frozen=True, kw_only=True):
    """Replaces the leg's playlist. Ends in exactly one `PlayFinished`, also when replaced or stopped.

    `barge_in`: the first key pressed on this leg stops the playlist in the worker, within one tick.
    `repeat`: starts over until stopped (the "please wait" tone).
    """

    leg: int
    playlist: int
    prompts: tuple[int, ...]
    barge_in: bool = False
    repeat: bool = False


class StopPlaying(Command, frozen=True, kw_only=True):
    """Stops the leg's playlist, if any."""

    leg: int


class SendKey(Command, frozen=True, kw_only=True):
    """Sends one key as telephone-event (RFC 4733 §2.5), queued behind the leg's earlier ones."""

    leg: int
    key: int
    duration_ms: int = 100


class HearKey(Command, frozen=True, kw_only=True):
    """A key of the leg's peer came by SIP INFO. Answered by `KeyPressed` if no other way has told it already."""

    leg: int
    key: int

    def __repr__(self) -> str:
        """Shows the leg, never the key."""
        return f"HearKey({self.leg})"


class QueryStatistics(Command, frozen=True, kw_only=True):
    """Asks for one `WorkerStatistics` and a `LegStatistics` for each leg (or for the one named).

    Without `legs` the worker speaks of itself alone: a question that costs next to nothing, by which `sipivr`
    knows that it lives.
    """

    leg: int | None = None
    legs: bool = True


class Shutdown(Command, frozen=True, kw_only=True):
    """Silences and drops all legs, then ends the process."""


AnyCommand = (
    AddLeg
    | UpdateLeg
    | RemoveLeg
    | Connect
    | Disconnect
    | SetMask
    | LoadPrompt
    | UnloadPrompt
    | Play
    | StopPlaying
    | SendKey
    | HearKey
    | QueryStatistics
    | Shutdown
)


class CommandBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Commands carried out in order, in one tick. A refused one does not stop those behind it."""

    commands: list[AnyCommand]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all events."""


class Acknowledged(Event, frozen=True, kw_only=True):
    """The command took effect in this tick."""

    seq: int


class Refused(Event, frozen=True, kw_only=True):
    """The command changed nothing; `reason` is a sentence for the log and never holds a key."""

    seq: int
    reason: str


class KeyPressed(Event, frozen=True, kw_only=True):
    """One key press of one leg, already deduplicated over all ways.

    `timestamp` is the RTP timestamp of the key's start on the leg's receive timeline (8 kHz); for INFO, which has none,
    that of what was heard when it came.
    """

    leg: int
    key: int
    way: KeyWay
    timestamp: int

    def __repr__(self) -> str:
        """Shows that a key came, never which (PCI DSS 3.3.1)."""
        return f"KeyPressed(leg={self.leg}, way={self.way.value})"


class MaskApplied(Event, frozen=True, kw_only=True):
    """From this tick on the connection carries `mask`."""

    seq: int
    source: int
    destination: int
    mask: MaskMode


class PlayFinished(Event, frozen=True, kw_only=True):
    """A playlist ended: played out (`interrupted` false), or cut by a key, another Play or a stop."""

    leg: int
    playlist: int
    interrupted: bool


class RTPTimeout(Event, frozen=True, kw_only=True):
    """No acceptable packet has come on this leg for `seconds`; said once until packets come again."""

    leg: int
    seconds: float


class SourceLatched(Event, frozen=True, kw_only=True):
    """A symmetric leg's real source is known and locked, or has moved as RTP allows it to.

    It is the remote of SDP where packets came from there, or where nobody else was found in time: then the leg
    waits no longer, and is as one without `symmetric`.
    """

    leg: int
    remote: Remote


class LegFault(Event, frozen=True, kw_only=True):
    """Something went wrong on a leg; what it hears of masked sources is silence from here on."""

    leg: int
    reason: str


class LegStatistics(Event, frozen=True, kw_only=True):
    """What the RTP layer counted for a leg since it was added.

    `packets_refused` were of the right source and no use (payload type, malformed); `packets_foreign` came to
    the leg's port from a source that is not the leg's while it was waiting or latched. `clock_ppm` is the
    peer's clock against ours. `round_trip_ms`, `remote_lost` and `remote_jitter_ms` are from the peer's
    reports (RFC 3550 §6.4), None before the first. `mos` (ITU-T G.107) rates what we hear, `remote_mos` what
    the peer hears. `keys_…` count each way's words, `keys_disagreed` those that the leg's own way (`keys_way`) did
    not bear out. `tone_…` are of keys in band, None before the first.
    """

    leg: int
    packets_received: int
    packets_sent: int
    packets_lost: int
    packets_late: int
    packets_refused: int
    jitter_ms: float
    keys_inband: int
    keys_rfc4733: int
    packets_duplicate: int = 0
    packets_foreign: int = 0
    srtp_failed: int = 0
    resyncs: int = 0
    frames_concealed: int = 0
    buffer_ms: float = 0.0
    clock_ppm: float = 0.0
    round_trip_ms: float | None = None
    remote_lost: int | None = None
    remote_jitter_ms: float | None = None
    mos: float | None = None
    remote_mos: float | None = None
    keys_info: int = 0
    keys_disagreed: int = 0
    keys_way: KeyWay | None = None
    tone_shortest_ms: float | None = None
    tone_softest_dbm0: float | None = None


class WorkerStatistics(Event, frozen=True, kw_only=True):
    """Counters of the worker since it started.

    `tick_cost_us` is the mean CPU time of a tick since the last query; `tick_late_p999_ms` covers the last
    8,192 ticks. `legs`, `prompts`, `playing` and `connections` are what it holds now. `packets_unknown` came
    from sources that are no leg's; `packets_late`, `_refused` and `_foreign` are those of all legs there ever
    were; `sources_latched` and `sources_moved` count what symmetric legs learnt and learnt anew. `reports_…` are
    RTCP's: refused ones were malformed, forged or too many, foreign ones came from no leg's source.
    """

    legs: int
    ticks: int
    late_ticks: int
    tick_cost_us: float
    packets_received: int
    packets_sent: int
    packets_unknown: int
    events_dropped: int
    tick_late_p999_ms: float = 0.0
    sends_failed: int = 0
    socket_overflows: int = 0
    faults: int = 0
    prompts: int = 0
    playing: int = 0
    connections: int = 0
    packets_late: int = 0
    packets_refused: int = 0
    packets_foreign: int = 0
    sources_latched: int = 0
    sources_moved: int = 0
    reports_sent: int = 0
    reports_received: int = 0
    reports_refused: int = 0
    reports_foreign: int = 0


AnyEvent = (
    Acknowledged
    | Refused
    | KeyPressed
    | MaskApplied
    | PlayFinished
    | RTPTimeout
    | SourceLatched
    | LegFault
    | LegStatistics
    | WorkerStatistics
)


class Hello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The worker's first message: who it is and the local addresses of its RTP sockets, by index."""

    version: int
    worker: int
    pid: int
    sockets: tuple[Remote, ...]


class EventBatch(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Everything that happened in one tick, in order."""

    tick: int
    events: list[AnyEvent]


_command_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(CommandBatch)
_event_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[Hello | EventBatch] = msgspec.msgpack.Decoder(Hello | EventBatch)


def encode_commands(commands: list[AnyCommand]) -> bytes:
    """One packet for the worker."""
    return _command_encoder.encode(CommandBatch(commands))


def decode_commands(packet: bytes | memoryview) -> list[AnyCommand]:
    """The commands of one packet.

    Raises:
        msgspec.DecodeError: the packet is no command batch (msgspec.ValidationError is one of these).
    """
    return _command_decoder.decode(packet).commands


def encode_events(message: Hello | EventBatch) -> bytes:
    """One packet for `sipivr`."""
    return _event_encoder.encode(message)


def decode_events(packet: bytes | memoryview) -> Hello | EventBatch:
    """The message of one packet from a worker.

    Raises:
        msgspec.DecodeError: the packet is neither a Hello nor an event batch.
    """
    message: Hello | EventBatch = _event_decoder.decode(packet)
    return message
