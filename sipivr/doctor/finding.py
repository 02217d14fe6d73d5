"""What a check finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Grade(enum.StrEnum):
    """How bad it is: FAIL means that the switch does not start or does not keep its promises."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result; `mend` is a sentence that says what to do, empty when all is well."""

    check: str
    grade: Grade
    found: str
    mend: str = ""

    @property
    def failed(self) -> bool:
        """Whether this makes `sipivr doctor` fail."""
        return self.grade is Grade.FAIL


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Grade.OK, found)


def warn(check: str, found: str, mend: str) -> Finding:
    """It works, with a limit that a user should know."""
    return Finding(check, Grade.WARN, found, mend)


def fail(check: str, found: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, Grade.FAIL, found, mend)
