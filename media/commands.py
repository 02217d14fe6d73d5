"""What each command does to an engine. A refused command has changed nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from media.legs import Leg, RefusedError, key_of
from media.protocol import (
    SAMPLE_RATE_HZ,
    Acknowledged,
    AddLeg,
    AnyCommand,
    AnyEvent,
    Codec,
    Connect,
    Disconnect,
    DTMFMode,
    HearKey,
    LoadPrompt,
    MaskApplied,
    Play,
    QueryStatistics,
    Refused,
    Remote,
    RemoveLeg,
    SendKey,
    SetMask,
    Shutdown,
    StopPlaying,
    UnloadPrompt,
    UpdateLeg,
)
from media.rtp.lookup import IPv6Key, is_numeric
from media.rtp.srtp import SRTPError, check_keys
from media.rtp.stream import NO_TYPE
from media.rtp.telephone_event import LARGEST_KEY

if TYPE_CHECKING:
    from media.engine import Engine

#: Ten minutes; nothing that is said at a payment is longer.
_LONGEST_PROMPT_BYTES: Final = 600 * SAMPLE_RATE_HZ * 2
_DYNAMIC_TYPES: Final = range(96, 128)
_PTIMES_MS: Final = range(10, 61, 10)


def execute(engine: Engine, command: AnyCommand) -> list[AnyEvent]:
    """Carries out one command; see `Engine.execute`."""
    try:
        followed = _ACTIONS[type(command)](engine, command)
    except RefusedError as refusal:
        return [Refused(seq=command.seq, reason=str(refusal))]
    return [Acknowledged(seq=command.seq), *followed]


def _check(engine: Engine, command: AddLeg | UpdateLeg, index: int) -> None:
    event_type = command.event_payload_type
    if event_type is not None and event_type not in _DYNAMIC_TYPES:
        raise RefusedError(f"leg {command.leg}: telephone-event needs a dynamic payload type")
    if not 0 <= index < len(engine.sockets):
        raise RefusedError(f"leg {command.leg}: there is no socket {index}")
    if command.rtcp is not None and not (
        is_numeric(command.rtcp.address) and 0 < command.rtcp.port < 1 << 16
    ):
        raise RefusedError(f"leg {command.leg}: the RTCP address is not numeric, or no such port")
    if command.ptime_ms not in _PTIMES_MS:
        raise RefusedError(f"leg {command.leg}: packets hold 10 to 60 ms, in whole tens")
    if command.srtp is not None:
        try:
            check_keys(command.srtp)
        except SRTPError as error:
            raise RefusedError(f"leg {command.leg}: {error}") from error


def _secure(engine: Engine, leg: Leg, command: AddLeg | UpdateLeg) -> None:
    try:
        engine.secure.negotiate(leg.row, command.srtp)
    except SRTPError as error:
        raise RefusedError(f"leg {command.leg}: {error}") from error


def _add_leg(engine: Engine, command: AddLeg) -> list[AnyEvent]:
    index = command.socket
    _check(engine, command, index)
    if command.leg in engine.legs:
        raise RefusedError(f"leg {command.leg} exists already")
    if command.signalled is not None and not is_numeric(command.signalled):
        raise RefusedError(f"leg {command.leg}: the address of its signalling is not numeric")
    key = _source(engine, command, command.source or command.remote, index, None)
    if engine.legs.rows.full:
        raise RefusedError(f"leg {command.leg}: the worker has all the legs that it may have")
    leg = engine.legs.add(command)
    try:
        _secure(engine, leg, command)
    except RefusedError:
        engine.drop(leg)
        raise
    engine.transmitter.add(leg.row, index)
    engine.streams.last_tick[leg.row] = engine.ticks
    engine.streams.comfort_noise[leg.row] = command.comfort_noise
    engine.policy.assign(leg, key)
    _negotiate(engine, leg, command.ptime_ms)
    _negotiate_reports(engine, leg, command)
    return []


def _update_leg(engine: Engine, command: UpdateLeg) -> list[AnyEvent]:
    leg = engine.legs[command.leg]
    index = leg.socket if command.socket is None else command.socket
    _check(engine, command, index)
    moved = (command.remote, command.symmetric, index) != (leg.remote, leg.symmetric, leg.socket)
    if moved:
        key = _source(engine, command, command.remote, index, leg)
    _secure(engine, leg, command)
    if moved:
        engine.policy.release(leg)
        engine.legs.move(leg, index)
        engine.transmitter.move(leg.row, index)
        engine.policy.assign(leg, key)
    if moved or command.codec is not leg.codec:
        engine.streams.restart(leg.row)
    if command.event_payload_type != leg.event_type:
        engine.streams.old_event_type[leg.row] = engine.streams.event_type[leg.row]
    leg.codec, leg.remote, leg.event_type = command.codec, command.remote, command.event_payload_type
    leg.direction, leg.symmetric, leg.dtmf = command.direction, command.symmetric, command.dtmf
    leg.secure = command.srtp is not None
    engine.connections.restart(leg.row)
    if leg.row in engine.connections.decoyed():
        engine.echoes.restart(leg.row)
    engine.streams.last_tick[leg.row] = engine.ticks
    engine.streams.comfort_noise[leg.row] = command.comfort_noise
    _negotiate(engine, leg, command.ptime_ms)
    _negotiate_reports(engine, leg, command)
    return []


def _source(
    engine: Engine, command: AddLeg | UpdateLeg, remote: Remote | None, index: int, own: Leg | None
) -> int | IPv6Key | None:
    """Key of where the leg's packets come from, if it may stand on this socket."""
    family = engine.sockets[index].family
    key_of(command.leg, command.remote, index, family)
    key = key_of(command.leg, remote, index, family)
    engine.legs.check_source(command, index, None if key is None else engine.sources.row_of(key), own)
    return key


