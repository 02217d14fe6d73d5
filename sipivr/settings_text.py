"""The settings as text for people: the commented file that `sipivr init` writes, and docs/settings.md.

Both come from the descriptions beside the settings (sipivr.config), so that none can go undocumented.
"""

from __future__ import annotations

import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sipivr.config import ENVIRONMENT_PREFIX, Settings

#: Values by section and name, as in the file.
Values = Mapping[str, Mapping[str, Any]]

_FILE_HEAD: Final = """\
# Settings of one node of sipivr. A line that begins with `#name =` shows the default: remove the `#` to
# change it. An environment variable overrides a setting: SIPIVR_SIP__UDP is [sip] udp. `sipivr settings`
# prints all. Merchants, numbers, trunks and shops are not here but in the database, where they change on a
# running switch.
"""
_BOUNDS: Final = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "pattern": "matches",
}


@dataclass(frozen=True, slots=True)
class Described:
    """One setting with everything that is said about it."""

    section: str
    name: str
    kind: str
    default: str | int | float | bool
    description: str
    limits: str

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return f"{ENVIRONMENT_PREFIX}{self.section.upper()}__{self.name.upper()}"


def sections() -> Iterator[tuple[str, str, list[Described]]]:
    """Each section's name, its summary and its settings, in order."""
    for section in msgspec.structs.fields(Settings):
        hints = typing.get_type_hints(section.type, include_extras=True)
        found = [
            _described(section.name, field.name, hints[field.name], field.default)
            for field in msgspec.structs.fields(section.type)
        ]
        yield section.name, (section.type.__doc__ or "").strip(), found


def toml(values: Values | None = None) -> str:
    """The commented settings file; `values` are set, everything else shows its default."""
    chosen = values or {}
    lines = [_FILE_HEAD]
    for name, summary, settings in sections():
        lines += [f"[{name}]", *_comment(summary), ""]
        for setting in settings:
            text = setting.description + (f" ({setting.limits})" if setting.limits else "")
            given = chosen.get(name, {})
            mark = "" if setting.name in given else "#"
            value = given.get(setting.name, setting.default)
            lines += [*_comment(text), f"{mark}{setting.name} = {literal(value)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def markdown() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "One TOML file for each node; `sipivr init` writes it with these words in it. A variable of the",
        "environment overrides a setting: `SIPIVR_SIP__UDP` is `udp` of `[sip]`. An unknown setting or a",
        "value out of its limits is an error, never ignored.",
        "This page is written by `make settings` from `sipivr/config.py`.",
        "",
    ]
    for name, summary, settings in sections():
        lines += [f"## [{name}]", "", summary, ""]
        lines += ["| setting | default | what it does |", "|---|---|---|"]
        for setting in settings:
            limits = f" ({setting.limits})" if setting.limits else ""
            text = (setting.description + limits).replace("|", "\\|")
            lines.append(f"| `{setting.name}` | `{literal(setting.default)}` | {text} |")
        lines.append("")
    return "\n".join(lines)


def literal(value: str | int | float | bool) -> str:
    """A value as TOML writes it; JSON's strings and numbers are TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _described(section: str, name: str, hint: Any, default: Any) -> Described:
    kind, *metas = typing.get_args(hint)
    meta = next(one for one in metas if isinstance(one, msgspec.Meta))
    limits = ", ".join(
        f"{words} {getattr(meta, bound)}"
        for bound, words in _BOUNDS.items()
        if getattr(meta, bound) is not None
    )
    return Described(section, name, kind.__name__, default, meta.description or "", limits)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent="# ", subsequent_indent="# ")
