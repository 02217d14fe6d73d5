"""No sample of a masked source reaches its destination, whatever is connected, changed or broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.connections import Connections
from media.dsp import mask
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.masks import Heard, Stocks
from media.protocol import MaskMode

LEGS = 5
STOCKS = Stocks(np.random.default_rng(1))


def voices(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, (LEGS, 160)).astype(np.int16)


def heard(pcm: np.ndarray, keyed: tuple[int, ...] = ()) -> Heard:
    came = np.zeros(LEGS, np.bool_)
    came[list(keyed)] = True
    return Heard(pcm, came, np.ones(LEGS, np.bool_))


def mixed(connections: Connections, pcm: np.ndarray) -> tuple[np.ndarray, list[int]]:
    out = np.zeros((LEGS, 160), np.int16)
    faults = connections.mix(out, heard(pcm), STOCKS)
    return out, faults


commands = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "remove", "leg", "fault"]),
        st.integers(0, LEGS - 1),
        st.integers(0, LEGS - 1),
        st.sampled_from(list(MaskMode)),
    ),
    max_size=25,
)


@given(commands, st.integers(0, 1000))
@settings(max_examples=150)
def test_masked_output_does_not_depend_on_the_source(
    orders: list[tuple[str, int, int, MaskMode]], seed: int
) -> None:
    """Two runs whose masked sources say different things give every destination the same audio."""
    connections = Connections(LEGS, np.random.default_rng(5))
    opened: dict[tuple[int, int], bool] = {}
    for verb, source, destination, mode in orders:
        pair = (source, destination)
        if verb == "set":
            connections.set(source, destination, mode)
            opened[pair] = mode is MaskMode.OPEN and source != destination
        elif verb == "remove" and pair in opened:
            connections.remove(source, destination)
            del opened[pair]
        elif verb == "leg":
            connections.remove_leg(source)
            opened = {p: o for p, o in opened.items() if source not in p}
        elif verb == "fault":
            connections.silence_masked()
    for destination in range(LEGS):
        heard = [s for (s, d), is_open in opened.items() if d == destination and is_open]
        one, other = voices(seed), voices(seed + 1)
        other[heard] = one[heard]
        assert np.array_equal(
            mixed(connections, one)[0][destination], mixed(connections, other)[0][destination]
        )
        if not heard:
            assert np.abs(mixed(connections, one)[0][destination]).max() < 3000


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
