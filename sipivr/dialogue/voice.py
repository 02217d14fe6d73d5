"""What is being said: one playlist at a time, and what to do when it ends.

A playlist that must be heard is said again when something cut it: a key without effect, a lost event. The
`PROMPT` timer stands in for a `PlayFinished` that never comes, and counts as not spoken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.effects import Play, StopPlaying, TimerName

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipivr.dialogue.outbox import Outbox
    from sipivr.dialogue.phrases import Phrase

#: How often something is said that is cut each time.
TRIES = 3


class Voice:
    """Plays phrases to the customer.

    Attributes:
        language: of what is said from now on.
        available: false while there is no media worker; what is said then is dropped.
    """

    def __init__(self, outbox: Outbox, language: str, prompt_s: float) -> None:
        self.language = language
        self.available = True
        self._outbox = outbox
        self._prompt_s = prompt_s
        self._last_playlist = 0
        self._playing: Play | None = None
        self._then: Callable[[bool], None] | None = None
        self._tries = 0

    @property
    def speaking(self) -> bool:
        """Whether a playlist has not ended yet."""
        return self._playing is not None

    def say(
        self,
        phrases: tuple[Phrase, ...],
        then: Callable[[bool], None],
        *,
        barge_in: bool = False,
        tries: int = TRIES,
    ) -> None:
        """Says phrases, then calls `then(spoken)`; `spoken` is false if they were cut `tries` times."""
        if self.available:
            self._then, self._tries = then, tries
            self._play(phrases, barge_in=barge_in)

    def repeat(self, phrases: tuple[Phrase, ...]) -> None:
        """Says phrases over and over, until something else is said."""
        if self.available:
            self._then, self._tries = None, 0
            self._play(phrases, barge_in=False, repeat=True)

    def hush(self) -> None:
        """Stops what is being said; nothing follows from it."""
        if self._playing is not None:
            self._outbox.emit(StopPlaying())
            self._forget()

    def lost(self) -> None:
        """The media worker is gone and the playlist with it."""
        self._forget()
        self.available = False

    def finished(self, playlist: int, *, interrupted: bool) -> None:
        """A playlist ended."""
        if self._playing is not None and self._playing.playlist == playlist:
            self._ended(spoken=not interrupted)

    def overdue(self) -> None:
        """The `PROMPT` timer ran out."""
        if self._playing is not None:
            self._ended(spoken=False)

    def _ended(self, *, spoken: bool) -> None:
        ended, then = self._playing, self._then
        assert ended is not None
        if not spoken and self._tries > 1:
            self._tries -= 1
            self._play(ended.phrases, barge_in=ended.barge_in, repeat=ended.repeat)
            return
        self._forget()
        if then is not None:
            then(spoken)

    def _play(self, phrases: tuple[Phrase, ...], *, barge_in: bool, repeat: bool = False) -> None:
        self._last_playlist += 1
        self._playing = Play(self._last_playlist, self.language, phrases, barge_in, repeat)
        self._outbox.emit(self._playing)
        if repeat:
            self._outbox.stop(TimerName.PROMPT)
        else:
            self._outbox.start(TimerName.PROMPT, self._prompt_s)

    def _forget(self) -> None:
        self._playing = self._then = None
        self._outbox.stop(TimerName.PROMPT)
