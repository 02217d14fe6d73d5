"""The E-model against values that its authors and others have published."""

from __future__ import annotations

import pytest

from media import quality


@pytest.mark.parametrize(
    ("r", "mos"),
    # G.107 annex B, table B.1; 93.2 is G.107's own check of its default values.
    [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1), (-20, 1), (100, 4.5)],
)
def test_mos_of_a_rating(r: float, mos: float) -> None:
    assert quality.mos_of(r) == pytest.approx(mos, abs=0.007)


def test_a_score_stays_on_its_scale() -> None:
    scores = [quality.mos_of(r / 10) for r in range(-100, 1200)]
    assert min(scores) == 1
    assert max(scores) == 4.5
    assert quality.mos(0, 0) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("delay_ms", "idd"), [(0, 0), (100, 0), (150, 0.16), (200, 3.04), (300, 14.8), (400, 24.1), (500, 30.64)]
)
def test_delay(delay_ms: float, idd: float) -> None:
    """G.107 clause 7.4, worked by hand."""
    assert quality.delay_impairment(delay_ms) == pytest.approx(idd, abs=0.06)


@pytest.mark.parametrize(
    ("percent", "bpl", "ie"),
    # G.107 clause 7.5 with G.113 appendix I: Ie,eff reaches half of 95 at Ppl = Bpl.
    [(0, 25.1, 0), (1, 25.1, 3.64), (5, 25.1, 15.78), (25.1, 25.1, 47.5), (1, 4.3, 17.92), (4.3, 4.3, 47.5)],
)
def test_loss(percent: float, bpl: float, ie: float) -> None:
    assert quality.loss_impairment(percent / 100, bpl=bpl) == pytest.approx(ie, abs=0.01)


def test_losses_that_come_together_weigh_more() -> None:
    alone = quality.loss_impairment(0.02)
    assert quality.loss_impairment(0.02, burst_ratio=2) > alone


def test_what_was_heard() -> None:
    assert quality.heard(0, 10, None, 40) is None
    assert quality.heard(1000, 0, None, 40) == 4.41
    assert quality.heard(950, 50, None, 40) == pytest.approx(3.92, abs=0.01)
    assert quality.heard(950, 50, 400, 40) < quality.heard(950, 50, None, 40)
