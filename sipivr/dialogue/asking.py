"""One field being asked for: the key grammar, the waits and the reminders, the same for every field.

    SPEAKING ──prompt ended──► LISTENING ──#, full or time-out──► QUIET ──600 ms without a key──► ended
        └──────────digit (barge-in)──┘ ▲
        ▲                              │
        └──────reminder, hint, `*`─────┘

- `#` ends a field that has digits, `*` clears it; in an empty field either is ignored. (`*#` is `machine`'s.)
- A full field ends itself. After its end keys are dropped until there was quiet.
- Silence is no mistake: the digits stay and a reminder says how many there are. Only silences in a row count.
- A field that is asked for again because the line was lost begins `TELLING`: that is heard out, and keys of the
  customer who keyed on and noticed nothing are dropped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sipivr.dialogue.effects import FieldName, TimerName
from sipivr.dialogue.phrases import DigitCount, Phrase, PhraseKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipivr.dialogue.outbox import Outbox
    from sipivr.dialogue.params import DialogueParams, FieldTimes
    from sipivr.dialogue.voice import Voice

STAR: Final = 10
POUND: Final = 11

_FINISH_WITH_POUND: Final = Phrase(PhraseKey.FINISH_WITH_POUND)


class Entry(Protocol):
    """What the digits of a field go into (`sipivr.card`'s entries and the identification number)."""

    @property
    def length(self) -> int:
        """Digits so far."""

    @property
    def full(self) -> bool:
        """No further digit can belong to the field."""

    @property
    def complete(self) -> bool:
        """This may be the whole field."""

    def append(self, key: int) -> None:
        """Appends a digit."""

    def clear(self) -> None:
        """Overwrites and forgets the digits; the entry is used again."""


@dataclass(frozen=True, slots=True)
class Script:
    """How a field is asked for.

    Attributes:
        field: its name.
        times: its waits.
        prompt: the question.
        so_far: the reminder when some digits have arrived; takes their number.
        hint: said once in a long silence before the first digit.
        hint_s: after how much silence.
    """

    field: FieldName
    times: FieldTimes
    prompt: tuple[Phrase, ...]
    so_far: PhraseKey
    hint: Phrase | None = None
    hint_s: float = 0


#: Told to its end before the question; what is keyed meanwhile was meant for a field that was given up, and
#: would be taken for the beginning of the new one.
_HEARD_OUT: Final = frozenset({PhraseKey.LINE_RESTORED})


class Phase(enum.StrEnum):
    """Where the asking is."""

    IDLE = "idle"
    TELLING = "telling"
    SPEAKING = "speaking"
    LISTENING = "listening"
    QUIET = "quiet"


class Asking:
    """Asks for one field after another.

    Args:
        outbox: for timers.
        voice: for prompts.
        params: times and limits.
        on_ended: the field has ended, by `#`, by its length or by silence after a complete number.
        on_silence: one silence too many.

    Attributes:
        any_key_heard: whether any key was heard in this call.
        no_keys_heard: the customer had to be told how to press keys, and still none came.
    """

    def __init__(
        self,
        outbox: Outbox,
        voice: Voice,
        params: DialogueParams,
        *,
        on_ended: Callable[[], None],
        on_silence: Callable[[], None],
    ) -> None:
        self.any_key_heard = False
        self.no_keys_heard = False
        self.phase = Phase.IDLE
        self.script: Script | None = None
        self.entry: Entry | None = None
        self._outbox = outbox
        self._voice = voice
        self._params = params
        self._on_ended = on_ended
        self._on_silence = on_silence
        self._reminders = 0
        self._hinted = False

    def ask(self, script: Script, entry: Entry, lead: tuple[Phrase, ...] = ()) -> None:
        """Begins a field: `lead`, then its prompt. What the field before still held is overwritten."""
        self.stop()
        self.script, self.entry = script, entry
        self._reminders, self._hinted = 0, False
        told = tuple(phrase for phrase in lead if phrase.key in _HEARD_OUT)
        question = tuple(phrase for phrase in lead if phrase not in told) + script.prompt
        if told:
            self.phase = Phase.TELLING
            self._voice.say(told, lambda _spoken: self._question(question))
        else:
            self._say(question)

    def _question(self, phrases: tuple[Phrase, ...]) -> None:
        if self.phase is Phase.TELLING:
            self._say(phrases)

    def stop(self) -> None:
        """Ends the asking and overwrites the digits."""
        if self.entry is not None:
            self.entry.clear()
        self.entry = self.script = None
        self.phase = Phase.IDLE
        self._outbox.stop(TimerName.KEYS, TimerName.QUIET)

    def heard(self) -> None:
        """Some key was heard, whatever it meant."""
        self.any_key_heard = True
        self.no_keys_heard = False

    def key(self, key: int) -> None:
        """A key while a field is being asked for."""
        entry = self.entry
        if entry is None or self.phase is Phase.TELLING:
            return
        if self.phase is Phase.QUIET:
            self._outbox.start(TimerName.QUIET, self._params.quiet_s)
        elif key < STAR:
            entry.append(key)
            self._voice.hush()
            self.phase = Phase.LISTENING
            self._reminders, self._hinted = 0, False
            if entry.full:
                self._end()
            else:
                self._await_key(entry)
        elif key == POUND and entry.length:
            self._end()
        elif key == STAR and entry.length:
            entry.clear()
            self._reminders, self._hinted = 0, False
            self._say((Phrase(PhraseKey.FIELD_CLEARED),))

    def waited(self) -> None:
        """The `KEYS` timer ran out."""
        if self.script is None or self.entry is None:
            return
        hint = self._hint(self.entry)
        if hint is not None and not self._hinted:
            self._hinted = True
            self._say((hint[0],))
        elif self.entry.length and self.entry.complete:
            self._end()
        else:
            self._remind(self.script, self.entry)

    def quiet(self) -> None:
        """The `QUIET` timer ran out."""
        if self.phase is Phase.QUIET:
            self.phase = Phase.IDLE
            self._on_ended()

    def _say(self, phrases: tuple[Phrase, ...]) -> None:
        self._outbox.stop(TimerName.KEYS)
        self.phase = Phase.SPEAKING
        self._voice.say(phrases, self._listen, barge_in=True)

    def _listen(self, _spoken: bool) -> None:
        self.phase = Phase.LISTENING
        if self.entry is not None:
            self._await_key(self.entry)

    def _await_key(self, entry: Entry) -> None:
        assert self.script is not None
        times = self.script.times
        total = times.next_digit_s if entry.length else times.first_digit_s
        hint = self._hint(entry)
        if hint is not None:
            total = total - hint[1] if self._hinted else hint[1]
        self._outbox.start(TimerName.KEYS, total)

    def _hint(self, entry: Entry) -> tuple[Phrase, float] | None:
        """What is said in a silence that is not over yet, and after how much of it."""
        assert self.script is not None
        if not entry.length:
            return (self.script.hint, self.script.hint_s) if self.script.hint else None
        return (_FINISH_WITH_POUND, self._params.pound_hint_s) if entry.complete else None

    def _remind(self, script: Script, entry: Entry) -> None:
        self._reminders += 1
        self._hinted = False
        if self._reminders > self._params.max_reminders:
            self._on_silence()
        elif entry.length:
            self._say((Phrase(script.so_far, (DigitCount(entry.length),)),))
        elif self.any_key_heard:
            self._say(script.prompt)
        else:
            self.no_keys_heard = True
            self._say((Phrase(PhraseKey.NO_KEYS_HEARD), *script.prompt))

    def _end(self) -> None:
        self._voice.hush()
        self._outbox.stop(TimerName.KEYS)
        self.phase = Phase.QUIET
        self._outbox.start(TimerName.QUIET, self._params.quiet_s)
