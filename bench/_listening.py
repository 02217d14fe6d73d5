"""What a listener lost: heard G.711 against what was said.

The switch passes µ-law through bit for bit, so every stretch of three milliseconds that was heard is looked for in
what was said, by a rolling hash (Karp and Rabin 1987). That aligns the two without guessing: a sample was either
said, at a known place, or made up on the way. Stretches that were heard before count as made up too.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np

from bench._impairments import Sent
from bench._sounds import Track, pcm_of
from media.arrays import Bool, Float64, Index, Int64, UInt8, UInt64
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

_STRETCH: Final = 24
_FACTOR: Final = 0x9E3779B97F4A7C15
_SAMPLES_A_MS: Final = SAMPLE_RATE_HZ // 1000
#: A frame whose reference is quieter than this (root mean square) is a pause.
_ACTIVE: Final = 100.0
#: Limits of a frame's signal-to-noise ratio, dB, in the mean over frames (Hansen and Pellom 1998).
_SNR_DB: Final = (-10.0, 35.0)
#: Added to each bin's power before the logarithm: silence has none.
_BAND_HZ: Final = (300, 3400)


def _hashes(codes: UInt8) -> UInt64:
    """Of the stretch that begins at each sample: of one code, then of 2, 4, 8, 16 and 24."""
    if len(codes) < _STRETCH:
        return np.zeros(0, np.uint64)
    one = codes.astype(np.uint64) + np.uint64(1)
    two = _joined(one, one, 1)
    four = _joined(two, two, 2)
    eight = _joined(four, four, 4)
    return _joined(_joined(eight, eight, 8), eight, 16)


def _joined(left: UInt64, right: UInt64, length: int) -> UInt64:
    """Hashes of stretches of `length`, each with one of `right` that begins where it ends (modulo 2^64)."""
    weight = np.uint64(pow(_FACTOR, length, 1 << 64))
    after = right[length:]
    return left[: len(after)] * weight + after


class Reference:
    """What was said, ready to be looked up."""

    def __init__(self, track: Track) -> None:
        self.active: Bool = track.active
        self.pcm: Float64 = pcm_of(track.codes).astype(np.float64)
        hashes = _hashes(track.codes)
        self._order: Index = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def places(self, heard: UInt8) -> Int64:
        """Where each heard sample was said, or -1."""
        places = np.full(len(heard), -1, np.int64)
        hashes = _hashes(heard)
        found = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        hits = np.flatnonzero(self._sorted[found] == hashes)
        starts = self._order[found[hits]]
        places[hits] = starts
        # The rest of a stretch, where none begins at the next sample.
        last = np.diff(hits, append=len(heard) + 1) > 1
        for at in range(1, _STRETCH):
            rest = hits[last] + at
            open_still = places[rest] < 0
            places[rest[open_still]] = starts[last][open_still] + at
        return places


@dataclasses.dataclass(frozen=True, slots=True)
class Ear:
    """What arrived at a listener."""

    codes: UInt8
    """Frame after frame, by sequence number."""
    arrival_s: Float64
    """When each frame came, seconds after the sender's start; NaN where it did not."""


def ear_of(packets: list[tuple[float, bytes]]) -> Ear:
    """Orders a worker's packets of 160 µ-law codes.

    Args:
        packets: seconds of arrival and whole packet.
    """
    plain = [each for each in packets if len(each[1]) == 12 + FRAME_SAMPLES and not each[1][1] & 0x7F]
    if not plain:
        return Ear(np.zeros(0, np.uint8), np.zeros(0))
    sequence = np.array([int.from_bytes(each[1][2:4], "big") for each in plain], np.uint16)
    place = np.concatenate(([0], np.cumsum(np.diff(sequence).view(np.int16).astype(np.int64))))
    place -= place.min()
    codes = np.full((int(place.max()) + 1, FRAME_SAMPLES), 0xFF, np.uint8)
    arrival = np.full(len(codes), np.nan)
    for at, (when, packet) in zip(place.tolist(), plain, strict=True):
        codes[at] = np.frombuffer(packet, np.uint8, FRAME_SAMPLES, 12)
        arrival[at] = when
    return Ear(codes.reshape(-1), arrival)


