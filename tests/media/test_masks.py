"""No sample of a masked source reaches its destination, whatever is connected, changed or broken."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from media.connections import Connections
from media.dsp import beeps, clamp, dtmf, mask, tones
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.masks import Heard, Stocks
from media.protocol import MaskMode

LEGS = 5
#: Comfort noise at -50 dBm0 stays far below.
NOISE_PEAK = 400
rows = st.integers(0, LEGS - 1)
STOCKS = Stocks(np.random.default_rng(1))


def voices(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, (LEGS, 160)).astype(np.int16)


def heard(pcm: np.ndarray, *, keyed: tuple[int, ...] = (), lost: tuple[int, ...] = ()) -> Heard:
    came, sound = np.zeros(LEGS, np.bool_), np.ones(LEGS, np.bool_)
    came[list(keyed)] = True
    sound[list(lost)] = False
    return Heard(pcm, came, sound)


def mixed(connections: Connections, pcm: np.ndarray) -> tuple[np.ndarray, list[int]]:
    out = np.zeros((LEGS, 160), np.int16)
    faults = connections.mix(out, heard(pcm), STOCKS)
    return out, faults


class Worlds(RuleBasedStateMachine):
    """Two engines' connections with the same commands and faults, whose sources say different things.

    A destination all of whose sources are masked must get the same samples in both, bit by bit; `CLAMP`, which
    passes voices by design, has tests of its own. Both worlds' sources are loud voices, so that the one bit that
    `SCRAMBLE` takes is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.worlds = [Connections(LEGS, np.random.default_rng(5)) for _ in range(2)]
        self.modes: dict[tuple[int, int], MaskMode] = {}
        self.voice = [np.random.default_rng(seed) for seed in (1, 2)]

    @rule(source=rows, destination=rows, mode=st.sampled_from(list(MaskMode)), beeping=st.booleans())
    def set(self, source: int, destination: int, mode: MaskMode, beeping: bool) -> None:
        for world in self.worlds:
            world.set(source, destination, mode, beeping=beeping)
        self.modes[source, destination] = mode

    @precondition(lambda self: self.modes)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        pair = data.draw(st.sampled_from(sorted(self.modes)))
        for world in self.worlds:
            world.remove(*pair)
        del self.modes[pair]

    @rule(row=rows)
    def leg_goes(self, row: int) -> None:
        for world in self.worlds:
            world.remove_leg(row)
        self.modes = {pair: mode for pair, mode in self.modes.items() if row not in pair}

    @rule(row=rows)
    def leg_changes(self, row: int) -> None:
        for world in self.worlds:
            world.restart(row)

    @rule(row=st.none() | rows)
    def fault(self, row: int | None) -> None:
        for world in self.worlds:
            world.silence_masked(row)
        for pair, mode in self.modes.items():
            if mode is not MaskMode.OPEN and row in (None, pair[0]):
                self.modes[pair] = MaskMode.SILENCE

    @rule(
        ticks=st.integers(1, 25),
        keyed=st.lists(rows, max_size=2),
        lost=st.lists(rows, max_size=2),
    )
    def talk(self, ticks: int, keyed: list[int], lost: list[int]) -> None:
        for _ in range(ticks):
            told = []
            for world, voice in zip(self.worlds, self.voice, strict=True):
                pcm = voice.integers(-3000, 3000, (LEGS, 160)).astype(np.int16)
                now = heard(pcm, keyed=tuple(keyed), lost=tuple(lost))
                out = np.zeros((LEGS, 160), np.int16)
                assert not world.mix(out, now, STOCKS)
                told.append((pcm, out))
            for destination in range(LEGS):
                self.check(destination, told)

    def check(self, destination: int, told: list[tuple[np.ndarray, np.ndarray]]) -> None:
        own = {s: mode for (s, d), mode in self.modes.items() if d == destination}
        passing = [
            s for s, mode in own.items() if mode in (MaskMode.OPEN, MaskMode.CLAMP) and s != destination
        ]
        (pcm, out), (_, other) = told
        if not passing:
            assert np.array_equal(out[destination], other[destination])
        if (own and all(mode is MaskMode.SILENCE for mode in own.values())) or not own:
            assert not out[destination].any()
        if own == dict.fromkeys(own, MaskMode.OPEN) and len(passing) == len(own) == 1:
            assert np.array_equal(out[destination], pcm[passing[0]])


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


