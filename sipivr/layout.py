"""Who owns what: kinds of process, their users, the directories of a node and their modes.

In a clone one user owns everything and the modes alone matter. In a packaged layout (`--users`, compose,
systemd) each kind has its own user, and a directory is shared with exactly one other kind through its
group; the set-group-id bit hands that group to every file and socket made inside. docs/isolation.md gives
the reasons, tests/packaging tries to break it.
"""

from __future__ import annotations

import enum
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sipivr.config import Paths


class Kind(enum.StrEnum):
    """The kinds of process of a node."""

    SWITCH = "sipivr"
    MEDIA = "media"
    API = "api"
    SIMULATOR = "simulator"


#: Accounts of a packaged layout; each has a group of its own name. docker/create-users makes them.
USERS: Final[Mapping[Kind, str]] = {
    Kind.SWITCH: "sipivr",
    Kind.MEDIA: "sipivr-media",
    Kind.API: "sipivr-api",
    Kind.SIMULATOR: "sipivr-simulator",
}

#: What every process of ours starts with: the group may read, others nothing.
UMASK: Final = 0o027


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: who writes in it, which other kind may enter, with what mode."""

    path: Path
    owner: Kind
    group: Kind
    mode: int


def directories(paths: Paths) -> tuple[Directory, ...]:
    """Every directory of a node, parents first."""
    return (
        Directory(paths.state_dir, Kind.SWITCH, Kind.SWITCH, 0o711),
        # `api` reads switch.db, -wal and -shm; it cannot make or change a file here.
        Directory(paths.switch_db.parent, Kind.SWITCH, Kind.API, 0o2750),
        Directory(paths.keys.parent, Kind.SWITCH, Kind.SWITCH, 0o700),
        Directory(paths.prompt_cache, Kind.SWITCH, Kind.MEDIA, 0o2750),
        Directory(paths.api_db.parent, Kind.API, Kind.API, 0o700),
        Directory(paths.simulator_ledger.parent, Kind.SIMULATOR, Kind.SIMULATOR, 0o700),
        Directory(paths.run_dir, Kind.SWITCH, Kind.SWITCH, 0o711),
        Directory(paths.control_socket.parent, Kind.SWITCH, Kind.API, 0o2750),
        Directory(paths.media_socket.parent, Kind.SWITCH, Kind.MEDIA, 0o2750),
    )


#: User id and group id of each kind.
Accounts = Mapping[Kind, tuple[int, int]]


def accounts() -> dict[Kind, tuple[int, int]]:
    """The accounts of a packaged layout.

    Raises:
        KeyError: names the one that does not exist.
    """
    found = {}
    for kind, name in USERS.items():
        account = pwd.getpwnam(name)
        found[kind] = (account.pw_uid, account.pw_gid)
    return found


def make_directories(paths: Paths, owners: Accounts | None) -> None:
    """Makes every directory with its mode, and hands it to its owner when `owners` are given (as root)."""
    for one in directories(paths):
        one.path.mkdir(parents=True, exist_ok=True)
        if owners is None:
            os.chown(one.path, -1, os.getegid())  # a parent with the set-group-id bit would lend its group
        else:
            os.chown(one.path, owners[one.owner][0], owners[one.group][1])
        one.path.chmod(one.mode)


def trusted_users(socket_file: Path) -> frozenset[int]:
    """Who may connect to a socket: our user, and those whose own group its directory is shared with.

    In a clone the directory has our group, and nobody else is trusted.
    """
    group = socket_file.parent.stat().st_gid
    others = () if group == os.getegid() else (one.pw_uid for one in pwd.getpwall() if one.pw_gid == group)
    return frozenset({os.geteuid(), *others})


def give_files(paths: Paths) -> None:
    """Hands every file of the state directory to the owner and group of its directory (as root)."""
    for one in directories(paths):
        status = one.path.stat()
        for file in one.path.iterdir():
            if file.is_file() and not file.is_symlink():
                os.chown(file, status.st_uid, status.st_gid)