def judge(reference: Reference, sent: Sent, ear: Ear, first_s: float, last_s: float) -> dict[str, Any]:
    """Scores one listener.

    Args:
        reference: what was said.
        sent: how it was sent.
        ear: what was heard.
        first_s: what was said before does not count (the stream settles).
        last_s: nor what was said later.

    Returns:
        `lost_percent` of the speech that was sent; `filled_percent` of what was heard in its time was made
        up or heard before; `longest_gap_ms` of it; `jumps_per_min`, splices at which what is heard goes on
        elsewhere than where it stopped, and `pause_jumps_per_min`, those in pauses, which nobody hears and by
        which a buffer changes its depth; `delay_ms` from the moment a packet was sent to the moment at which
        what was in it came out (median, of the first and of the last tenth, and the 95th percentile);
        `snr_db`, segmental, of frames with speech, 35 is identity; `lsd_db`, log-spectral distance of those
        frames with speech in which something was made up.
    """
    places = reference.places(ear.codes)
    first, last = round(first_s * sent.rate_hz), round(last_s * sent.rate_hz)
    before = np.maximum.accumulate(np.concatenate(([-1], places[:-1]))) if len(places) else places
    fresh = places > before
    scored = np.flatnonzero(fresh & (places >= first) & (places < last))
    speech = sent.carried & reference.active
    wanted = speech[first:last]
    if scored.size < FRAME_SAMPLES:
        return {"lost_percent": 100.0, "filled_percent": 100.0, "longest_gap_ms": (last_s - first_s) * 1000}
    heard = np.zeros(len(wanted), np.bool_)
    heard[places[scored] - first] = True
    result: dict[str, Any] = {
        "lost_percent": round(100 * float((wanted & ~heard).sum() / max(wanted.sum(), 1)), 3)
    }
    result |= _gaps(places[scored], scored, speech, last_s - first_s)
    result |= _delays(places, scored, sent, ear)
    result |= _distances(reference, places, fresh, ear.codes, int(scored[0]), int(scored[-1]))
    return result


def _gaps(said: Int64, at: Index, speech: Bool, seconds: float) -> dict[str, Any]:
    before = np.cumsum(speech)
    heard_step, said_step = np.diff(at), np.diff(said)
    breaks = np.flatnonzero((heard_step > 1) | (said_step > 1))
    heard_step, said_step = heard_step[breaks], said_step[breaks]
    ahead, behind = said[breaks], said[breaks + 1]
    # What lies between, of speech and of pauses; a pause has to be as long as it was, but not of the same noise.
    skipped: Int64 = before[behind - 1] - before[ahead]
    pause: Int64 = said_step - 1 - skipped
    in_speech = (skipped > 0) | speech[ahead] | speech[behind]
    gaps = np.where(in_speech, np.maximum(heard_step - 1 - pause, 0), 0)
    jumps = heard_step != said_step
    heard = int(speech[said].sum())
    return {
        "filled_percent": round(100 * float(gaps.sum() / max(gaps.sum() + heard, 1)), 3),
        "longest_gap_ms": round(float(gaps.max(initial=0)) / _SAMPLES_A_MS, 1),
        "jumps_per_min": round(int((jumps & in_speech & (pause == 0)).sum()) * 60 / seconds, 1),
        "pause_jumps_per_min": round(int((jumps & ~(in_speech & (pause == 0))).sum()) * 60 / seconds, 1),
    }


