"""The command `sipivr`, as a user meets it: what it prints, refuses and leaves behind."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipivr import cli, config, initialise, layout, seeds
from sipivr.store import crypto


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Commands set their own umask; a test must not leave it to the next."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """An initialised node and what `init` printed."""
    assert cli.main(["init", "--dir", str(tmp_path / "node")]) == 0
    return tmp_path / "node" / "sipivr.toml", capsys.readouterr().out


def test_init_makes_a_node(node: tuple[Path, str]) -> None:
    path, printed = node
    settings = config.load(path, {})
    assert settings == config.Settings()
    paths = config.paths(settings, path.parent)
    assert stat.S_IMODE(paths.keys.stat().st_mode) == 0o600
    crypto.load_keys(paths.keys)
    for directory in layout.directories(paths):
        assert stat.S_IMODE(directory.path.stat().st_mode) == directory.mode, directory.path
    for file in (paths.switch_db, paths.api_db):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o027, file
    assert f"sip:{seeds.DIALLED}@127.0.0.1:5060" in printed
    assert "make demo" in printed


def test_init_shows_secrets_once_and_stores_none(node: tuple[Path, str]) -> None:
    path, printed = node
    password = re.search(r"password +(\S+)", printed)
    key = re.search(r"sk_test_\S+", printed)
    assert password
    assert key
    for file in path.parent.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert password[1].encode() not in content, file
            assert key[0].encode() not in content, file


def test_second_init_refuses_and_changes_nothing(
    node: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = node
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    assert cli.main(["init", "--dir", str(path.parent)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}


def test_init_never_replaces_keys(node: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Settings lost, records there: new keys would make the records unreadable."""
    path, _ = node
    path.unlink()
    assert cli.main(["init", "--dir", str(path.parent)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert not path.exists()


def test_failed_init_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise initialise.CannotInitialiseError("api init failed: no.")

    monkeypatch.setattr(initialise, "_make_api_database", broken)
    assert cli.main(["init", "--dir", str(tmp_path / "node")]) == 1
    assert "api init failed" in capsys.readouterr().err
    assert list((tmp_path / "node").iterdir()) == []


def test_seeds_are_a_sandbox(node: tuple[Path, str]) -> None:
    path, _ = node
    paths = config.paths(config.load(path, {}), path.parent)
    with sqlite3.connect(f"file:{paths.switch_db}?mode=ro", uri=True) as db:
        modes = db.execute("SELECT mode FROM merchant UNION SELECT mode FROM connector").fetchall()
        urls = db.execute("SELECT url FROM connector").fetchall()
        networks = [json.loads(row[0]) for row in db.execute("SELECT networks FROM trunk")]
    db.close()
    assert modes == [("test",)]
    assert urls == [("http://127.0.0.1:8090",)]
    assert networks == [["127.0.0.0/8", "::1/128"]]


def test_audit_of_a_new_node_verifies(node: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = node
    assert cli.main(["audit", "verify", "--config", str(path)]) == 0
    assert re.search(r"[1-9]\d* rows", capsys.readouterr().out)


def test_audit_notices_a_changed_row(node: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = node
    paths = config.paths(config.load(path, {}), path.parent)
    db = sqlite3.connect(paths.switch_db)
    for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute("UPDATE audit SET actor = 'somebody' WHERE sequence = 2")
    db.commit()
    db.close()
    assert cli.main(["audit", "verify", "--config", str(path)]) == 1
    assert "audit row 2" in capsys.readouterr().err


def test_serve_without_init_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--config", str(tmp_path / "sipivr.toml")]) == 1
    assert "sipivr init" in capsys.readouterr().err


def test_serve_names_the_port_that_is_taken(
    node: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = node
    monkeypatch.setattr("sipivr.log.start", lambda **_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("SIPIVR_API__LISTEN", f"127.0.0.1:{port}")
        assert cli.main(["serve", "--only", "api", "--config", str(path)]) == 1
    assert f"TCP port {port} on 127.0.0.1" in capsys.readouterr().err


def test_settings_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings"]) == 0
    assert "[sip]" in capsys.readouterr().out
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("sipivr ")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--only", "kitchen"]])
def test_unknown_command_line_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
