"""A directory that other users can pass through: pytest's own is closed to them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sipivr-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
