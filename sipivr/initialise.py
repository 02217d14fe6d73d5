"""`sipivr init`: from nothing to a node that takes a sandbox payment.

Settings, directories with their modes, keys, `switch.db` with its first rows, `api.db` with an administrator
and an API key. It never overwrites anything, and what it began and could not finish it takes away again.
The settings file is written last: while it is absent, nothing has been initialised.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipivr import config, layout, seeds, settings_text
from sipivr.layout import Kind

_API_INIT_TIMEOUT_S = 60.0


class CannotInitialiseError(Exception):
    """There is a node already, or a step failed; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What a new node has to tell, once: the only time that the secrets are shown."""

    settings: config.Settings
    path: Path
    paths: config.Paths
    administrator: str
    password: str
    api_key: str

    def __repr__(self) -> str:
        return f"Initialised({self.path})"

    def text(self) -> str:
        """For the terminal."""
        sip = self.settings.sip.udp or self.settings.sip.tcp
        scheme = "https" if self.settings.api.tls_certificate else "http"
        return "\n".join(
            (
                f"Initialised {self.path}; records and keys are in {self.paths.state_dir}.",
                "",
                "  Shown once, stored only as hashes: write them down now.",
                f"    administrator  {self.administrator}",
                f"    password       {self.password}",
                f"    API key        {self.api_key}",
                "",
                f"  dial           sip:{seeds.DIALLED}@{sip}   (from {seeds.CALLER}, the allowed caller)",
                f"  API            {scheme}://{self.settings.api.listen}/v1   reference: {scheme}://"
                f"{self.settings.api.listen}/docs",
                f"  shop           {seeds.SHOP}, gateway: the sandbox beside the switch, no real charge",
                "  try it         make demo",
                "",
            )
        )

    def as_json(self) -> str:
        """For programs, the same secrets included."""
        return json.dumps(
            {
                "settings": str(self.path),
                "administrator": self.administrator,
                "password": self.password,
                "api_key": self.api_key,
                "number": seeds.DIALLED,
                "caller": seeds.CALLER,
                "shop": seeds.SHOP,
            }
        )


def packaged_values() -> dict[str, dict[str, Any]]:
    """The settings of a package's layout."""
    return {
        "node": {"state_dir": "/var/lib/sipivr", "run_dir": "/run/sipivr"},
        "log": {"format": "json"},
    }


def initialise(path: Path, values: Mapping[str, Mapping[str, Any]], *, users: bool) -> Initialised:
    """Makes a node.

    Args:
        path: the settings file to write.
        values: settings that differ from their defaults.
        users: give each kind's directories to its own user (as root).

    Raises:
        CannotInitialiseError: something is there already, or a step failed; then nothing is left behind.
        ConfigError: the values are not valid.
    """
    path = path.resolve()
    if path.exists():
        raise CannotInitialiseError(
            f"{path} exists already and is left as it is. Start the switch: sipivr serve"
        )
    if users and os.geteuid() != 0:
        raise CannotInitialiseError("a packaged layout needs root: its directories belong to several users.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".toml.new")
    draft.write_text(settings_text.toml(values), "utf-8")
    draft.chmod(0o644)  # no secret is in it, and every kind reads it
    try:
        settings = config.load(draft)
        paths = config.paths(settings, path.parent)
        for existing in (paths.switch_db, paths.keys, paths.api_db):
            if existing.exists():
                raise CannotInitialiseError(
                    f"{existing} exists already and is left as it is. Bring {path.name} back from a copy, "
                    "or move the directory away to begin anew."
                )
        fresh = not paths.state_dir.exists()
        try:
            made = _make(settings, path, draft, paths, users=users)
        except BaseException:
            if fresh:
                shutil.rmtree(paths.state_dir, ignore_errors=True)
            raise
        draft.rename(path)
        return made
    finally:
        draft.unlink(missing_ok=True)


def _make(
    settings: config.Settings, path: Path, draft: Path, paths: config.Paths, *, users: bool
) -> Initialised:
    os.umask(layout.UMASK)
    try:
        layout.make_directories(paths, layout.accounts() if users else None)
        simulator = settings.simulator.listen if settings.simulator.enabled else ""
        first = seeds.plant(paths, simulator)
        if users:
            layout.give_files(paths)
        secrets = _make_api_database(draft, first, users=users)
    except KeyError as error:
        raise CannotInitialiseError(
            f"the user {error} does not exist: docker/create-users makes them."
        ) from None
    except (OSError, sqlite3.Error) as error:
        raise CannotInitialiseError(f"{error}.") from None
    return Initialised(
        settings=settings,
        path=path,
        paths=paths,
        administrator=secrets["administrator"]["name"],
        password=secrets["administrator"]["password"],
        api_key=secrets["api_key"]["secret"],
    )


def _make_api_database(draft: Path, first: seeds.Planted, *, users: bool) -> dict[str, dict[str, str]]:
    """`api` makes its own database; we only start it, as its own user, and read its answer from a pipe."""
    from sipivr.supervision.house import user_of  # noqa: PLC0415

    user = user_of(Kind.API) if users else None
    arguments = [
        *(sys.executable, "-m", "api", "init", "--config", str(draft)),
        *("--administrator", seeds.ADMINISTRATOR),
        *("--principal", first.administrator, "--key-principal", first.api_key),
    ]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_API_INIT_TIMEOUT_S,
            env=config.child_environment(),
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except subprocess.TimeoutExpired:
        raise CannotInitialiseError(f"api init did not end within {_API_INIT_TIMEOUT_S:g} s.") from None
    if done.returncode != 0:
        raise CannotInitialiseError(f"api init failed: {' '.join(done.stderr.split()[-60:])}")
    answer: dict[str, dict[str, str]] = json.loads(done.stdout)
    return answer
