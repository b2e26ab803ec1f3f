"""What is decided of paired differences, and how many images would decide."""

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.reevaluation.verdicts import LEAST, Quantity, Rule, bounds, decide, overall

RULE = Rule(confidence=0.95, resamples=300, seed=0, power=0.8)


def quantity(values, tolerance=0.03, **more):
    values_n = np.asarray(values, dtype=float)
    return Quantity(kind="auc", subject="m", tolerance=tolerance, values_n=values_n, **more)


def spread(mean, sd, n):
    """n values of just this mean and standard deviation."""
    x = norm.ppf((np.arange(n) + 0.5) / n)
    return mean + sd * (x - x.mean()) / x.std(ddof=1)


@pytest.mark.parametrize(
    ("mean", "two_sided", "word"),
    [
        (0.0, False, "pass"),
        (-0.2, False, "pass"),  # better is no regression
        (0.2, False, "regression"),
        (0.033, False, "inconclusive"),
        (-0.2, True, "regression"),
        (-0.033, True, "inconclusive"),
        (0.0, True, "pass"),
    ],
)
def test_the_interval_s_place_is_the_verdict(mean, two_sided, word):
    found = decide(quantity(spread(mean, 0.02, 40), two_sided=two_sided), RULE)
    assert found.word == word and found.low < found.mean < found.high
    assert (found.needed is None) == (word != "inconclusive")


def test_the_same_rows_pass_however_few_and_other_rows_need_some():
    zeros = [0.0] * (LEAST - 1)
    assert decide(quantity(zeros, same=True), RULE).word == "pass"
    few = decide(quantity(zeros), RULE)
    assert (few.word, few.needed) == ("inconclusive", LEAST)
    assert decide(quantity([*zeros, 0.0]), RULE).word == "pass"
    assert decide(quantity([]), RULE).word == "inconclusive"
    # the same rows by address that are not the same by value are a question of statistics again
    assert decide(quantity(spread(0.2, 0.02, 40), same=True), RULE).word == "regression"


def test_no_changed_prediction_of_few_is_no_proof_that_none_changes():
    found = decide(quantity([0] * 8, 0.05, share=True), RULE)
    assert found.word == "inconclusive" and (found.low, found.mean) == (0, 0)
    assert found.high == pytest.approx(3.8415 / (8 + 3.8415), abs=1e-4)  # Wilson, none of 8
    assert found.needed == 73  # z^2 (1 - t) / t
    assert decide(quantity([0] * 72, 0.05, share=True), RULE).word == "inconclusive"
    assert decide(quantity([0] * 73, 0.05, share=True), RULE).word == "pass"
    assert decide(quantity([1] * 8, 0.05, share=True), RULE).word == "regression"
    assert bounds(quantity([0] * 8, share=True, same=True), RULE) == (0, 0)


def test_a_mean_on_the_tolerance_is_never_decided():
    found = decide(quantity(spread(0.03, 0.02, 40)), RULE)
    assert found.word == "inconclusive"
    assert found.needed is None and "too many" in found.why


def test_the_worst_verdict_is_that_of_the_whole():
    found = [decide(quantity(spread(m, 0.02, 40)), RULE) for m in (0.0, 0.03, 0.2)]
    assert overall(found) == "regression"
    assert overall(found[:2]) == "inconclusive" and overall(found[:1]) == "pass"
    assert overall([]) == "inconclusive"


@pytest.mark.parametrize("share", [False, True])
def test_as_many_images_as_are_asked_for_decide_most_of_the_time(share):
    """Pilots of synthetic differences with a known mean and spread: of those that decide nothing,
    the median of what they ask for is near what theory has, and decides as often as the power."""
    rng = np.random.default_rng(1)
    mean, sd, tolerance, pilot = (0.02, 0.14, 0.1, 60) if share else (0.0, 0.05, 0.02, 24)

    def draw(n):
        return rng.random(n) < mean if share else rng.normal(mean, sd, n)

    pilots = [decide(quantity(draw(pilot), tolerance, share=share), RULE) for _ in range(200)]
    asked = [one.needed for one in pilots if one.word == "inconclusive"]
    assert len(asked) > 30 and not any(one.word == "regression" for one in pilots)
    median = int(np.median([10**7 if n is None else n for n in asked]))
    gap = tolerance - mean
    theory = ((1.96 + 0.8416) * sd / gap) ** 2  # 49 of means
    if share:
        theory = ((1.96 * 0.3 + 0.8416 * 0.14) / gap) ** 2  # 78
    assert 0.7 * theory < median < 2.5 * theory
    again = [decide(quantity(draw(median), tolerance, share=share), RULE) for _ in range(200)]
    assert np.mean([one.word == "pass" for one in again]) > 0.7
