"""Telephone audio: rate, band, level, silence, and the engines themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from sipivr.prompts import tones
from sipivr.prompts.audio import ACTIVE_LEVEL_DBFS, RATE_HZ, active_level_dbfs, telephone
from sipivr.prompts.engines import EngineError, ESpeakEngine, OpenJTalkEngine, Speech, SpeechEngine
from sipivr.prompts.wording import Texts

DTMF_HZ = (697, 770, 852, 941, 1209, 1336, 1477, 1633)


@pytest.mark.parametrize(
    ("engine", "text", "shortest_s"),
    [
        (OpenJTalkEngine(), "カード番号を押してください。", 1.2),
        (ESpeakEngine(), "Please key in your card number.", 1.2),
    ],
    ids=["open_jtalk", "espeak_ng"],
)
def test_speech_on_the_telephone(engine: SpeechEngine, text: str, shortest_s: float) -> None:
    speech = engine.speak(text)
    assert speech.rate_hz in (22_050, 48_000)
    samples = telephone(speech)
    assert samples.dtype == np.int16
    assert shortest_s < len(samples) / RATE_HZ < 4
    assert abs(active_level_dbfs(samples) - ACTIVE_LEVEL_DBFS) < 0.3
    assert np.max(np.abs(samples.astype(int))) < 32_767 * 0.9
    # Trimmed: something is heard at once and until shortly before the end.
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 60)
    assert loud[0] < 0.05 * RATE_HZ
    assert len(samples) - loud[-1] < 0.2 * RATE_HZ
    frequency_hz, power = signal.welch(samples.astype(float), RATE_HZ, nperseg=1024)
    inside = power[(frequency_hz > 250) & (frequency_hz < 3_400)].sum()
    assert power[frequency_hz < 120].sum() < inside * 1e-3
    assert power[frequency_hz > 3_650].sum() < inside * 1e-4
    assert engine.version


def test_active_level_ignores_pauses() -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 1_000 * time_s) * 10 ** (-20 / 20)
    assert active_level_dbfs(tone) == pytest.approx(-20, abs=0.1)
    assert active_level_dbfs(np.concatenate([tone, np.zeros(10 * RATE_HZ)])) == pytest.approx(-20, abs=0.1)
    assert active_level_dbfs((tone * 32_768).astype(np.int16)) == pytest.approx(-20, abs=0.1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_level_does_not_depend_on_the_engine_s_scale(scale: float) -> None:
    noise = np.random.default_rng(1).standard_normal(16_000) * scale
    assert active_level_dbfs(telephone(Speech(noise, 16_000))) == pytest.approx(ACTIVE_LEVEL_DBFS, abs=0.3)


@pytest.mark.parametrize("samples", [np.zeros(8_000), np.zeros(0), np.full(8_000, np.nan)])
def test_silence_is_no_prompt(samples: np.ndarray) -> None:
    with pytest.raises(EngineError):
        telephone(Speech(samples, 16_000))


@pytest.mark.parametrize("name", list(tones.TONES))
def test_tones(name: str) -> None:
    samples = tones.tone(name).astype(float)
    assert np.max(np.abs(samples)) > 300
    frequency_hz, power = signal.periodogram(samples, RATE_HZ)
    for dtmf_hz in DTMF_HZ:
        near = np.abs(frequency_hz - dtmf_hz) < dtmf_hz * 0.035
        assert power[near].sum() < power.sum() * 0.01


def test_the_waiting_tone_repeats_seamlessly() -> None:
    samples = tones.tone("wait")
    assert len(samples) == 4 * RATE_HZ
    assert samples[0] == samples[-1] == 0


def test_every_tone_of_the_texts_exists() -> None:
    for language in ("ja", "en"):
        assert set(Texts.load(language).tones.values()) <= set(tones.TONES)


def test_programs_that_are_not_there_or_fail() -> None:
    absent = ESpeakEngine(program="no-such-program-here")
    with pytest.raises(EngineError, match="not installed"):
        absent.speak("x")
    with pytest.raises(EngineError, match="not installed"):
        _ = absent.version
    with pytest.raises(EngineError, match="no voice"):
        ESpeakEngine(voice="no-such-voice").speak("x")
    with pytest.raises(EngineError, match="no voice"):
        ESpeakEngine(program="true").speak("x")
    with pytest.raises(EngineError, match="false"):
        ESpeakEngine(program="false").speak("x")


def test_a_text_is_no_option() -> None:
    assert len(ESpeakEngine().speak("--version -w /nonexistent/x").samples) > 10_000


def test_many_threads_one_voice() -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = OpenJTalkEngine()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: engine.speak("はい。").samples, range(8)))
    assert all(np.array_equal(samples, made[0]) for samples in made)
