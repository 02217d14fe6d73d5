"""The simulator's test cards with their numbers, read from the documentation, which is where people look."""

from __future__ import annotations

import re
from pathlib import Path

_DOCUMENT = Path(__file__).parents[2] / "docs" / "simulator.md"

NUMBERS: dict[str, str] = {
    name: number.replace(" ", "")
    for number, name in re.findall(
        r"^\| `([0-9 ]{14,19})` \| `([a-z0-9-]+)` \|", _DOCUMENT.read_text("utf-8"), re.M
    )
}
