"""Who may read what: modes of the directories, and in a packaged layout the users (docs/isolation.md)."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from sipivr import layout
from sipivr.config import Paths
from sipivr.doctor.finding import Finding, fail, ok, warn


def findings(paths: Paths) -> Iterator[Finding]:
    """Every check of this group."""
    if not paths.state_dir.exists():
        yield ok("state directory", f"{paths.state_dir} is not there yet; `sipivr init` makes it")
        return
    owners = {
        directory.path.stat().st_uid for directory in layout.directories(paths) if _seen(directory.path)
    }
    packaged = len(owners) > 1
    yield from modes(paths)
    yield key_file(paths.keys)
    if packaged:
        yield from users(paths)
    else:
        owner = _name(owners.pop()) if owners else "nobody"
        yield warn(
            "one user",
            f"everything belongs to {owner}: a break-in at the API is a break-in at the switch",
            "For a demonstration this will do. In service: sipivr init --packaged, and docs/isolation.md.",
        )


def modes(paths: Paths) -> Iterator[Finding]:
    """No directory is more open than designed."""
    too_open = []
    for directory in layout.directories(paths):
        if _seen(directory.path):
            mode = stat.S_IMODE(directory.path.stat().st_mode)
            if mode & 0o777 & ~directory.mode:
                too_open.append(f"chmod {directory.mode:o} {directory.path}")
    if too_open:
        yield fail("directory modes", f"{len(too_open)} more open than they should be", "; ".join(too_open))
    else:
        yield ok("directory modes", "as designed")


def key_file(keys: Path) -> Finding:
    """The keys of the database are its owner's alone."""
    try:
        mode = stat.S_IMODE(keys.stat().st_mode)
    except PermissionError:
        return ok("key file", "not readable for this user, as it should be")
    except FileNotFoundError:
        return fail(
            "key file", f"{keys} is missing", "Bring it back from its copy: records are sealed with it."
        )
    if mode & 0o077:
        return fail("key file", f"others may read {keys}", f"chmod 600 {keys}")
    return ok("key file", f"{keys}, mode {mode:o}")


def users(paths: Paths) -> Iterator[Finding]:
    """Each directory belongs to the kind that it is designed for."""
    wrong = []
    for directory in layout.directories(paths):
        if not _seen(directory.path):
            continue
        status = directory.path.stat()
        found = (_name(status.st_uid), _group_name(status.st_gid))
        wanted = (layout.USERS[directory.owner], layout.USERS[directory.group])
        if found != wanted:
            wrong.append(f"chown {wanted[0]}:{wanted[1]} {directory.path}")
    if wrong:
        yield fail("users", f"{len(wrong)} directories belong to the wrong user or group", "; ".join(wrong))
    else:
        yield ok("users", "each kind of process has its own")
    if os.geteuid() == 0:
        return
    yield ok("run as", _name(os.geteuid()))


def _seen(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
