"""Python, pjsua2 and speech: what is built or installed into our own environment."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from typing import Final

from sipivr.config import Settings
from sipivr.doctor.finding import Finding, fail, ok, warn
from sipivr.ua import edge_binding
from sipivr.ua.edge_types import EdgeBuild

_SETUP: Final = "Run `make setup` in the clone; it builds pjsua2 once and keeps the wheel."
#: First SQLite whose read-only users can open a WAL database without -shm at hand (3.22), and STRICT (3.37).
_SQLITE_NEEDED: Final = (3, 37, 0)


def findings(settings: Settings) -> Iterator[Finding]:
    """Every check of this group."""
    yield python(sys.version_info[:3])
    yield sqlite(sqlite3.sqlite_version_info)
    yield from pjsua2(settings)
    yield from speech()


def python(version: tuple[int, ...]) -> Finding:
    """CPython 3.11 or 3.12."""
    text = ".".join(map(str, version))
    if (3, 11) <= version[:2] < (3, 13):
        return ok("Python", text)
    return fail(
        "Python", text, "Install Python 3.11 (Debian 12 has it) and name it: make setup PYTHON=python3.11"
    )


def sqlite(version: tuple[int, ...]) -> Finding:
    """The SQLite that Python is linked with."""
    text = ".".join(map(str, version))
    if version >= _SQLITE_NEEDED:
        return ok("SQLite", text)
    return fail("SQLite", text, "Use a Python that is linked with SQLite 3.37 or newer; Debian 12's is.")


def pjsua2(settings: Settings) -> Iterator[Finding]:
    """The build of pjsua2 and what it can carry."""
    if importlib.util.find_spec("pjsua2") is None:
        yield fail("pjsua2", "not installed", _SETUP)
        return
    build = edge_binding.build_info()
    if build is None:
        yield warn(
            "pjsua2",
            "installed without edge.c (PyPI's wheel?): loopback only, 4 legs at once",
            f"For a look this will do. For more: {_SETUP}",
        )
        return
    yield from judged(build, settings)


def judged(build: EdgeBuild, settings: Settings) -> Iterator[Finding]:
    """Our own build, against what the settings ask for."""
    yield ok("pjsua2", f"pjproject {build.pj_version} with edge.c")
    needed = 2 * settings.sip.max_calls
    if build.max_calls >= needed:
        yield ok("pjsua2 calls", f"{build.max_calls} legs at once, {needed} needed")
    else:
        yield fail(
            "pjsua2 calls",
            f"{build.max_calls} legs at once, [sip] max_calls = {settings.sip.max_calls} needs {needed}",
            "Lower [sip] max_calls, or raise PJSUA_MAX_CALLS in docker/pjsua2/config_site.h: `make setup`.",
        )
    if build.ioqueue.startswith("epoll"):
        yield ok("pjsua2 sockets", f"epoll, {build.max_handles} sockets")
    else:
        yield fail("pjsua2 sockets", f"{build.ioqueue} instead of epoll", _SETUP)
    if build.has_tls:
        yield ok("pjsua2 TLS", "built in")
    else:
        grade = fail if settings.sip.tls else warn
        yield grade("pjsua2 TLS", "not built in", f"Install libssl-dev, then: {_SETUP}")
    if build.has_asserts:
        yield fail("pjsua2 assertions", "a packet could abort the process", f"Build with NDEBUG. {_SETUP}")
    if build.max_log_level > 3:
        yield fail("pjsua2 log", "level 4 would write whole messages, keys included", _SETUP)


def speech() -> Iterator[Finding]:
    """What reads prompts aloud."""
    if importlib.util.find_spec("pyopenjtalk") is None:
        yield fail("Open JTalk", "pyopenjtalk is not installed", "Run `make setup`.")
    else:
        yield ok("Open JTalk", "speaks Japanese")
    found = shutil.which("espeak-ng")
    if found is None:
        yield fail("eSpeak NG", "not installed", "apt-get install espeak-ng")
    else:
        yield ok("eSpeak NG", found)
