"""Numeric users that nobody has, for tests that try what one kind of process can do to another."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from typing import Final

import pytest

from sipivr.layout import Accounts, Kind

SWITCH: Final = 64101
MEDIA: Final = 64102
API: Final = 64103
SIMULATOR: Final = 64104

ACCOUNTS: Final[Accounts] = {
    Kind.SWITCH: (SWITCH, SWITCH),
    Kind.MEDIA: (MEDIA, MEDIA),
    Kind.API: (API, API),
    Kind.SIMULATOR: (SIMULATOR, SIMULATOR),
}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it runs processes under other users")


@functools.cache
def interpreter() -> str:
    """A Python that other users can run: ours may lie in a home directory that is closed to them."""
    for candidate in (sys.executable, "/usr/bin/python3", shutil.which("python3") or ""):
        try:
            subprocess.run([candidate, "-c", "import ctypes, sqlite3"], user=API, group=API, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    raise FileNotFoundError("no Python here can be run by other users: apt-get install python3")
