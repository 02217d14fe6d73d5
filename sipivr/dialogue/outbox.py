"""What one `handle` wants done, in order; and which timers run: here a timer is a name and a generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipivr.dialogue.effects import StartTimer, StopTimer, TimerName

if TYPE_CHECKING:
    from sipivr.dialogue.effects import Effect


class Outbox:
    """Collects effects and keeps the generations of timers."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._running: dict[TimerName, int] = {}
        self._generation = 0

    def emit(self, effect: Effect) -> None:
        """Adds an effect."""
        self._effects.append(effect)

    def drain(self) -> tuple[Effect, ...]:
        """Takes all effects out."""
        effects, self._effects = tuple(self._effects), []
        return effects

    def start(self, name: TimerName, seconds: float) -> None:
        """Starts a timer anew; what an earlier one of this name still sends is stale from here on."""
        self._generation += 1
        self._running[name] = self._generation
        self.emit(StartTimer(name, self._generation, seconds))

    def stop(self, *names: TimerName) -> None:
        """Stops those of the timers that run."""
        for name in names:
            generation = self._running.pop(name, None)
            if generation is not None:
                self.emit(StopTimer(name, generation))

    def stop_all_but(self, *kept: TimerName) -> None:
        """Stops every timer that runs, except those named."""
        self.stop(*(name for name in tuple(self._running) if name not in kept))

    def fired(self, name: TimerName, generation: int) -> bool:
        """Whether this is the timer that runs; it runs no more then."""
        if self._running.get(name) != generation:
            return False
        del self._running[name]
        return True

    @property
    def running(self) -> frozenset[TimerName]:
        """The timers that run."""
        return frozenset(self._running)
