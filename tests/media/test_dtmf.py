"""The in-band detector over the table of ITU-T Q.24, both laws."""

from __future__ import annotations

import numpy as np
import pytest

from media.arrays import Bool, Int16
from media.dsp import dtmf, g711, tones

LEGS = 40
KEYS = 16
PARAMS = dtmf.DTMFParams()


def through(law: int, audio: Int16) -> Int16:
    return g711.DECODE[law][g711.ENCODE[law][audio.view(np.uint16)]]


def detect(audio: Int16, lost: Bool | None = None) -> list[list[tuple[int, int]]]:
    """Keys and their starts of each leg."""
    legs, samples = audio.shape
    state = dtmf.DTMFState(legs)
    found: list[list[tuple[int, int]]] = [[] for _ in range(legs)]
    for frame in range(samples // 160):
        there = np.ones(legs, np.bool_) if lost is None else ~lost[:, frame]
        for press in dtmf.detect(state, PARAMS, audio[:, frame * 160 : frame * 160 + 160], (there, there)):
            found[press.row].append((press.key, frame * 160 + press.start))
    return found


def keyed(
    *,
    tone_ms: float = 50,
    pause_ms: float = 50,
    level: float = -10,
    twist: float = 0,
    offset: float = 0,
    noise_db: float | None = None,
    gap_ms: int = 0,
    one_key: bool = False,
) -> tuple[Int16, list[list[int]], list[list[int]]]:
    """Legs of random keys, each with a phase of its own; the keys and where they start."""
    rng = np.random.default_rng(5)
    step = int((tone_ms + pause_ms) * 8)
    samples = step * KEYS + 1600
    audio = np.zeros((LEGS, samples + -samples % 160))
    keys: list[list[int]] = []
    starts: list[list[int]] = []
    for leg in audio:
        at = int(rng.integers(160, 480))
        keys.append([5 if one_key else int(key) for key in rng.integers(0, 16, KEYS)])
        starts.append([at + n * step for n in range(KEYS)])
        for key in keys[-1]:
            sign = rng.choice([-1, 1], 2)
            tone = tones.dtmf_tone(
                key,
                tone_ms,
                level,
                twist,
                row_offset=offset * sign[0],
                column_offset=offset * sign[1],
                phase=rng.uniform(0, 6),
            ).astype(np.float64)
            if gap_ms:
                middle = len(tone) // 2
                tone[middle : middle + gap_ms * 8] = 0
            if noise_db is not None:
                power = np.sqrt(np.mean(tone**2)) * 10 ** (-noise_db / 20)
                tone += rng.normal(0, power, len(tone))
            leg[at : at + len(tone)] = tone
            at += step
    return np.clip(audio, -32124, 32124).astype(np.int16), keys, starts


ACCEPTED = {
    "plain": {},
    "shortest": {"tone_ms": 40, "pause_ms": 30},
    "shortest, one key": {"tone_ms": 40, "pause_ms": 30, "one_key": True},
    "0 dBm0": {"level": 0},
    "-3 dBm0": {"level": -3},
    "-25 dBm0": {"level": -25, "tone_ms": 40},
    "weaker tone at -25 dBm0, twist -8 dB": {"level": -17, "twist": -8, "tone_ms": 40},
    "weaker tone at -25 dBm0, twist +4 dB": {"level": -21, "twist": 4, "tone_ms": 40},
    "+1.8 %": {"offset": 0.018, "tone_ms": 40},
    "+1.8 %, twist -8 dB, 0 dBm0": {"offset": 0.018, "twist": -8, "level": 0},
    "15 dB S/N": {"noise_db": 15, "tone_ms": 45},
    "interrupted for 10 ms": {"tone_ms": 100, "gap_ms": 10},
    "100 ms": {"tone_ms": 100, "pause_ms": 100},
    "1 s": {"tone_ms": 1000, "pause_ms": 60},
}
REFUSED = {
    "3.5 %": {"offset": 0.035, "tone_ms": 100},
    "20 ms": {"tone_ms": 20},
    "-55 dBm0": {"level": -55},
    "twist +12 dB": {"twist": 12},
    "twist -16 dB": {"twist": -16},
}


@pytest.mark.parametrize("law", [0, 1])
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, law: int) -> None:
    audio, keys, starts = keyed(**ACCEPTED[name])  # type: ignore[arg-type]
    found = detect(through(law, audio))
    assert [[key for key, _ in leg] for leg in found] == keys
    for leg, wanted in zip(found, starts, strict=True):
        assert max(abs(start - at) for (_, start), at in zip(leg, wanted, strict=True)) <= 130


