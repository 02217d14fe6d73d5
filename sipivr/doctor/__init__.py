"""`sipivr doctor`: what on this machine would hinder the switch, each finding with its mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TextIO

from sipivr import config
from sipivr.doctor import isolation, libraries, machine
from sipivr.doctor.finding import Finding, Grade, fail, ok

__all__ = ["Finding", "Grade", "examine", "report"]

_MARKS: Final = {Grade.OK: "ok  ", Grade.WARN: "warn", Grade.FAIL: "FAIL"}


def examine(path: Path, *, progress: TextIO | None) -> list[Finding]:
    """Runs every check; a check that breaks is a finding too.

    Args:
        path: the settings file; without one the defaults are examined.
        progress: where to say which group runs; None says nothing.
    """
    findings: list[Finding] = []
    settings = config.Settings()
    try:
        settings = config.load(path if path.exists() else None)
        where = str(path) if path.exists() else f"{path} is not there: the defaults are examined"
        findings.append(ok("settings", where))
    except config.ConfigError as error:
        findings.append(fail("settings", str(error), "Mend the file; docs/settings.md names every setting."))
    paths = config.paths(settings, path.resolve().parent)
    groups: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("libraries", lambda: libraries.findings(settings)),
        ("machine", lambda: machine.findings(settings, paths)),
        ("isolation", lambda: isolation.findings(paths)),
    )
    for name, run in groups:
        if progress is not None:
            print(f"examining {name} …", file=progress, flush=True)
        try:
            findings.extend(run())
        except Exception as error:
            findings.append(fail(name, f"the check broke: {error!r}", "Please report this; it is our fault."))
    return findings


def report(findings: list[Finding], *, as_json: bool) -> str:
    """The findings for a terminal, or as one JSON document."""
    counts = {grade.value: sum(one.grade is grade for one in findings) for grade in Grade}
    if as_json:
        rows = [
            {"check": one.check, "grade": one.grade.value, "found": one.found, "mend": one.mend}
            for one in findings
        ]
        return json.dumps({"findings": rows, "counts": counts}, ensure_ascii=False, indent=2)
    width = max(len(one.check) for one in findings)
    lines = []
    for one in findings:
        lines.append(f"{_MARKS[one.grade]}  {one.check:<{width}}  {one.found}")
        if one.mend:
            lines.append(f"{'':4}  {'':<{width}}  → {one.mend}")
    lines.append("")
    lines.append(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    return "\n".join(lines)
