"""For all tests: how long an example takes is the machine's affair, not an assertion."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sipivr", deadline=None)
settings.load_profile("sipivr")
