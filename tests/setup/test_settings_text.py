"""Every setting is documented, and what is written is what is read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sipivr import config, settings_text

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_setting_has_a_description() -> None:
    for section, summary, settings in settings_text.sections():
        assert len(summary) > 6, section
        for setting in settings:
            assert setting.description.rstrip().endswith("."), f"[{section}] {setting.name}"


def test_page_is_up_to_date() -> None:
    """`make settings` writes it."""
    assert (REPOSITORY / "docs/settings.md").read_text("utf-8") == settings_text.markdown()


def test_fresh_file_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "sipivr.toml"
    path.write_text(settings_text.toml(), "utf-8")
    assert config.load(path, {}) == config.Settings()


def test_uncommented_file_holds_the_defaults(tmp_path: Path) -> None:
    """What stands behind each `#` is the default, in TOML."""
    lines = settings_text.toml().splitlines()
    path = tmp_path / "sipivr.toml"
    path.write_text("\n".join(line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in lines))
    assert sum(map(len, tomllib.loads(path.read_text()).values())) == sum(
        len(settings) for _, _, settings in settings_text.sections()
    )
    assert config.load(path, {}) == config.Settings()


def test_chosen_values_are_set(tmp_path: Path) -> None:
    path = tmp_path / "sipivr.toml"
    path.write_text(settings_text.toml({"node": {"name": 'a "b" \\ ü'}, "media": {"workers": 3}}), "utf-8")
    loaded = config.load(path, {})
    assert (loaded.node.name, loaded.media.workers) == ('a "b" \\ ü', 3)


@pytest.mark.parametrize("setting", [s for _, _, found in settings_text.sections() for s in found], ids=str)
def test_every_setting_has_its_variable(setting: settings_text.Described) -> None:
    value = setting.default
    text = str(value).lower() if isinstance(value, bool) else str(value)
    loaded = config.load(None, {setting.variable: text})
    assert getattr(getattr(loaded, setting.section), setting.name) == value
