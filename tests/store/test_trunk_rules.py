"""Rules of trunks: what is written is understood, what is not is refused with a word that helps."""

from __future__ import annotations

import contextlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipivr.store import read, trunk_rules, write
from sipivr.store.errors import Invalid
from sipivr.store.records import SYSTEM
from sipivr.store.trunk_rules import CalledFrom, CodecName, KeyWay, OutgoingFrom, TrunkRules
from tests.store.world import World


def test_nothing_said_is_the_defaults() -> None:
    rules = trunk_rules.read({})
    assert rules == TrunkRules()
    assert (rules.dtmf, rules.codecs, rules.channel_limit) == (KeyWay.AUTO, tuple(CodecName), None)
    assert (
        rules.called_from[-1] is CalledFrom.TO
    )  # a forwarded call on a Japanese network has another number there


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtfm": "info"}, "did you mean dtmf"),
        ({"colour": "red"}, "symmetric_rtp"),
        ({"dtmf": "rfc2833"}, "allowed: auto, rfc4733, inband, info"),
        ({"codecs": ["G729"]}, "allowed: PCMU, PCMA"),
        ({"codecs": []}, "options.codecs"),
        ({"codecs": "PCMU"}, "options.codecs"),
        ({"codecs": ["PCMU", "PCMU"]}, "twice"),
        ({"symmetric_rtp": "yes"}, "options.symmetric_rtp"),
        ({"symmetric_rtp": 1}, "options.symmetric_rtp"),
        ({"channel_limit": 0}, "options.channel_limit"),
        ({"called_from": ["to", "nowhere"]}, "p-called-party-id"),
        ({"extra_methods": ["refer me"]}, "options.extra_methods"),
        ({"called_rewrite": [{"prefix": "abc", "to": ""}]}, "options.called_rewrite"),
        ({"caller_rewrite": [{"prefix": "9"}]}, "options.caller_rewrite"),
        ({"dialled_rewrite": [{"prefix": "9", "to": "0"}, {"prefix": "9", "to": "1"}]}, "twice"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(options: dict[str, object], says: str) -> None:
    with pytest.raises(Invalid, match=r"^options\.") as caught:
        trunk_rules.read(options)
    assert says in caught.value.detail


@given(st.dictionaries(st.text(max_size=20), st.none() | st.booleans() | st.integers() | st.text(max_size=9)))
def test_nothing_but_invalid_comes_of_anything(options: dict[str, object]) -> None:
    with contextlib.suppress(Invalid):
        assert isinstance(trunk_rules.read(options), TrunkRules)


def test_a_typo_is_not_stored(world: World) -> None:
    with pytest.raises(Invalid, match="dtmf"):
        write.put_trunk(
            world.store, SYSTEM, id="trk_1", name="PBX", networks=["192.0.2.1"], options={"dtmf": "off"}
        )
    assert read.trunks(world.store.db) == ()


def test_rules_come_back_typed(world: World) -> None:
    options = {
        "dtmf": "inband",
        "codecs": ["PCMA"],
        "channel_limit": 3,
        "called_from": ["to"],
        "symmetric_rtp": True,
    }
    put = write.put_trunk(world.store, SYSTEM, name="PBX", networks=["192.0.2.1"], options=options)
    (stored,) = read.trunks(world.store.db)
    assert stored == put
    assert stored.rules == TrunkRules(
        dtmf=KeyWay.INBAND,
        codecs=(CodecName.PCMA,),
        channel_limit=3,
        called_from=(CalledFrom.TO,),
        symmetric_rtp=True,
    )


def test_a_row_that_is_not_understood_is_off_and_says_why(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    trunk = write.put_trunk(world.store, SYSTEM, name="PBX", networks=["192.0.2.1"])
    with world.store.db.conn:
        world.store.db.execute("UPDATE trunk SET options = '{\"dtfm\": 1}' WHERE id = ?", [trunk.id])
    with caplog.at_level(logging.ERROR):
        (stored,) = read.trunks(world.store.db)
    assert not stored.active
    assert trunk.id in caplog.text and "did you mean dtmf" in caplog.text


def test_a_preset_fills_in_what_is_not_said(world: World) -> None:
    said = {"preset": "jp-ngn", "codecs": ["PCMU", "PCMA"]}
    write.put_trunk(world.store, SYSTEM, id="trk_ngn", name="NGN", networks=("192.0.2.7",), options=said)
    (rules,) = [trunk.rules for trunk in read.trunks(world.store.db) if trunk.id == "trk_ngn"]
    assert rules.outgoing_from is OutgoingFrom.CALLED
    assert rules.codecs == (CodecName.PCMU, CodecName.PCMA)
    assert trunk_rules.read({"preset": "jp-ngn"}).codecs == (CodecName.PCMU,)
    with pytest.raises(Invalid, match="allowed: jp-ngn"):
        trunk_rules.read({"preset": "ngn"})
