"""What is written twice says the same: layout.py, the units, the users' script, the image."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from sipivr.config import Settings, msgspec, paths
from sipivr.initialise import packaged_values
from sipivr.layout import USERS, Kind, directories

DOCKER = Path(__file__).resolve().parents[2] / "docker"
UNITS = {
    Kind.SWITCH: "sipivr.service",
    Kind.MEDIA: "sipivr-media.service",
    Kind.API: "sipivr-api.service",
    Kind.SIMULATOR: "sipivr-simulator.service",
}
PACKAGED = paths(msgspec.convert(packaged_values(), Settings), Path("/etc/sipivr"))


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_a_hardened_unit(kind: Kind) -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DOCKER / "systemd" / UNITS[kind])
    service = unit["Service"]
    assert service["User"] == service["Group"] == USERS[kind]
    assert service["ExecStart"].endswith(f"--only {kind.value}")
    assert service["LimitCORE"] == "0"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    writable = set(service.get("ReadWritePaths", "").split())
    assert writable <= {str(one.path) for one in directories(PACKAGED) if one.owner is kind}


def test_sockets_directories_come_back_after_a_boot() -> None:
    lines = (DOCKER / "systemd/sipivr.tmpfiles.conf").read_text().splitlines()
    found = {tuple(line.split()[1:5]) for line in lines if line.startswith("d ")}
    wanted = {
        (str(one.path), f"{one.mode:04o}", USERS[one.owner], USERS[one.group])
        for one in directories(PACKAGED)
        if one.path.is_relative_to("/run")
    }
    assert found == wanted


def test_users_are_made() -> None:
    (loop,) = re.findall(r"for user in (.*); do", (DOCKER / "create-users").read_text())
    assert loop.split() == list(USERS.values())


def test_image_and_compose_run_nothing_as_root_but_init() -> None:
    image = (DOCKER / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", image, re.MULTILINE)[-1] == USERS[Kind.SWITCH]
    compose = (DOCKER / "compose.yaml").read_text()
    users = re.findall(r"^    user: (\S+)", compose, re.MULTILINE)
    assert sorted(users) == sorted(["root", *USERS.values()])


def test_no_host_is_named() -> None:
    """Packages come from wherever the machine takes them."""
    for file in DOCKER.rglob("*"):
        if file.is_file() and file.suffix not in {".patch", ".c", ".h"}:
            assert not re.search(r"https?://(?!127\.0\.0\.1)", file.read_text()), file
