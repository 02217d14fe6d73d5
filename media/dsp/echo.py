"""The echo of our own decoy, found and taken out of what a leg's detector hears.

A bridge returns a part of what it is sent: the hybrid of an analogue telephone, a loudspeaker before a microphone. To
the detector an echo of `media.dsp.decoy` is a rival of either tone of a key, as it is meant to be for everybody else;
but we know what was sent (ITU-T G.168 names the parts: bulk delay, echo path, double talk).

**Bulk delay.** Each frame's window of 25 ms, received and sent, is projected on the eight frequencies of ITU-T Q.23.
For each delay that there can be, in steps of 20 ms, the products of both are averaged over two seconds, each frequency
by itself since each has a gain of its own; where they agree best, between two steps by a parabola, is the delay.

**Echo path.** With the sent frame shifted by it, each frequency's gain is a weighted mean. The path is the shortest
filter that has these gains, its taps the dearer the farther from the bulk delay they are: that keeps the gains of
frequencies that were seldom sent near their neighbours'.

**Double talk.** A key is louder than the echo. What fits the path badly counts with the inverse of how badly, so keys
that are pressed all the time make the means slower and not wrong.

Nothing is taken out before a delay has stood still for half a second. State is a row of `Echoes`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from media.arrays import Bool, Complex64, Float32, Index, Int16, Int32
from media.dsp.tones import COLUMN_FREQUENCIES_HZ, ROW_FREQUENCIES_HZ
from media.protocol import FRAME_SAMPLES, SAMPLE_RATE_HZ

#: Longest delay that is looked for, in frames; half a second.
MOST_FRAMES: Final = 26
#: Least delay: what is sent in a tick can come back in the next one.
LEAST: Final = FRAME_SAMPLES
WINDOW: Final = 200
#: Taps, and how far from the middle they cost e^½ as much.
TAPS: Final = 65
WIDTH: Final = 16.0
#: Frames between two looks at a row's delay and path.
LOOK_FRAMES: Final = 5
#: Share of the past that remains after a frame.
MEMORY: Final = 0.99
#: Frames after which a path is settled; then all delays are looked at in one frame of so many only.
SETTLED: Final = 100
SPARE: Final = 4
#: Rows that may all learn in every frame.
LEARNING: Final = 256
#: Frames until a new delay is believed.
PROVING: Final = 30
#: Frames after the decoy's beginning in which an echo that is not known yet is the likelier cause of a key.
BEGINNING: Final = 75
#: The same while nobody can know whether there is one.
FIRST: Final = 20
#: Agreement of received and sent, summed over the frequencies (8 is all), below which there is no echo to speak of.
LEAST_AGREEMENT: Final = 1.6
#: Times one over the frames that were compared: what chance makes agree.
BY_CHANCE: Final = 20.0
#: Share of the power of what is heard that a path may leave.
DOUBT: Final = 0.5
#: A delay that moves less than this, in samples, is the same.
SAME_DELAY: Final = 140
#: Error of a delay told by steps of 20 ms.
COARSE_ERROR: Final = 50.0
#: The path is moved to the middle of its taps when it lies at least this many samples aside.
MIDDLE: Final = 12

_REACH: Final = TAPS // 2
_RING: Final = (MOST_FRAMES + 4) * FRAME_SAMPLES
#: Greatest delay, in samples.
_MOST: Final = LEAST + MOST_FRAMES * FRAME_SAMPLES
_HERTZ: Final = np.array(ROW_FREQUENCIES_HZ + COLUMN_FREQUENCIES_HZ)
_TURNS: Final = 2 * np.pi / SAMPLE_RATE_HZ * _HERTZ
_PROJECTION: Final = (
    np.exp(-1j * np.outer(np.arange(WINDOW), _TURNS)) * np.hanning(WINDOW + 2)[1:-1, None]
).astype(np.complex64)
#: A tone of one unit in a window gives half of this.
_GAIN: Final = float(np.hanning(WINDOW + 2).sum())
#: Amplitude below which a frequency's rest is noise, for the weights.
_FLOOR: Final = (30 * _GAIN / 2) ** 2
#: Amplitude that a frequency is taken to have before anything is known: what comes later counts more.
_LOUD: Final = 4_000 * _GAIN / 2
_OFFSETS: Final = np.arange(TAPS) - TAPS // 2
_COST: Final = np.exp(-0.5 * (_OFFSETS / WIDTH) ** 2)
_RESPONSE: Final = np.exp(-1j * np.outer(_TURNS, _OFFSETS))
"""Of each tap at each frequency, `(8, TAPS)`."""
_REAL: Final = np.concatenate((_RESPONSE.real, _RESPONSE.imag))
_GRAM: Final = (_REAL * _COST) @ _REAL.T
#: Where the path may lie beside the bulk delay.
_ASIDE: Final = np.arange(-160, 161, 4, dtype=np.int32)
_SHIFTS: Final = np.exp(1j * np.outer(_TURNS, _ASIDE)).astype(np.complex64)
_RIDGE: Final = 0.005
#: Samples that a frame's echo is made of, and the window before its end.
_SPAN: Final = max(WINDOW, FRAME_SAMPLES + _REACH) + _REACH
#: Of the transforms: the span fits, and what wraps round lies before the frame.
_LENGTH: Final = 256
#: Rows at a time: what is made of them on the way then stays in the cache.
_ROWS: Final = 64
_FREQUENCIES: Final = len(_HERTZ)


class Echoes:
    """What is known of each leg's echo.

    Args:
        capacity: rows that there can be. Memory is used by rows that are.
    """

    def __init__(self, capacity: int) -> None:
        shape = capacity, _FREQUENCIES
        self.sent: Int16 = np.zeros((capacity, 2 * _RING), np.int16)
        """What was sent, each frame in two places, so that what lies behind any moment is in one piece."""
        self._spans = np.lib.stride_tricks.sliding_window_view(self.sent, _SPAN, axis=1)
        self.hops: Complex64 = np.zeros((capacity, 2 * MOST_FRAMES, _FREQUENCIES), np.complex64)
        """The same as projections, likewise."""
        self.heard: Float32 = np.zeros((capacity, WINDOW), np.float32)
        self.products: Complex64 = np.zeros((capacity, MOST_FRAMES, _FREQUENCIES), np.complex64)
        self.sent_power: Float32 = np.zeros(shape, np.float32)
        self.heard_power: Float32 = np.zeros(shape, np.float32)
        self.level: Float32 = np.full(shape, _LOUD, np.float32)
        """Mean amplitude of what is heard; its median, and that of what the path leaves of it."""
        self.usual: Float32 = np.full(shape, _LOUD, np.float32)
        self.rest: Float32 = np.full(shape, _LOUD, np.float32)
        self.cross: Complex64 = np.zeros(shape, np.complex64)
        self.power: Float32 = np.zeros(shape, np.float32)
        self.gains: Complex64 = np.zeros(shape, np.complex64)
        self.path: Complex64 = np.zeros((capacity, _LENGTH // 2 + 1), np.complex64)
        """The spectrum of its taps."""
        self.delay: Int32 = np.zeros(capacity, np.int32)
        """In samples; 0 while none is known."""
        self.coarse: Float32 = np.zeros(capacity, np.float32)
        """The delay as the averages of 20 ms steps tell it."""
        self.stood: Int32 = np.zeros(capacity, np.int32)
        """Frames since it moved."""
        self.taught: Int32 = np.zeros(capacity, np.int32)
        """Frames that were compared."""
        self.age: Int32 = np.zeros(capacity, np.int32)
        """Frames since the decoy, or the stream, began."""
        self.agrees: Bool = np.zeros(capacity, np.bool_)
        self.frames = 0

    def clear(self, row: int) -> None:
        """Overwrites all that is known of a row."""
        self.sent[row] = self.hops[row] = self.heard[row] = 0
        self.restart(row)

    def restart(self, row: int) -> None:
        """The stream that comes is another one: what was sent remains."""
        self.heard[row] = self.products[row] = self.sent_power[row] = self.heard_power[row] = 0
        self.level[row] = self.usual[row] = self.rest[row] = _LOUD
        self.delay[row] = self.stood[row] = self.coarse[row] = self.taught[row] = self.age[row] = 0
        self.agrees[row] = False
        self._forget_path(np.array([row]))

    def _forget_path(self, rows: Index) -> None:
        self.cross[rows] = self.power[rows] = self.gains[rows] = self.path[rows] = 0

    def unsure(self, row: int) -> bool:
        """Whether a decoy has just begun: a part of its echo, if it has one, may look like a key until it is known."""
        known = self.stood[row] > PROVING or not self.agrees[row]
        return bool(self.age[row] <= (FIRST if known else BEGINNING))

    # The tick

    def take_out(self, rows: Index, frames: Int16, whole: Bool) -> None:
        """Takes the echo out of frames and learns from them.

        Args:
            rows: legs that a decoy plays on.
            frames: `(legs, FRAME_SAMPLES)` received; those of `rows` are changed.
            whole: `(legs,)`: legs whose frame arrived, all of it. Others are not changed and teach nothing.
        """
        # Many that begin at once learn more slowly: a tick has room for so much.
        rest = 1 + len(self._unsettled(rows)) // LEARNING
        for start in range(0, len(rows), _ROWS):
            # Parts take turns at what is not done in every frame.
            self._take_out(rows[start : start + _ROWS], frames, whole, self.frames + start // _ROWS, rest)

    def _take_out(self, rows: Index, frames: Int16, whole: Bool, turn: int, rest: int) -> None:
        self.heard[rows, :-FRAME_SAMPLES] = self.heard[rows, FRAME_SAMPLES:]
        self.heard[rows, -FRAME_SAMPLES:] = frames[rows]
        self.age[rows] += 1
        rows = rows[whole[rows]]
        unsettled = rows[:0] if turn % rest else self._unsettled(rows)
        learning = unsettled if turn % SPARE else rows
        if learning.size:
            self._compare(learning)
        placed = rows[self.delay[rows] > 0]
        if placed.size:
            self._follow(placed, frames, turn)
        if turn % LOOK_FRAMES == 0:
            looked = unsettled if turn % (SPARE * LOOK_FRAMES) else rows
            if looked.size:
                self._find_delay(looked)
                self._doubt(looked)
                self._find_path(looked[self.delay[looked] > 0])

    def _unsettled(self, rows: Index) -> Index:
        """Those that still learn; where nothing has come back for a while nothing is likely to."""
        likely = self.agrees[rows] | (self.age[rows] < 2 * BEGINNING)
        return rows[likely & (self.stood[rows] < SETTLED)]

    def keep(self, rows: Index, frames: Int16) -> None:
        """Remembers what is sent in this tick, after `take_out`.

        Args:
            rows: as there.
            frames: `(rows, FRAME_SAMPLES)`.
        """
        self.frames += 1
        at = self.frames * FRAME_SAMPLES % _RING
        end = at + FRAME_SAMPLES
        self.sent[rows, at:end] = self.sent[rows, at + _RING : end + _RING] = frames
        window = self.sent[rows, end + _RING - WINDOW : end + _RING].astype(np.float32)
        place = self.frames % MOST_FRAMES
        self.hops[rows, place] = self.hops[rows, place + MOST_FRAMES] = window @ _PROJECTION

    def _compare(self, rows: Index) -> None:
        """What comes with all that may have caused it."""
        heard = self.heard[rows] @ _PROJECTION
        place = self.frames % MOST_FRAMES
        # The newest last.
        sent = self.hops[rows, place + 1 : place + 1 + MOST_FRAMES]
        size = np.abs(heard)
        self.taught[rows] += 1
        level = self.level[rows] = self.level[rows] + 0.03 * (size - self.level[rows])
        self.usual[rows] = _median(self.usual[rows], size)
        weight = 1 / (np.square(size) + np.square(level) + _FLOOR)
        products = self.products[rows]
        products *= np.float32(MEMORY)
        products += (weight * heard)[:, None] * sent.conj()
        self.products[rows] = products
        sent_power = np.square(np.abs(sent[:, -1]))
        self.sent_power[rows] = MEMORY * self.sent_power[rows] + weight * sent_power
        self.heard_power[rows] = MEMORY * self.heard_power[rows] + weight * np.square(size)

    def _follow(self, rows: Index, frames: Int16, turn: int) -> None:
        """The echo where it is: taken out of `frames` once the path has proved itself, and learned from."""
        now = self.frames * FRAME_SAMPLES % _RING + FRAME_SAMPLES + _RING
        end = now - self.delay[rows] + FRAME_SAMPLES + _REACH
        start = np.where(end > 2 * _RING, end - _RING, end) - _SPAN
        window = self._spans[rows, start].astype(np.float32)
        self.stood[rows] += 1
        proved = self.agrees[rows] & (self.stood[rows] > PROVING)
        known = rows[proved]
        if known.size:
            spectrum = np.fft.rfft(window if proved.all() else window[proved], _LENGTH)
            spectrum *= self.path[known]
            left = frames[known] - np.fft.irfft(spectrum, _LENGTH)[:, _SPAN - FRAME_SAMPLES : _SPAN]
            np.rint(left, out=left)
            frames[known] = np.clip(left, -32768, 32767, out=left)
        if turn % 2:
            fresh = self.stood[rows] < SETTLED
            rows, window = rows[fresh], window[fresh]
        heard = self.heard[rows] @ _PROJECTION
        shifted = window[:, -_REACH - WINDOW : -_REACH] @ _PROJECTION
        size = np.abs(heard - self.gains[rows] * shifted)
        rest = self.rest[rows] = _median(self.rest[rows], size)
        weight = 1 / (np.square(size) + np.square(rest) + _FLOOR)
        self.cross[rows] = MEMORY * self.cross[rows] + weight * heard * shifted.conj()
        self.power[rows] = MEMORY * self.power[rows] + weight * np.square(np.abs(shifted))

    def _doubt(self, rows: Index) -> None:
        """A path that leaves most of what is heard is one of the past: weights of then would outweigh what is now."""
        left = np.square(self.rest[rows]).sum(axis=1) > DOUBT * np.square(self.usual[rows]).sum(axis=1)
        wrong = rows[left & (self.stood[rows] >= 2 * PROVING)]
        self.rest[wrong] = _LOUD
        self.stood[wrong] = 0
        # What is looked for now is another delay.
        for mean in (self.products, self.sent_power, self.heard_power):
            mean[wrong] *= np.float32(0.1)
        self._forget_path(wrong)

    def _find_delay(self, rows: Index) -> None:
        # Of frequencies that were heard and sent; the newest last, turned round.
        bound = (self.sent_power[rows] * self.heard_power[rows])[:, None]
        agreement = (np.square(np.abs(self.products[rows])) / np.maximum(bound, 1e-12)).sum(axis=2)[:, ::-1]
        best, lane = agreement.argmax(axis=1), np.arange(len(rows))
        before, at, after = (
            np.sqrt(agreement[lane, np.clip(best + step, 0, MOST_FRAMES - 1)]) for step in (-1, 0, 1)
        )
        between = np.clip(0.5 * (before - after) / np.minimum(before - 2 * at + after, -1e-9), -0.5, 0.5)
        found = LEAST + np.rint((best + between) * FRAME_SAMPLES).astype(np.int32)
        found = np.maximum(found, LEAST + _REACH)
        self.agrees[rows] = at**2 >= LEAST_AGREEMENT + BY_CHANCE / np.maximum(self.taught[rows], 1)
        away = np.abs(found - self.coarse[rows]) > SAME_DELAY
        self.coarse[rows] = np.where(away, found, self.coarse[rows] + 0.2 * (found - self.coarse[rows]))
        moved = rows[self.agrees[rows] & (np.abs(self.coarse[rows] - self.delay[rows]) > SAME_DELAY)]
        self.delay[moved] = np.rint(self.coarse[moved])
        self.stood[moved] = 0
        self._forget_path(moved)

    def _find_path(self, rows: Index) -> None:
        if not rows.size:
            return
        power = self.power[rows]
        gains = self.cross[rows] / np.maximum(power, 1e-12)
        beside = (self.delay[rows] - self.coarse[rows])[:, None] + _ASIDE
        likely = np.exp(-np.square(beside / COARSE_ERROR))
        middle = _ASIDE[(np.square(np.abs(gains @ _SHIFTS)) * likely).argmax(axis=1)]
        aside = (np.abs(middle) >= MIDDLE) & (self.stood[rows] >= LOOK_FRAMES)
        self._move(rows[aside], middle[aside])
        gains = self.cross[rows] / np.maximum(power, 1e-12)
        share = power / np.maximum(power.mean(axis=1, keepdims=True), 1e-12)
        ridge = np.tile(_RIDGE / np.maximum(share, 0.03), 2)
        target = np.concatenate((gains.real, gains.imag), axis=1)
        solved = np.linalg.solve(_GRAM + ridge[:, :, None] * np.eye(2 * _FREQUENCIES), target[:, :, None])
        taps = (solved[:, :, 0] @ _REAL) * _COST
        self.path[rows] = np.fft.rfft(taps, _LENGTH)
        self.gains[rows] = taps @ _RESPONSE.T

    def _move(self, rows: Index, samples: Int32) -> None:
        """Shifts the bulk delay; gains are those of what is left of the path."""
        samples = np.clip(samples, LEAST + _REACH - self.delay[rows], _MOST - self.delay[rows])
        turn = np.exp(1j * np.outer(samples, _TURNS))
        self.cross[rows] *= turn
        self.gains[rows] *= turn
        self.delay[rows] += samples


def _median(median: Float32, size: Float32) -> Float32:
    """The running median, to a tenth: keys now and then do not move it."""
    moved: Float32 = np.where(size > median, median * 1.15, np.maximum(median / 1.15, 1)).astype(np.float32)
    return moved