def _negotiate(engine: Engine, leg: Leg, ptime_ms: int) -> None:
    row, streams = leg.row, engine.streams
    streams.payload_type[row] = int(Codec(leg.codec))
    streams.event_type[row] = NO_TYPE if leg.event_type is None else leg.event_type
    streams.listening[row] = leg.listens and leg.remote is not None
    engine.transmitter.negotiate(
        row, leg.destination, int(leg.codec), leg.event_type, sending=leg.sends, ptime_ms=ptime_ms
    )
    engine.legs.refresh(leg)
    engine.sockets_changed = True


def _negotiate_reports(engine: Engine, leg: Leg, command: AddLeg | UpdateLeg) -> None:
    engine.reports.negotiate(
        engine.ticks,
        leg.row,
        leg.number,
        leg.socket,
        command.rtcp,
        mux=command.rtcp_mux,
        symmetric=command.symmetric,
        secured=command.srtp is not None,
    )
    if command.srtp is None:
        engine.reports.secure(leg.row, None, None)
    else:
        protect = functools.partial(engine.secure.protect_rtcp, leg.row)
        engine.reports.secure(leg.row, protect, functools.partial(engine.secure.unprotect_rtcp, leg.row))


def _remove_leg(engine: Engine, command: RemoveLeg) -> list[AnyEvent]:
    return engine.drop(engine.legs[command.leg])


def _connect(engine: Engine, command: Connect) -> list[AnyEvent]:
    source, destination = engine.legs[command.source], engine.legs[command.destination]
    engine.connections.set(source.row, destination.row, command.mask, beeping=command.beeps)
    return []


def _disconnect(engine: Engine, command: Disconnect) -> list[AnyEvent]:
    pair = _pair(engine, command)
    engine.connections.remove(*pair)
    return []


def _set_mask(engine: Engine, command: SetMask) -> list[AnyEvent]:
    pair = _pair(engine, command)
    engine.connections.set(*pair, command.mask, beeping=command.beeps)
    engine.legs[command.source].faulted = engine.legs[command.destination].faulted = False
    return [
        MaskApplied(
            seq=command.seq, source=command.source, destination=command.destination, mask=command.mask
        )
    ]


