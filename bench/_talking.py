"""People who talk on the telephones of a demonstration or a test: told apart by pitch, recognised by spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.harness import Switch
from bench.telephone.phone import PhoneCall


async def talk(
    customer: PhoneCall, operator: PhoneCall, mine: NDArray[np.int16], theirs: NDArray[np.int16]
) -> bool:
    """Each says something; whether each heard the other's pitch."""
    heard = []
    for speaker, listener, voice in ((customer, operator, mine), (operator, customer, theirs)):
        start = len(listener.heard.samples)
        await speaker.say(voice)
        await listener.ears.listen(300)
        heard.append(pitch_of(listener.heard.samples[start:]) - pitch_of(voice))
    return all(abs(difference) < 12 for difference in heard)


def voice(pitch_hz: float, seconds: float = 1.2) -> NDArray[np.int16]:
    """A hummed vowel: harmonics of one pitch under formants, told apart by its spectrum."""
    time_s = np.arange(int(seconds * 8000)) / 8000
    wave = np.zeros_like(time_s)
    for harmonic in range(1, int(3400 / pitch_hz)):
        frequency = harmonic * pitch_hz
        gain = sum(np.exp(-(((frequency - formant) / 180) ** 2)) for formant in (700, 1220, 2600)) + 0.05
        wave += gain * np.sin(2 * np.pi * frequency * time_s + harmonic)
    envelope = np.minimum(1, np.minimum(time_s, seconds - time_s) * 20)
    scaled: NDArray[np.int16] = (wave * envelope / np.abs(wave).max() * 9000).astype(np.int16)
    return scaled


def pitch_of(samples: NDArray[np.int16]) -> float:
    """Fundamental frequency by the autocorrelation's first peak, 0 for silence."""
    signal = samples.astype(np.float64)
    if len(signal) < 800 or np.abs(signal).max() < 300:
        return 0.0
    spectrum = np.fft.rfft(signal, 2 * len(signal))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(signal)]
    lags = slice(int(8000 / 320), int(8000 / 100))
    return 8000 / (lags.start + int(np.argmax(correlation[lags])))


async def watch(switch: Switch, session: str, say: Callable[[str, str], None]) -> None:
    """Prints the API's live events of the session, as an operator's screen would show them."""
    async with switch.api.stream("GET", "/v1/events/stream", timeout=None) as stream:
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:") and session in line:
                say("api", name)
