"""Speech and music in which nobody presses a key, for the talk-off part of `bench dtmf`.

Recorded speech: Debian's `asterisk-core-sounds-*-wav` (CC BY-SA 3.0), four women and a man in five languages, and the
music of `asterisk-moh-opsound-wav`. Synthesised speech: the engines and voices that the switch's own prompts can have,
Open JTalk's and those of eSpeak NG in many languages, sexes and pitches. Single keys of the recorded prompts
(`dtmf-*.wav`, tones and beeps) are left out: they hold tones on purpose.
"""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from scipy import signal
from scipy.io import wavfile

from media.arrays import Float64
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import SAMPLE_RATE_HZ
from sipivr.prompts.engines import EngineError, OpenJTalkEngine

_SOUNDS: Final = Path("/usr/share/asterisk/sounds")
_MUSIC: Final = Path("/usr/share/asterisk/moh")
#: How to get what is missing.
HOW_TO_GET: Final = (
    "apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-es-wav asterisk-core-sounds-fr-wav "
    "asterisk-core-sounds-it-wav asterisk-core-sounds-ru-wav asterisk-moh-opsound-wav espeak-ng"
)
#: Recordings that hold tones: no speech.
_TONES: Final = (
    "dtmf",
    "beep",
    "tone",
    "ascending",
    "descending",
    "spy-",
    "confbridge-join",
    "confbridge-leave",
)
#: Voices of eSpeak NG: language and variant.
_ESPEAK: Final = (
    *("en-us", "en-us+f2", "en-us+f4", "en-us+m3", "en-us+m7", "en-gb", "en-gb-scotland+f3", "en-gb-x-rp"),
    *("ja", "ja+f2", "cmn", "cmn+f5", "ko+f1", "de", "de+f3", "fr-fr+f4", "es+m2", "it+f1", "pt-br", "ru+f2"),
    *("nl+m4", "sv+f5", "pl", "tr+f3", "hi+f1", "vi"),
)
_PITCHES: Final = (20, 50, 85)
_TEXTS: Final = {
    "ja": (
        "お電話ありがとうございます。ただいま担当者におつなぎしておりますので、そのままお待ちください。"
        "カード番号を、ボタンで押してください。有効期限は、月、年の順に、四桁で押してください。"
        "ご注文の合計は、一万二千三百四十五円です。お届けは来週の水曜日の午前中になります。"
        "東京都千代田区丸の内一丁目、電話番号は、ゼロ三、一二三四、五六七八です。少々お待ちくださいませ。"
    ),
    "": (
        "Good morning, thank you for calling. Your order number is four seven one one, and it will be sent today. "
        "Would you tell me the name on the card, please? Yes, I am still here, there is a little noise on the line. "
        "The total is one hundred and twenty three euros and forty five cents, including delivery to your home. "
        "We open at nine, we close at half past six, and on Sundays a machine answers. Oh no, wait a moment, "
        "my daughter is calling me. Nine, eight, seven, six, five, four, three, two, one, zero. "
        "Really? That is wonderful, see you on Wednesday, goodbye!"
    ),
}


class Source(NamedTuple):
    """Some audio without keys."""

    name: str
    kind: str
    """`recorded`, `synthesised` or `music`."""
    samples: Float64
    """8 kHz, its active part at 0 dBm0."""


def sources(progress: Callable[[str], None]) -> list[Source]:
    """Everything that this machine has."""
    found = [*_recorded(), *_music()]
    progress(f"recordings: {sum(len(one.samples) for one in found) / SAMPLE_RATE_HZ / 60:.0f} minutes")
    voices = [*_open_jtalk()]
    for number, one in enumerate(_espeak()):
        voices.append(one)
        if number % 13 == 12:
            progress(f"voices of eSpeak NG: {number + 1} of {len(_ESPEAK) * len(_PITCHES)}")
    return found + voices


def _recorded() -> Iterator[Source]:
    """One source for each speaker."""
    for speaker in sorted(_SOUNDS.glob("*_*_*_*")) if _SOUNDS.exists() else ():
        parts = [
            _wav(path)
            for path in sorted(speaker.rglob("*.wav"))
            if not any(word in path.stem.lower() for word in _TONES)
        ]
        if parts:
            yield Source(speaker.name, "recorded", np.concatenate([levelled(part) for part in parts]))


def _music() -> Iterator[Source]:
    for path in sorted(_MUSIC.rglob("*.wav")) if _MUSIC.exists() else ():
        yield Source(path.stem, "music", levelled(_wav(path)))


def _open_jtalk() -> Iterator[Source]:
    engine = OpenJTalkEngine()
    try:
        speech = engine.speak(_TEXTS["ja"])
    except EngineError:
        return
    yield Source("open_jtalk mei", "synthesised", levelled(at_8_khz(speech.samples, speech.rate_hz)))


def _espeak() -> Iterator[Source]:
    for voice in _ESPEAK:
        text = _TEXTS["ja"] if voice.startswith("ja") else _TEXTS[""]
        for pitch in _PITCHES:
            arguments = ["espeak-ng", "-v", voice, "-p", str(pitch), "-b", "1", "--stdin", "--stdout"]
            try:
                done = subprocess.run(
                    arguments, input=text.encode(), capture_output=True, timeout=60, check=True
                )
            except (OSError, subprocess.SubprocessError):
                continue
            samples = np.frombuffer(done.stdout[44 : len(done.stdout) // 2 * 2], "<i2").astype(np.float64)
            if len(samples):
                name = f"espeak {voice} {pitch}"
                yield Source(name, "synthesised", levelled(at_8_khz(samples, 22_050)))


def _wav(path: Path) -> Float64:
    rate, samples = wavfile.read(path)
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    return at_8_khz(mono.astype(np.float64), int(rate))


def at_8_khz(samples: Float64, rate_hz: int) -> Float64:
    if rate_hz == SAMPLE_RATE_HZ:
        return samples
    common = math.gcd(SAMPLE_RATE_HZ, rate_hz)
    resampled: Float64 = signal.resample_poly(samples, SAMPLE_RATE_HZ // common, rate_hz // common)
    return resampled


def levelled(samples: Float64) -> Float64:
    """The same with its active part at 0 dBm0: frames within 25 dB of the loudest (cf. ITU-T P.56)."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    power = np.mean(frames**2, axis=1) if len(frames) else np.zeros(0)
    if not power.size or not power.max():
        return samples
    active = power[power > power.max() / 316]
    level: Float64 = samples * (AMPLITUDE_0_DBM0 / np.sqrt(2) / np.sqrt(active.mean()))
    return level


def digest(found: list[Source]) -> str:
    """Names the material: another one has another digest."""
    hashed = hashlib.sha256()
    for one in found:
        hashed.update(f"{one.name} {len(one.samples)}".encode())
    return hashed.hexdigest()[:12]