def _pair(engine: Engine, command: Disconnect | SetMask) -> tuple[int, int]:
    pair = engine.legs[command.source].row, engine.legs[command.destination].row
    if pair not in engine.connections:
        raise RefusedError(f"legs {command.source} and {command.destination} are not connected")
    return pair


def _load_prompt(engine: Engine, command: LoadPrompt) -> list[AnyEvent]:
    if engine.players.holds(command.prompt):
        raise RefusedError(f"prompt {command.prompt} is being played")
    try:
        with Path(command.path).open("rb") as file:
            data = file.read(_LONGEST_PROMPT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise RefusedError(f"prompt {command.prompt}: {type(error).__name__}") from error
    if len(data) > _LONGEST_PROMPT_BYTES or len(data) % 2:
        raise RefusedError(f"prompt {command.prompt} is too long, or no 16-bit samples")
    engine.prompts.load(command.prompt, np.frombuffer(data, "<i2").astype(np.int16, copy=False))
    return []


def _unload_prompt(engine: Engine, command: UnloadPrompt) -> list[AnyEvent]:
    if command.prompt not in engine.prompts:
        raise RefusedError(f"there is no prompt {command.prompt}")
    if engine.players.holds(command.prompt):
        raise RefusedError(f"prompt {command.prompt} is being played")
    engine.prompts.unload(command.prompt)
    return []


def _play(engine: Engine, command: Play) -> list[AnyEvent]:
    leg = engine.legs[command.leg]
    for prompt in command.prompts:
        if prompt not in engine.prompts:
            raise RefusedError(f"there is no prompt {prompt}")
    return engine.finished(
        engine.players.play(
            leg.row, command.playlist, command.prompts, barge_in=command.barge_in, repeat=command.repeat
        )
    )


def _stop_playing(engine: Engine, command: StopPlaying) -> list[AnyEvent]:
    return engine.finished(engine.players.stop(engine.legs[command.leg].row))


def _send_key(engine: Engine, command: SendKey) -> list[AnyEvent]:
    leg = engine.legs[command.leg]
    if not 0 <= command.key <= LARGEST_KEY:
        raise RefusedError(f"leg {command.leg}: no key has that code")
    if not engine.transmitter.send_key(leg.row, command.key, command.duration_ms):
        raise RefusedError(f"leg {command.leg} cannot send telephone-event")
    return []


def _hear_key(engine: Engine, command: HearKey) -> list[AnyEvent]:
    leg = engine.legs[command.leg]
    if not 0 <= command.key <= LARGEST_KEY:
        raise RefusedError(f"leg {command.leg}: no key has that code")
    if leg.dtmf not in (DTMFMode.AUTO, DTMFMode.INFO):
        raise RefusedError(f"leg {command.leg} takes no keys by INFO")
    engine.hear_signalled(leg, command.key)
    return []


def _query_statistics(engine: Engine, command: QueryStatistics) -> list[AnyEvent]:
    if command.leg is not None:
        return [engine.leg_statistics(engine.legs[command.leg])]
    if command.legs:
        engine.owe_statistics()
    return []


def _shutdown(engine: Engine, command: Shutdown) -> list[AnyEvent]:
    engine.drop_all()
    return []


_ACTIONS: Final[dict[type, Callable[[Engine, Any], list[AnyEvent]]]] = {
    AddLeg: _add_leg,
    UpdateLeg: _update_leg,
    RemoveLeg: _remove_leg,
    Connect: _connect,
    Disconnect: _disconnect,
    SetMask: _set_mask,
    LoadPrompt: _load_prompt,
    UnloadPrompt: _unload_prompt,
    Play: _play,
    StopPlaying: _stop_playing,
    SendKey: _send_key,
    HearKey: _hear_key,
    QueryStatistics: _query_statistics,
    Shutdown: _shutdown,
}
