"""Confidence sequences under continuous peeking, and what they decide."""

import numpy as np
import pytest

from pipeline import UsageError
from pipeline.statistics import betting
from pipeline.statistics.decision import decide, shuffled

ALPHA = 0.05


def peeked(runs: int, total: int, rng) -> float:
    """How often the true mean is ever refuted, whenever one looks; populations of all kinds."""
    wrong = 0
    for run in range(runs):
        kind = run % 4
        x_n = [
            lambda: rng.integers(0, 2, total).astype(float),
            lambda: rng.beta(5, 2, total),
            lambda: 0.5 + 0.02 * rng.normal(size=total),
            lambda: (rng.random(total) < 0.03) * rng.random(total),
        ][kind]()
        x_n, mean = x_n.clip(0, 1), float(x_n.clip(0, 1).mean())
        low = betting.refuted(x_n, total, mean, ALPHA)
        high = betting.refuted(1 - x_n, total, 1 - mean, ALPHA)
        wrong += low is not None or high is not None
    return wrong / runs


def test_peeking_all_the_time_does_not_raise_the_error():
    assert peeked(300, 150, np.random.default_rng(0)) <= ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("total", [150, 1500])
def test_peeking_all_the_time_does_not_raise_the_error_in_2000_runs(total):
    found = peeked(2000, total, np.random.default_rng(1))
    print(f"N = {total}: the truth was refuted in {100 * found:.2f} % of 2000 runs")
    assert found <= ALPHA


def fixed(effect: float, spread: float, total: int) -> float:
    """Images that a two-sided test of 5 % needs for a power of 80 %, were the truth known."""
    endless = (1.96 + 0.84) ** 2 * (spread / effect) ** 2
    return endless / (1 + endless / total)


def stops(effect: float, spread: float, runs: int, total: int = 5000) -> float:
    rng, found = np.random.default_rng(2), []
    for _ in range(runs):
        gain_n = rng.normal(effect, spread, total).clip(-1, 1)
        some_n = (1 + gain_n[: int(6 * fixed(effect, spread, total)) + 100]) / 2
        found.append(betting.refuted(some_n, total, 0.5, ALPHA) or len(some_n))
    return float(np.median(found)) / fixed(effect, spread, total)


@pytest.mark.parametrize(("effect", "spread"), [(0.02, 0.2), (0.05, 0.2), (0.05, 0.3)])
def test_it_stops_within_twice_the_images_of_a_test_that_knew_the_effect(effect, spread):
    """While the difference is no more than 1.25 of its variance: bets are bounded by [-1, 1]."""
    assert stops(effect, spread, runs=25) <= 2


def test_bounds_close_on_the_truth_and_are_exact_at_the_end():
    gain_n = np.random.default_rng(3).uniform(-0.2, 0.4, 200)
    widths = []
    for n in (0, 10, 50, 150, 200):
        low, high = betting.interval(gain_n[:n], 200)
        assert low <= gain_n.mean() + 1e-6 and gain_n.mean() - 1e-6 <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[0] == 2
    assert widths[-1] == pytest.approx(0, abs=1e-6)


def test_blocks_of_values_are_one_sequence(monkeypatch):
    x_n = np.random.default_rng(4).beta(3, 2, 500)
    whole = betting.refuted(x_n, 1000, 0.5, ALPHA)
    monkeypatch.setattr(betting, "BLOCK", 7)
    assert betting.refuted(x_n, 1000, 0.5, ALPHA) == whole is not None


@pytest.mark.parametrize(
    ("mean", "margin", "verdict"),
    [
        (0.15, 0.0, "better"),
        (-0.15, 0.0, "worse"),
        (0.15, 0.05, "better"),
        (0.0, 0.05, "equivalent"),
        (-0.15, 0.05, "worse"),
    ],
)
def test_it_decides_as_the_truth_is(mean, margin, verdict):
    gain_n = np.random.default_rng(5).normal(mean, 0.1, 3000).clip(-1, 1)
    found = decide(gain_n, 3000, margin=margin, alpha=ALPHA)
    assert found.verdict == verdict and found.n < 1500
    again = decide(gain_n[: found.n], 3000, margin=margin, alpha=ALPHA)
    assert again == found  # what comes later is not looked at
    assert decide(gain_n[: found.n - 1], 3000, margin=margin, alpha=ALPHA).verdict is None
    if verdict == "better":
        assert found.low > margin - 1e-6
    assert f"decided on {found.n} of 3000 images: " in found.text()


def test_little_is_decided_on_few_and_what_cannot_be_is_refused():
    found = decide(np.array([0.1, 0.2]), 100, margin=0.0, alpha=ALPHA)
    assert (found.verdict, found.n) == (None, 2) and "not decided after 2 of 100" in found.text()
    assert decide(np.array([]), 100, margin=0.0, alpha=ALPHA).verdict is None
    with pytest.raises(UsageError, match="differences beyond 1"):
        decide(np.array([1.5]), 100, margin=0.0, alpha=ALPHA)


def test_the_order_is_the_seed_s_and_the_names():
    images = [("toy", "s.tar", f"{i}") for i in range(50)]
    one, other = shuffled(images, 0), shuffled(images, 1)
    assert sorted(one) == sorted(images) and one != other and one == shuffled(images[::-1], 0)
    few = [image for image in one if int(image[2]) < 20]
    assert few == shuffled(images[:20], 0)  # more images do not reorder those that are there