class Line:
    """One masked connection, from leg 0 to leg 1."""

    def __init__(self, mode: MaskMode, *, beeping: bool = False, seed: int = 5, source: int = 0) -> None:
        self.connections = Connections(LEGS, np.random.default_rng(seed))
        self.source = source
        self.connections.set(source, 1, mode, beeping=beeping)

    def carry(self, audio: np.ndarray, keyed: Container[int] = (), lost: Container[int] = ()) -> np.ndarray:
        """What leg 1 hears, `(frames, 160)`; `keyed` and `lost` are numbers of frames."""
        frames = []
        for number, frame in enumerate(audio[: len(audio) // 160 * 160].reshape(-1, 160)):
            pcm = np.zeros((LEGS, 160), np.int16)
            pcm[self.source] = frame
            one = (self.source,)
            now = heard(pcm, keyed=one if number in keyed else (), lost=one if number in lost else ())
            out = np.zeros((LEGS, 160), np.int16)
            self.connections.mix(out, now, STOCKS)
            frames.append(out[1])
        return np.array(frames)


def keys_and_pauses(seed: int, *, least_ms: float = 40) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Keys of all kinds in silence, and from which sample to which each is."""
    rng = np.random.default_rng(seed)
    audio = rng.normal(0, 8, 8000 * 6).astype(np.int16)
    spans = []
    at = 1000
    while at < len(audio) - 4000:
        twist, level = rng.uniform(-8, 4), rng.uniform(-25, -3)
        tone = tones.dtmf_tone(int(rng.integers(0, 16)), rng.uniform(least_ms, 150), level, twist)
        audio[at : at + len(tone)] += tone
        spans.append((at, at + len(tone)))
        at += len(tone) + int(rng.integers(400, 4000))
    return audio, spans


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_clamp_passes_no_part_of_a_key(seed: int, loss: float) -> None:
    """Everything that it passes is a frame of 80 ms ago in which no key is, whatever was lost around it."""
    audio, spans = keys_and_pauses(seed, least_ms=20)
    frames = audio.reshape(-1, 160)
    lost = {n for n in range(len(frames)) if np.random.default_rng((seed, n)).random() < loss}
    played = frames.copy()
    for number in sorted(lost):
        played[number] = played[number - 1]  # as concealment does
    out = Line(MaskMode.CLAMP).carry(played.reshape(-1), lost=lost)
    of_key = np.zeros(len(frames), np.bool_)
    for start, end in spans:
        of_key[start // 160 : (end - 1) // 160 + 1] = True
    passed = (out[clamp.DELAY :] == played[: -clamp.DELAY]).all(axis=1)
    assert not (passed & of_key[: -clamp.DELAY]).any()
    assert np.abs(out[clamp.DELAY :][of_key[: -clamp.DELAY]]).max() < NOISE_PEAK
    assert passed.any()


def test_clamp_passes_a_voice_untouched_and_late() -> None:
    voice = np.random.default_rng(3).normal(0, 1500, 160 * 60).astype(np.int16).reshape(-1, 160)
    out = Line(MaskMode.CLAMP).carry(voice.reshape(-1))
    whole = clamp.DELAY + clamp.AFTER + 1
    assert np.array_equal(out[whole + clamp.DELAY :], voice[whole : -clamp.DELAY])


def test_clamp_closes_for_a_press_that_came_as_an_event() -> None:
    """What a gateway leaves of the tone plays as late as the jitter buffer is deep."""
    voice = np.random.default_rng(3).normal(0, 1500, 160 * 80).astype(np.int16)
    out = Line(MaskMode.CLAMP).carry(voice, keyed={30})
    quiet = np.abs(out).max(axis=1) < NOISE_PEAK
    assert quiet[30 : 30 + clamp.KEY_TICKS + clamp.DELAY + clamp.AFTER].all()
    assert not quiet[30 + clamp.KEY_TICKS + clamp.DELAY + clamp.AFTER + 1 :].any()


def test_clamp_keeps_nothing_when_a_leg_changes() -> None:
    line = Line(MaskMode.CLAMP)
    voice = np.random.default_rng(3).normal(0, 1500, 160 * 40).astype(np.int16)
    assert np.abs(line.carry(voice)[-1]).max() > NOISE_PEAK
    line.connections.restart(0)
    assert np.abs(line.carry(np.zeros(160 * 20, np.int16))).max() < NOISE_PEAK


@pytest.mark.parametrize("mode", [MaskMode.SCRAMBLE, MaskMode.TONE, MaskMode.COMFORT_NOISE])
@pytest.mark.parametrize("seed", range(3))
def test_keys_are_as_silence(mode: MaskMode, seed: int) -> None:
    """Samples are the same with keys and without any: neither which nor when crosses."""
    audio, _ = keys_and_pauses(seed)
    quiet = np.zeros_like(audio)
    assert np.array_equal(Line(mode).carry(audio), Line(mode).carry(quiet))


def test_scramble_tells_of_a_voice_and_holds_on() -> None:
    voice = np.zeros(8000 * 8, np.int16)
    voice[8000:16000] = np.random.default_rng(3).normal(0, 1500, 8000)
    levels = np.abs(Line(MaskMode.SCRAMBLE).carry(voice)).max(axis=1)
    assert levels[:50].max() < NOISE_PEAK
    # Up to 1.6 s late and three seconds on: neither words nor pauses between keys show.
    assert levels[160:240].max() > 2000
    assert levels[-40:].max() < NOISE_PEAK
    changes = np.flatnonzero(np.diff((levels > NOISE_PEAK).astype(int)))
    assert changes.size, "and at no other time than where a slot begins"


def test_scramble_does_not_follow_the_voice() -> None:
    """Any two voices that are there at the same time give the same samples."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1500, 8000 * 3)
    rhythm = 1 + 0.5 * np.sin(np.arange(8000 * 3) / 900)
    one, other = noise.astype(np.int16), (rng.normal(0, 3000, 8000 * 3) * rhythm).astype(np.int16)
    assert np.array_equal(Line(MaskMode.SCRAMBLE).carry(one), Line(MaskMode.SCRAMBLE).carry(other))


def beeps_of(keyed: set[int], *, beeping: bool = True) -> list[int]:
    """Frames at which a beep starts."""
    out = Line(MaskMode.TONE, beeping=beeping).carry(np.zeros(160 * 400, np.int16), keyed=keyed)
    on = np.abs(out).max(axis=1) > NOISE_PEAK
    return np.flatnonzero(on & ~np.roll(on, 1)).tolist()


def test_beeps_are_on_a_grid_of_their_own() -> None:
    """Nothing but the first and the last grid point with keys shows: not how many there are, nor when they come."""
    keyed = {50, 58, 61, 90, 97, 120, 150}
    starts = beeps_of(keyed)
    assert set(np.diff(starts)) == {beeps.GRID_TICKS}
    assert starts == beeps_of({50, 75, 76, 77, 78, 112, 135, 150})
    assert beeps_of(keyed, beeping=False) == []
    assert beeps_of(set()) == []


def test_beeps_stop_at_once_for_the_security_code() -> None:
    line = Line(MaskMode.TONE, beeping=True)
    line.carry(np.zeros(160 * 40, np.int16), keyed={0, 20})
    line.connections.set(0, 1, MaskMode.TONE, beeping=False)
    out = line.carry(np.zeros(160 * 100, np.int16), keyed={3, 9})
    assert np.abs(out).max() < NOISE_PEAK


def test_decoy_alone_is_no_key() -> None:
    out = Line(MaskMode.DECOY, source=1).carry(np.zeros(160 * 50 * 30, np.int16))
    assert keys_in(out) == []


@pytest.mark.parametrize("level", [-4, -7, -10, -13])
def test_decoy_buries_keys(level: float) -> None:
    """On the sum, as the others in the bridge hear it."""
    rng = np.random.default_rng(7)
    audio = np.zeros(8000 * 12, np.int16)
    pressed = []
    for at in range(800, len(audio) - 2400, 2400):
        key = int(rng.integers(0, 12))
        tone = tones.dtmf_tone(key, rng.uniform(60, 140), level, rng.uniform(-4, 3))
        audio[at : at + len(tone)] = tone
        pressed.append((at // 160, key))
    keys = audio.reshape(-1, 160)
    assert right_keys(keys, pressed) == len(pressed)
    over = Line(MaskMode.DECOY, source=1).carry(audio)
    assert right_keys(mask.mix(keys, over), pressed) == 0


def right_keys(frames: np.ndarray, pressed: list[tuple[int, int]]) -> int:
    """Presses that a receiver reads as what they are, when they are."""
    found = keys_in(frames)
    return sum(any(0 <= at - frame <= 9 and got == key for at, got in found) for frame, key in pressed)


def keys_in(frames: np.ndarray) -> list[tuple[int, int]]:
    """Number of the frame, and the key."""
    state, params, whole = dtmf.DTMFState(1), dtmf.DTMFParams(), (np.ones(1, np.bool_),) * 2
    return [
        (number, press.key)
        for number, frame in enumerate(frames)
        for press in dtmf.detect(state, params, frame[None], whole)
    ]


def test_decoy_is_for_its_own_bridge_and_voices_are_not() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    connections.set(0, 1, MaskMode.DECOY)
    for mode in (MaskMode.SCRAMBLE, MaskMode.CLAMP, MaskMode.OPEN):
        connections.set(2, 2, mode)
        assert not mixed(connections, voices(1))[0].any()


def test_open_passes_every_sample() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    connections.set(0, 1, MaskMode.OPEN)
    pcm = voices(3)
    out, faults = mixed(connections, pcm)
    assert np.array_equal(out[1], pcm[0])
    assert not faults
    assert not out[[0, 2, 3, 4]].any()


def test_own_audio_is_never_returned() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    connections.set(2, 2, MaskMode.OPEN)
    assert not mixed(connections, voices(1))[0].any()
    connections.set(2, 2, MaskMode.COMFORT_NOISE)
    assert mixed(connections, voices(1))[0][2].any()


def test_several_sources_saturate() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    pcm = np.full((LEGS, 160), 30000, np.int16)
    for source in range(3):
        connections.set(source, 4, MaskMode.OPEN)
    assert (mixed(connections, pcm)[0][4] == 32767).all()


def test_unknown_state_is_silence_and_a_fault() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    connections.set(0, 1, MaskMode.OPEN)
    connections._layers[0].modes[1] = 77
    out, faults = mixed(connections, voices(1))
    assert not out.any()
    assert faults == [1]
    connections.set(0, 1, "whisper")  # type: ignore[arg-type]
    assert not mixed(connections, voices(1))[0].any()


def test_fault_silences_masked_connections_until_set_again() -> None:
    connections = Connections(LEGS, np.random.default_rng(5))
    connections.set(0, 1, MaskMode.COMFORT_NOISE)
    connections.set(0, 2, MaskMode.OPEN)
    connections.silence_masked()
    out, _ = mixed(connections, voices(1))
    assert not out[1].any()
    assert out[2].any()
    connections.set(0, 1, MaskMode.COMFORT_NOISE)
    assert mixed(connections, voices(1))[0][1].any()


def test_noise_has_its_level_and_no_tone() -> None:
    frames = mask.noise_frames(np.random.default_rng(2)).astype(np.float64)
    level = 20 * np.log10(frames.std() * np.sqrt(2) / AMPLITUDE_0_DBM0)
    assert level == pytest.approx(-50, abs=0.3)
    levels = 20 * np.log10(frames.std(axis=1) * np.sqrt(2) / AMPLITUDE_0_DBM0)
    assert np.ptp(levels) < 6
    spectrum = np.abs(np.fft.rfft(frames, axis=1)).mean(axis=0)[4:-20]
    assert spectrum.max() < 40 * spectrum.min()
