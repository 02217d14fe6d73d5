"""What `bench worker_loss` makes of what its telephones heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from bench._loss_telephones import EVENT_TYPE
from media.arrays import Bool, Float64, Int16, Int32
from media.dsp import g711, tones
from media.dsp.g711 import AMPLITUDE_0_DBM0
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ, KeyWay
from sipivr.calls.media_link import LossFigures

#: Comfort noise is at -50 dBm0; its peaks and its tones stay below these.
NOISE_PEAK: Final = 400
NOISE_TONE_DBM0: Final = -55.0
#: What was under way at the moment of a kill is received up to so much later, two looks of the telephones.
_UNDER_WAY_S: Final = 0.04
_THE_END_S: Final = 1.0
_WINDOW: Final = 5 * FRAME_SAMPLES
_CONTROL_SAMPLES: Final = 10 * SAMPLE_RATE_HZ


@dataclass
class PlayedCall:
    """A call of the bench, and what its owner was told.

    Attributes:
        captured: the customer is masked and keys.
        worker: that carried it.
        keys: when, and by which way.
        refused: why it could not be restored.
    """

    captured: bool
    worker: int
    keys: list[tuple[float, KeyWay]] = field(default_factory=list)
    faults: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass
class Losses:
    """What was done, by the clock of the telephones; `limit_ms` is the longest silence, 0 for any."""

    calls: list[PlayedCall]
    limit_ms: int = 0
    killed_at: list[float] = field(default_factory=list)
    killed_worker: list[int] = field(default_factory=list)
    ended: float = 0.0
    figures: LossFigures = field(default_factory=LossFigures)


class Verdict:
    """What is wrong, as sentences, and the figures.

    Args:
        heard: columns of all packets that the telephones received (`bench._loss_telephones`).
        losses: what was done.
    """

    def __init__(self, heard: dict[str, Any], losses: Losses) -> None:
        self.wrong: list[str] = []
        self._heard = heard
        self._losses = losses
        peaks: Int32 = np.abs(g711.DECODE[0][heard["audio"]].astype(np.int32)).max(axis=1)
        self._loud: Bool = peaks > NOISE_PEAK
        self._peaks = peaks
        self._late: Bool = heard["time"] > losses.ended - _THE_END_S
        self._rtp_gaps: list[float] = []
        self._silences: list[float] = []
        self._masked_peak, self._masked_tone, self._open_tone = 0, -120.0, -120.0
        self._masked_events = 0
        for number, call in enumerate(losses.calls):
            self._judge(number, call)
        self._judge_all()

    def _judge(self, number: int, call: PlayedCall) -> None:
        losses = self._losses
        customer: Bool = self._heard["leg"] == 2 * number
        operator: Bool = self._heard["leg"] == 2 * number + 1
        kills = [
            at
            for at, worker in zip(losses.killed_at, losses.killed_worker, strict=True)
            if worker == call.worker
        ]
        for name, leg in (("customer", customer), ("operator", operator)):
            found = len(np.unique(self._heard["ssrc"][leg]))
            if found != len(kills) + 1:
                self._blame(number, f"the {name} heard {found} SSRCs after {len(kills)} losses")
        for kill in kills:
            self._rtp_gaps.append(_gap_ms(self._heard["time"][customer], kill))
            self._silences.append(_gap_ms(self._heard["time"][customer & self._loud], kill))
        if not (customer & self._loud & self._late).any():
            self._blame(number, "the customer hears nothing at the end")
        if call.captured:
            self._judge_masked(number, call, operator)
        else:
            self._judge_open(number, operator)
        for sentence in call.refused:
            self._blame(number, sentence)
        if call.faults:
            self._blame(number, f"{call.faults} faults of legs")

    def _judge_masked(self, number: int, call: PlayedCall, operator: Bool) -> None:
        if set(self._heard["type"][operator].tolist()) != {0}:
            self._blame(number, "the operator got packets that are no audio")
        self._masked_events += int((self._heard["type"][operator] == EVENT_TYPE).sum())
        self._masked_peak = max(self._masked_peak, int(self._peaks[operator].max()))
        self._masked_tone = max(self._masked_tone, loudest_tone_dbm0(self._recording(operator)))
        for way in (KeyWay.INBAND, KeyWay.RFC4733):
            if not any(at > self._losses.ended - _THE_END_S and by is way for at, by in call.keys):
                self._blame(number, f"no key by {way.value} is decoded at the end")

    def _judge_open(self, number: int, operator: Bool) -> None:
        if not (operator & self._loud & self._late).any():
            self._blame(number, "the operator hears nothing at the end")
        found = loudest_tone_dbm0(self._recording(operator)[:_CONTROL_SAMPLES])
        self._open_tone = max(self._open_tone, found)

    def _judge_all(self) -> None:
        losses, figures = self._losses, self._losses.figures
        if self._masked_peak > NOISE_PEAK or self._masked_tone > NOISE_TONE_DBM0:
            self.wrong.append("an operator heard something of a masked customer")
        if self._open_tone <= NOISE_TONE_DBM0 and not all(call.captured for call in losses.calls):
            self.wrong.append("the check is too weak: it finds no tone in open speech either")
        if figures.workers_lost != len(losses.killed_at):
            self.wrong.append(f"{figures.workers_lost} workers were lost")
        if figures.calls_restored != self._expected:
            self.wrong.append(f"{figures.calls_restored} of {self._expected} calls were restored")
        if losses.limit_ms and max(self._silences, default=0.0) > losses.limit_ms:
            self.wrong.append("a customer heard nothing for too long")

    @property
    def _expected(self) -> int:
        workers = [call.worker for call in self._losses.calls]
        return sum(workers.count(worker) for worker in self._losses.killed_worker)

    @property
    def figures(self) -> dict[str, Any]:
        """For the bench's last line; gaps and silences are the customers', in milliseconds."""
        figures = self._losses.figures
        return {
            "calls_restored": figures.calls_restored,
            "calls_lost": self._expected - figures.calls_restored,
            "restore_ms_max": figures.restore_ms_max,
            "rtp_gap_ms_p50": _middle(self._rtp_gaps),
            "rtp_gap_ms_max": round(max(self._rtp_gaps, default=0.0), 1),
            "silence_ms_p50": _middle(self._silences),
            "silence_ms_max": round(max(self._silences, default=0.0), 1),
            "keys_decoded": sum(len(call.keys) for call in self._losses.calls),
            "masked_peak": self._masked_peak,
            "masked_tone_dbm0": round(self._masked_tone, 1),
            "masked_events": self._masked_events,
            "open_tone_dbm0": round(self._open_tone, 1),
        }

    def _recording(self, leg: Bool) -> Int16:
        pcm: Int16 = g711.DECODE[0][self._heard["audio"][leg]].reshape(-1)
        return pcm

    def _blame(self, number: int, sentence: str) -> None:
        self.wrong.append(f"call {number}: {sentence}")


def loudest_tone_dbm0(recording: Int16) -> float:
    """The loudest of the eight tones of keys in any 100 ms of a recording (ITU-T Q.23)."""
    windows = recording[: len(recording) // _WINDOW * _WINDOW].reshape(-1, _WINDOW).astype(np.float64)
    if not len(windows):
        return -120.0
    frequencies = np.array([*tones.ROW_FREQUENCIES_HZ, *tones.COLUMN_FREQUENCIES_HZ])
    angles = 2j * np.pi * frequencies[:, None] * np.arange(_WINDOW) / SAMPLE_RATE_HZ
    taper = np.hanning(_WINDOW)
    found = np.abs((windows * taper) @ np.exp(-angles).T) / (taper.sum() / 2)
    return float(20 * np.log10(max(found.max(), 1e-6) / AMPLITUDE_0_DBM0))


def _gap_ms(times: Float64, kill: float) -> float:
    """How long nothing came around a moment."""
    before, after = times[times <= kill + _UNDER_WAY_S], times[times > kill + _UNDER_WAY_S]
    if not len(before) or not len(after):
        return float("inf")
    return float(after.min() - before.max()) * 1000


def _middle(values: list[float]) -> float:
    return round(float(np.median(values)), 1) if values else 0.0
