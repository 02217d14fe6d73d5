"""Findings: what they grade, and that each one that is not ok names its mend."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipivr import cli, config, doctor, layout
from sipivr.config import Settings, SIPSettings
from sipivr.doctor import isolation, libraries, machine
from sipivr.doctor.finding import Finding, Grade
from sipivr.supervision.sockets import RECEIVE_BUFFER_BYTES
from sipivr.ua.edge_types import EdgeBuild

GOOD = EdgeBuild(
    pj_version="2.17",
    ioqueue="epoll[0x3]",
    max_calls=4096,
    max_packet_bytes=8000,
    max_handles=4096,
    max_log_level=3,
    has_tls=True,
    has_ipv6=True,
    has_asserts=False,
)


def graded(findings: Iterator[Finding]) -> dict[str, Grade]:
    return {finding.check: finding.grade for finding in findings}


def test_good_build_has_no_fault() -> None:
    assert set(graded(libraries.judged(GOOD, Settings())).values()) == {Grade.OK}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"max_calls": 4}, "pjsua2 calls"),
        ({"ioqueue": "select"}, "pjsua2 sockets"),
        ({"has_asserts": True}, "pjsua2 assertions"),
        ({"max_log_level": 5}, "pjsua2 log"),
    ],
)
def test_bad_build_fails(change: dict[str, object], check: str) -> None:
    build = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    findings = {finding.check: finding for finding in libraries.judged(build, Settings())}
    assert findings[check].failed
    assert findings[check].mend


def test_missing_tls_matters_when_tls_is_asked_for() -> None:
    build = dataclasses.replace(GOOD, has_tls=False)
    with_tls = Settings(sip=SIPSettings(tls="127.0.0.1:5061", tls_certificate="c", tls_key="k"))
    assert graded(libraries.judged(build, Settings()))["pjsua2 TLS"] is Grade.WARN
    assert graded(libraries.judged(build, with_tls))["pjsua2 TLS"] is Grade.FAIL


def test_limits_of_the_machine() -> None:
    assert machine.open_files(Settings(), 1024).failed
    assert not machine.open_files(Settings(), 1 << 20).failed
    assert machine.udp_buffers(212_992, may_force=False).grade is Grade.WARN
    assert str(RECEIVE_BUFFER_BYTES) in machine.udp_buffers(212_992, may_force=False).mend
    assert machine.udp_buffers(RECEIVE_BUFFER_BYTES, may_force=False).grade is Grade.OK
    assert libraries.python((3, 9, 2)).failed
    assert libraries.sqlite((3, 34, 1)).failed


@pytest.fixture
def paths(tmp_path: Path) -> config.Paths:
    found = config.paths(Settings(), tmp_path)
    layout.make_directories(found, None)
    found.keys.write_text("")
    found.keys.chmod(0o600)
    return found


def test_open_directory_is_found(paths: config.Paths) -> None:
    assert graded(isolation.modes(paths))["directory modes"] is Grade.OK
    paths.switch_db.parent.chmod(0o777)
    (finding,) = isolation.modes(paths)
    assert finding.failed
    assert finding.mend == f"chmod 2750 {paths.switch_db.parent}"


def test_open_key_file_is_found(paths: config.Paths) -> None:
    assert isolation.key_file(paths.keys).grade is Grade.OK
    paths.keys.chmod(0o644)
    assert isolation.key_file(paths.keys).mend == f"chmod 600 {paths.keys}"
    paths.keys.unlink()
    assert isolation.key_file(paths.keys).failed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes owners")
def test_wrong_owner_is_found_in_a_packaged_layout(paths: config.Paths) -> None:
    os.chown(paths.api_db.parent, 64103, 64103)
    findings = {finding.check: finding for finding in isolation.findings(paths)}
    assert findings["users"].failed
    assert "chown sipivr-api:sipivr-api" in findings["users"].mend


def test_in_a_clone_only_we_are_trusted(paths: config.Paths) -> None:
    assert layout.trusted_users(paths.control_socket) == {os.geteuid()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes groups")
def test_whom_a_directory_is_shared_with_is_trusted(paths: config.Paths) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(paths.control_socket.parent, -1, nobody.pw_gid)
    assert nobody.pw_uid in layout.trusted_users(paths.control_socket)


def test_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["doctor", "--json", "--config", str(tmp_path / "sipivr.toml")])
    document = json.loads(capsys.readouterr().out)
    assert status == (1 if document["counts"]["fail"] else 0)
    for finding in document["findings"]:
        assert finding["grade"] == "ok" or finding["mend"], finding


def test_broken_settings_are_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "sipivr.toml"
    path.write_text("[sip]\nudq = 1\n")
    first = doctor.examine(path, progress=None)[0]
    assert first.failed
    assert "udq" in first.found