@pytest.mark.parametrize("law", [0, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, law: int) -> None:
    audio, _, _ = keyed(**REFUSED[name])  # type: ignore[arg-type]
    assert not any(detect(through(law, audio)))


def test_23_ms_is_mostly_refused() -> None:
    """Q.24 allows either between 23 and 40 ms; exactly 23 ms stands at the edge of the window."""
    audio, _, _ = keyed(tone_ms=23)
    assert sum(len(leg) for leg in detect(through(0, audio))) <= 0.05 * LEGS * KEYS


def test_loss_neither_splits_nor_makes_a_key() -> None:
    audio, keys, _ = keyed(tone_ms=200, pause_ms=100, one_key=True)
    lost = np.random.default_rng(2).random((LEGS, audio.shape[1] // 160)) < 0.05
    assert [[key for key, _ in leg] for leg in detect(audio, lost)] == keys


def test_what_is_lost_is_not_looked_at() -> None:
    """Concealed audio may repeat a tone; the detector must not take that for a longer one.

    (Of 20 ms and a loss no one can tell whether it was a tone of 40 ms; of 12 ms one can.)
    """
    audio, _, _ = keyed(tone_ms=12, pause_ms=88)
    held = audio.copy()
    lost = np.zeros((LEGS, audio.shape[1] // 160), np.bool_)
    lost[:, 1::2] = True
    for frame in range(1, lost.shape[1], 2):
        held[:, frame * 160 : frame * 160 + 160] = held[:, frame * 160 - 160 : frame * 160]
    assert not any(detect(held, lost))


def test_noise_single_tones_and_chords_are_no_keys() -> None:
    rng = np.random.default_rng(9)
    seconds = 20
    time = np.arange(seconds * 8000) / 8000
    audio = np.zeros((12, len(time)))
    audio[0] = rng.normal(0, 4000, len(time))
    for row, hz in enumerate((440, 697, 1336, 1633), 1):
        audio[row] = 8000 * np.sin(2 * np.pi * hz * time)
    # Voiced speech: harmonics of a moving pitch under moving formants.
    for row in range(5, 12):
        pitch = 90 + 25 * row + 30 * np.sin(2 * np.pi * 0.7 * time + row)
        phase = 2 * np.pi * np.cumsum(pitch) / 8000
        for harmonic in range(1, 20):
            weight = 1 / (1 + abs(harmonic * pitch - 700 - 300 * np.sin(3 * time)) / 200)
            audio[row] += 3000 * weight * np.sin(harmonic * phase) * (harmonic * pitch < 3600)
    assert not any(detect(np.clip(audio, -32000, 32000).astype(np.int16)))


def test_clear_forgets_audio() -> None:
    state = dtmf.DTMFState(1)
    frame = tones.dtmf_tone(1, 20)[None]
    dtmf.detect(state, PARAMS, frame, (np.ones(1, np.bool_), np.ones(1, np.bool_)))
    state.clear(0)
    assert not state.history.any()
    assert not state.hop.any()


@pytest.mark.parametrize("tone_ms", [40, 65, 200, 1000])
def test_a_key_that_ends_tells_its_length_and_its_levels(tone_ms: float) -> None:
    rng = np.random.default_rng(int(tone_ms))
    state, there = dtmf.DTMFState(LEGS), np.ones(LEGS, np.bool_)
    audio = np.zeros((LEGS, 160 * 70))
    levels, twists = rng.uniform(-22, -3, LEGS), rng.uniform(-8, 4, LEGS)
    for leg in range(LEGS):
        tone = tones.dtmf_tone(leg % 16, tone_ms, levels[leg], twists[leg], phase=rng.uniform(0, 6))
        start = int(rng.integers(300, 620))
        audio[leg, start : start + len(tone)] = tone
    ended: list[dtmf.Release] = []
    for start in range(0, audio.shape[1], 160):
        frame = np.ascontiguousarray(audio[:, start : start + 160].astype(np.int16))
        dtmf.detect(state, PARAMS, frame, (there, there))
        ended += state.released
    assert sorted(release.row for release in ended) == list(range(LEGS))
    for release in ended:
        level, twist = levels[release.row], twists[release.row]
        assert release.key == release.row % 16
        assert abs(release.length - tone_ms * 8) <= 8 * 8 + 1
        assert abs(release.row_dbm0 - (level - max(twist, 0))) < 0.2
        assert abs(release.column_dbm0 - (level + min(twist, 0))) < 0.2


def test_a_key_that_another_follows_at_once_has_ended() -> None:
    state, there = dtmf.DTMFState(1), np.ones(1, np.bool_)
    audio = np.concatenate(
        [tones.silence(40), tones.dtmf_tone(3, 100), tones.dtmf_tone(8, 100), tones.silence(60)]
    )
    ended: list[dtmf.Release] = []
    for start in range(0, len(audio), 160):
        dtmf.detect(state, PARAMS, audio[None, start : start + 160], (there, there))
        ended += state.released
    assert [(release.key, round(release.length / 800)) for release in ended] == [(3, 1), (8, 1)]


def test_tone_against_fft() -> None:
    tone = tones.dtmf_tone(6, 1000, -10, twist_db=4).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(tone)) / len(tone) * 2
    row, column = (20 * np.log10(spectrum[hz] / g711.AMPLITUDE_0_DBM0) for hz in (770, 1477))
    assert abs(row + 14) < 0.1
    assert abs(column + 10) < 0.1
    with pytest.raises(ValueError, match="code from 0 to 15"):
        tones.frequencies_of(16)
