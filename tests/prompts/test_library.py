"""The cache: made once, atomically, ahead of time; and never silence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from sipivr.prompts import Money, PromptLibrary, PromptProgress, Texts, tones
from sipivr.prompts.library import default_engines, write_atomically
from sipivr.prompts.wording import WordingError
from tests.prompts.conftest import ToneEngine

Make = Callable[..., PromptLibrary]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    libraries: list[PromptLibrary] = []

    def made(
        ja: ToneEngine | None = None, en: ToneEngine | None = None, directory: str = "cache"
    ) -> PromptLibrary:
        engines = {"ja": ja or ToneEngine(), "en": en or ToneEngine()}
        library = PromptLibrary(tmp_path / directory, engines)
        libraries.append(library)
        return library

    yield made
    for library in libraries:
        await library.aclose()


async def test_prepare_fixed_makes_everything_once(make: Make) -> None:
    ja, en = ToneEngine(), ToneEngine()
    library = make(ja, en)
    seen: list[int] = []
    state = await library.prepare_fixed(lambda progress: seen.append(progress.done))
    assert seen == list(range(1, state.total + 1))
    # The waiting tone is one file for both languages.
    assert (state.made, state.fell_back, state.problems) == (state.total - 1, 0, [])
    assert library.ready("ja", "pan_prompt") is not None
    assert library.ready("en", "wait_tone") == await library.tone("wait")
    spoken = len(ja.spoken) + len(en.spoken)
    assert (await library.prepare_fixed()).made == 0
    other = make(ja, en)  # another process on the same cache
    assert (await other.prepare_fixed()).made == 0
    assert len(ja.spoken) + len(en.spoken) == spoken
    assert "こめじるし" in "".join(ja.spoken)


async def test_counts(make: Make) -> None:
    library = make()
    state: PromptProgress = await library.prepare_counts()
    assert state.done == state.total > 100
    for key, count in (
        ("pan_digits_so_far", 19),
        ("expiry_digits_so_far", 3),
        ("security_code_incomplete", 4),
    ):
        assert library.ready("ja", key, {"count": count}) is not None


async def test_render_gives_telephone_audio(make: Make) -> None:
    library = make()
    variables = {"shop": "Shop", "amount": Money(100)}
    assert library.ready("en", "shop_and_amount", variables) is None
    path = await library.render("en", "shop_and_amount", variables)
    assert library.ready("en", "shop_and_amount", variables) == path
    assert 3_000 < len(np.fromfile(path, "<i2")) < 8_000
    assert path.stat().st_mode & 0o777 == 0o640
    assert path != await library.render("en", "shop_and_amount", {**variables, "amount": Money(101)})
    assert path != await library.render("ja", "shop_and_amount", variables)


async def test_two_who_ask_wait_for_one(make: Make) -> None:
    engine = ToneEngine()
    library = make(en=engine)
    engine.go_on.clear()
    asked = [asyncio.create_task(library.render("en", "greeting")) for _ in range(10)]
    await asyncio.sleep(0)
    asked[0].cancel()
    engine.go_on.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert len(set(map(str, results[1:]))) == 1
    assert len(engine.spoken) == 1


async def test_another_version_is_another_sound(make: Make) -> None:
    paths = {await make(en=ToneEngine(version)).render("en", "greeting") for version in ("1", "2")}
    assert len(paths) == 2


@pytest.mark.parametrize("fault", ["broken", "absent"])
async def test_a_missing_voice_falls_back(make: Make, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    library = make(ja=ToneEngine(**{fault: True}))
    with caplog.at_level(logging.WARNING):
        path = await library.render("ja", "greeting")
    assert path == await library.render("en", "greeting")
    assert "ja/greeting" in caplog.text
    state = await library.prepare_fixed()
    assert state.fell_back > 40
    assert "ja/greeting" in state.problems


async def test_without_any_voice_a_tone(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    library = make(ToneEngine(absent=True), ToneEngine(broken=True))
    path = await library.render("ja", "greeting")
    assert np.array_equal(np.fromfile(path, "<i2"), tones.tone("attention"))
    assert "a tone stands in" in caplog.text
    assert (await library.render("ja", "wait_tone")).exists()


async def test_our_own_mistakes_are_errors(make: Make) -> None:
    library = make()
    for language, key, variables in (
        ("xx", "greeting", {}),
        ("ja", "nothing", {}),
        ("ja", "greeting", {"count": 1}),
        ("ja", "confirm_last4", {"last4": "4111111111111111"}),
    ):
        with pytest.raises(WordingError):
            await library.render(language, key, variables)
        with pytest.raises(WordingError):
            library.ready(language, key, variables)


async def test_a_full_disk_is_a_tone_or_an_error_but_no_half_file(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", fail)
        with pytest.raises(OSError, match="no space"):
            write_atomically(tmp_path / "x.s16", tones.tone("beep"))
    assert not any(tmp_path.iterdir())


async def test_real_voices_do_not_hold_up_the_loop(tmp_path: Path) -> None:
    """Synthesis leaves the event loop alone, and a phrase is ready in a fraction of its own length."""
    library = PromptLibrary(tmp_path, default_engines())
    await library.render("ja", "goodbye")  # the dictionary is loaded
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - began - 0.005)

    beating = asyncio.create_task(beat())
    path = await library.render("ja", "shop_and_amount", {"shop": "サンプル商店", "amount": Money(12_345)})
    beating.cancel()
    assert len(np.fromfile(path, "<i2")) > 2 * 8_000
    # Generous, for a busy machine; a synthesis that held the interpreter would be one long gap.
    assert sorted(gaps)[len(gaps) // 2] < 0.02
    await library.aclose()


def test_no_prompt_is_endless() -> None:
    assert max(len(text) for text in Texts.load("ja").phrases.values()) < 90
    assert max(len(text) for text in Texts.load("en").phrases.values()) < 180
