"""The IVR's conversation with the customer: state, events and effects, and nothing else.

No clock, socket, thread, database or logger: `Dialogue.handle(event)` returns what to do, and the shell in
`sipivr.calls` does it. See `states` for the machines and their rules.
"""

from sipivr.dialogue.machine import Dialogue
from sipivr.dialogue.params import DialogueParams, FieldTimes
from sipivr.dialogue.session import Ending, SessionSnapshot

__all__ = ["Dialogue", "DialogueParams", "Ending", "FieldTimes", "SessionSnapshot"]
