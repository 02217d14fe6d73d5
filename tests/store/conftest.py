from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.world import World, build


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    built = build(tmp_path / "switch.db")
    yield built
    built.store.db.close()