def _delays(places: Int64, scored: Index, sent: Sent, ear: Ear) -> dict[str, Any]:
    heads = scored[scored % FRAME_SAMPLES == 0]
    heads = heads[~np.isnan(ear.arrival_s[heads // FRAME_SAMPLES])]
    if not heads.size:
        return {}
    audio = sent.packets[sent.packets["sample"] >= 0]
    said = places[heads]
    owner = np.searchsorted(audio["sample"], said, "right") - 1
    left = audio["time"][owner] + (said - audio["sample"][owner]) / sent.rate_hz
    delay = (ear.arrival_s[heads // FRAME_SAMPLES] - left) * 1000
    tenth = max(1, len(delay) // 10)
    return {
        "delay_ms": round(float(np.median(delay)), 1),
        "delay_first_ms": round(float(np.median(delay[:tenth])), 1),
        "delay_last_ms": round(float(np.median(delay[-tenth:])), 1),
        "delay_p95_ms": round(float(np.percentile(delay, 95)), 1),
    }


def _distances(
    reference: Reference, places: Int64, fresh: Bool, codes: UInt8, first: int, last: int
) -> dict[str, Any]:
    """Frame by frame against what would have been heard had the delay stayed what it was last."""
    known = np.where(fresh, np.arange(len(places)), -1)
    newest = np.maximum.accumulate(known)
    aligned = places[np.maximum(newest, 0)] + np.arange(len(places)) - newest
    begin = -(-first // FRAME_SAMPLES) * FRAME_SAMPLES
    end = last // FRAME_SAMPLES * FRAME_SAMPLES
    if end <= begin:
        return {}
    aligned = np.clip(aligned[begin:end], 0, len(reference.pcm) - 1)
    said = reference.pcm[aligned].reshape(-1, FRAME_SAMPLES)
    heard = pcm_of(codes[begin:end]).astype(np.float64).reshape(-1, FRAME_SAMPLES)
    active = np.sqrt(np.mean(said**2, axis=1)) > _ACTIVE
    noise = np.mean((said - heard) ** 2, axis=1)
    ratio = 10 * np.log10(np.mean(said**2, axis=1) / np.maximum(noise, 1e-9) + 1e-9)
    made_up = active & ~fresh[begin:end].reshape(-1, FRAME_SAMPLES).all(axis=1)
    result: dict[str, Any] = {
        "snr_db": round(float(np.mean(np.clip(ratio, *_SNR_DB)[active])), 2) if active.any() else _SNR_DB[1]
    }
    result["lsd_db"] = round(_log_spectral(said[made_up], heard[made_up]), 2) if made_up.any() else 0.0
    return result


def _log_spectral(said: Float64, heard: Float64) -> float:
    window = np.hanning(FRAME_SAMPLES)
    low, high = (edge * FRAME_SAMPLES // SAMPLE_RATE_HZ for edge in _BAND_HZ)
    floor = float(np.sum(window**2)) * 10.0**2
    levels = [
        10 * np.log10(np.abs(np.fft.rfft(frames * window, axis=1)[:, low:high]) ** 2 + floor)
        for frames in (said, heard)
    ]
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=1))))


def compare_keys(pressed: list[int], received: list[int]) -> dict[str, int]:
    """Counts what became of keys: the alignment with the fewest errors (Levenshtein).

    Returns:
        `keys` pressed, `missed`, `doubled` (one too many, of the same code as its neighbour), `wrong` (another
        code, or one that was never pressed).
    """
    head = 0
    while head < min(len(pressed), len(received)) and pressed[head] == received[head]:
        head += 1
    ours, theirs = pressed[head:], received[head:]
    tail = 0
    while tail < min(len(ours), len(theirs)) and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1
    ours, theirs = ours[: len(ours) - tail], theirs[: len(theirs) - tail]
    costs = [list(range(len(theirs) + 1))]
    for row, code in enumerate(ours, 1):
        above, line = costs[-1], [row]
        for column, other in enumerate(theirs, 1):
            line.append(min(above[column - 1] + (code != other), above[column] + 1, line[-1] + 1))
        costs.append(line)
    counts = {"keys": len(pressed), "missed": 0, "doubled": 0, "wrong": 0}
    row, column = len(ours), len(theirs)
    while row or column:
        cost = costs[row][column]
        if row and column and cost == costs[row - 1][column - 1] + (ours[row - 1] != theirs[column - 1]):
            counts["wrong"] += ours[row - 1] != theirs[column - 1]
            row, column = row - 1, column - 1
        elif row and cost == costs[row - 1][column] + 1:
            counts["missed"] += 1
            row -= 1
        else:
            place = head + column - 1
            again = received[place] in received[max(place - 1, 0) : place] + received[place + 1 : place + 2]
            counts["doubled" if again else "wrong"] += 1
            column -= 1
    return counts
