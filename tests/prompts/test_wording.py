"""Texts: complete in both languages, and read the way people say them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sipivr.card import Brand
from sipivr.dialogue.phrases import CATALOGUE, VARIABLE_NAMES, PhraseKey
from sipivr.prompts.engines import OpenJTalkEngine
from sipivr.prompts.wording import Money, PromptVariable, Texts, WordingError

JA, EN = Texts.load("ja"), Texts.load("en")

SAMPLES: dict[str, PromptVariable] = {
    "shop": "サンプル商店",
    "amount": Money(12_345),
    "count": 8,
    "last4": "0428",
    "brand": "visa",
}


@pytest.mark.parametrize("texts", [JA, EN], ids=["ja", "en"])
@pytest.mark.parametrize("key", list(PhraseKey))
def test_every_phrase_has_words(texts: Texts, key: PhraseKey) -> None:
    assert key.value in texts.keys
    if key.value in texts.tones:
        assert not CATALOGUE[key].variables
        return
    names = {VARIABLE_NAMES[kind] for kind in CATALOGUE[key].variables}
    assert texts.placeholders(key.value) == names
    said = texts.say(key.value, {name: SAMPLES[name] for name in names})
    assert said.strip()
    assert "{" not in said


@pytest.mark.parametrize("texts", [JA, EN], ids=["ja", "en"])
def test_no_phrase_beside_the_catalogue(texts: Texts) -> None:
    assert texts.keys == {key.value for key in PhraseKey}
    assert set(texts.brands) == {brand.value for brand in Brand}


def test_the_capture_introduction_is_the_agreed_sentence() -> None:
    sentence = (
        "カード番号は声に出さず、ボタンで押してください。この間、お客様の声はオペレーターには聞こえません。"
        "お困りのときは、＊、＃の順に押してください。"
    )
    assert JA.say("capture_introduction", {}) == sentence
    without = sentence.replace("この間、お客様の声はオペレーターには聞こえません。", "")
    assert JA.say("capture_introduction_voice_passes", {}) == without
    assert JA.say("pan_digits_so_far", {"count": 8}) == "8桁まで受け付けました。続きを押してください。"


@pytest.mark.parametrize(
    ("texts", "name", "value", "expected"),
    [
        (JA, "amount", Money(12_300), "12300円"),
        (EN, "amount", Money(12_300), "12,300 yen"),
        (EN, "amount", Money(1), "1 yen"),
        (EN, "amount", Money(100, "USD"), "1 dollar"),
        (EN, "amount", Money(123_401, "USD"), "1,234 dollars and 1 cent"),
        (JA, "amount", Money(1_250, "USD"), "12ドル50セント"),
        (EN, "count", 1, "1 digit"),
        (EN, "count", 8, "8 digits"),
        (JA, "count", 8, "8桁"),
        (EN, "last4", "0428", "zero, 4, 2, 8"),
        (JA, "last4", "0428", "ゼロ、ヨン、ニ、ハチ"),
        (JA, "brand", "unionpay", "ぎんれん"),
        (EN, "shop", " A\n{amount}\x00 B ", "A {amount} B"),
    ],
)
def test_variables(texts: Texts, name: str, value: Any, expected: str) -> None:
    assert texts.spoken(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", 12),
        ("amount", Money(1, "XXX")),
        ("amount", Money(-1)),
        ("count", "8"),
        ("last4", "04281"),
        ("last4", "４２８０"),
        ("last4", 4280),
        ("brand", "maestro"),
        ("shop", " \n"),
        ("nothing", "x"),
    ],
)
def test_variables_refused(name: str, value: Any) -> None:
    with pytest.raises(WordingError) as caught:
        EN.spoken(name, value)
    assert str(value) not in str(caught.value)[4:] or isinstance(value, Money) or str(value).isspace()


def test_wrong_variables_and_languages() -> None:
    for variables in ({}, {"amount": Money(1), "count": 1}, {"count": 1}):
        with pytest.raises(WordingError, match="takes"):
            EN.say("confirm_amount", variables)
    with pytest.raises(WordingError, match="no phrase"):
        EN.say("nothing", {})
    with pytest.raises(WordingError, match="texts of"):
        Texts.load("xx")


@pytest.fixture(scope="module")
def voice() -> OpenJTalkEngine:
    return OpenJTalkEngine()


@pytest.mark.parametrize(
    ("yen", "kana"),
    [
        (1, "イチエン"),
        (10, "ジューエン"),
        (100, "ヒャクエン"),
        (300, "サンビャクエン"),
        (600, "ロッピャクエン"),
        (800, "ハッピャクエン"),
        (1_000, "センエン"),
        (3_000, "サンゼンエン"),
        (8_000, "ハッセンエン"),
        (10_000, "イチマンエン"),
        (12_345, "イチマンニセンサンビャクヨンジューゴエン"),
        (100_000_000, "イチオクエン"),
    ],
)
def test_amounts_are_read_as_people_say_them(voice: OpenJTalkEngine, yen: int, kana: str) -> None:
    assert voice.reading(JA.spoken("amount", Money(yen))) == kana
    assert kana in voice.reading(JA.say("confirm_amount", {"amount": Money(yen)}))


@pytest.mark.parametrize(
    ("text", "kana"),
    [
        ("1桁", "ヒトケタ"),
        ("3桁", "サンケタ"),
        ("4桁", "ヨンケタ"),
        ("8桁", "ハチケタ"),
        ("16桁", "ジューロッケタ"),
        ("ゼロ、キュウ、ニ、ハチ、です", "ゼロ、キュー、ニ、ハチ、デス"),
        ("下4桁は", "シモヨンケタワ"),
        ("識別番号", "シキベツバンゴー"),
        ("有効期限", "ユーコーキゲン"),
        ("2028年9月", "ニセンニジューハチネンクガツ"),
        ("1、または、2", "イチ、マタワ、ニ"),
        ("表面", "オモテメン"),
        ("裏面", "ウラメン"),
    ],
)
def test_readings(voice: OpenJTalkEngine, text: str, kana: str) -> None:
    assert voice.reading(JA.readable(text)) == kana


@pytest.mark.parametrize("shift", range(10))
def test_digits_are_read_one_by_one_wherever_they_stand(voice: OpenJTalkEngine, shift: int) -> None:
    # In hiragana an eight before a comma was read as a particle ("wachi").
    kana = ("ゼロ", "イチ", "ニ", "サン", "ヨン", "ゴ", "ロク", "ナナ", "ハチ", "キュー")
    digits = [(shift + place * 3) % 10 for place in range(4)]
    text = JA.say("confirm_last4", {"last4": "".join(map(str, digits))})
    assert voice.reading(JA.readable(text)).endswith("、".join(["ワ", *(kana[d] for d in digits), "デス。"]))


def test_star_and_pound_are_spoken(voice: OpenJTalkEngine) -> None:
    # Open JTalk says nothing at all for the full-width signs themselves.
    assert "コメジルシ、シャープノジュンニ" in voice.reading(JA.readable(JA.say("capture_introduction", {})))


@pytest.mark.parametrize("key", sorted(JA.phrases))
def test_every_japanese_text_is_wholly_read(voice: OpenJTalkEngine, key: str) -> None:
    variables = {name: SAMPLES[name] for name in JA.placeholders(key)}
    reading = voice.reading(JA.readable(JA.say(key, variables)))
    assert re.fullmatch(r"[ァ-ヴー、。]+", reading), reading
