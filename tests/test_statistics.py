"""Intervals that hold what they say, tests held against oracles; simulations of known truths."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline.statistics import agreement, draws
from pipeline.statistics.clusters import estimate
from pipeline.statistics.paired import holm, paired
from pipeline.statistics.predicted import predicted
from pipeline.statistics.standings import profile, standings

COVERS = (0.93, 0.97)
RUNS = 1000


def share(low, high, truth) -> float:
    return float(np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high))))


def clustered(rng, clusters=40, size=6):
    """Half of the variance is the cluster's."""
    shared_n = np.repeat(rng.normal(size=clusters), size)
    return 1 + shared_n + rng.normal(size=clusters * size), np.repeat(range(clusters), size)


def test_intervals_of_a_mean_cover_it():
    rng = np.random.default_rng(0)
    found = [estimate(rng.beta(2, 3, 25)) for _ in range(RUNS)]
    covered = share([e.low for e in found], [e.high for e in found], 0.4)
    assert COVERS[0] <= covered <= COVERS[1], covered


def test_clustered_intervals_cover_where_plain_ones_do_not():
    rng = np.random.default_rng(1)
    every = [clustered(rng) for _ in range(RUNS)]
    aware = [estimate(values, cluster) for values, cluster in every]
    plain = [estimate(values) for values, _ in every]
    covered = share([e.low for e in aware], [e.high for e in aware], 1)
    assert COVERS[0] <= covered <= COVERS[1], covered
    assert share([e.low for e in plain], [e.high for e in plain], 1) < 0.8
    assert np.mean([e.design_effect for e in aware]) == pytest.approx(1 + 5 * 0.5, rel=0.05)


@pytest.mark.parametrize("clusters", [None, 25])
@pytest.mark.parametrize("n", [10, 100])
def test_the_bayesian_bootstrap_covers(n, clusters):
    rng = np.random.default_rng(2)
    unit_n = np.arange(n if clusters is None else clusters, dtype=np.uint64)
    values_nK = rng.gamma(4, 0.25, (n, RUNS)) if clusters is None else None
    if values_nK is None:
        unit_n = np.repeat(unit_n, 4)
        values_nK = 1 + np.repeat(rng.normal(size=(clusters, RUNS)), 4, 0)
        values_nK += rng.normal(size=values_nK.shape)
    sums = draws.Sums.nothing(1000, RUNS)
    sums.add(values_nK, draws.weights(unit_n, 1000, seed=0))
    band = sums.band(len(set(unit_n.tolist())), 0.95)
    covered = share(band.low_G, band.high_G, 1)
    assert COVERS[0] - 0.01 * (n == 10) <= covered <= COVERS[1], covered  # skewed, ten images


def test_sums_are_the_same_in_any_order_and_batches():
    rng = np.random.default_rng(3)
    values_nK, unit_n = rng.random((50, 3)), draws.units((f"i{i}",) for i in range(50))
    whole, parts = draws.Sums.nothing(40, 3), []
    whole.add(values_nK, draws.weights(unit_n, 40, seed=1))
    for some in np.split(rng.permutation(50), [7, 20]):
        parts.append(draws.Sums.nothing(40, 3))
        parts[-1].add(values_nK[some], draws.weights(unit_n[some], 40, seed=1))
    added = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(added.drawn(), whole.drawn(), rtol=1e-12)
    np.testing.assert_allclose(whole.mean(), values_nK.mean(0))
    assert not np.allclose(draws.weights(unit_n, 40, seed=2), draws.weights(unit_n, 40, seed=1))


def test_holm_is_that_of_statsmodels():
    for seed in range(20):
        p_m = np.random.default_rng(seed).random(12) ** 3
        np.testing.assert_allclose(holm(p_m), multipletests(p_m, method="holm")[1])


def test_holm_of_a_choice_from_all_pairs_is_no_more_lenient():
    p_m = np.random.default_rng(6).random(10) ** 4
    chosen = [0, 3, 4, 8]
    assert (holm(p_m[chosen], 10) >= multipletests(p_m, method="holm")[1][chosen] - 1e-12).all()
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_pair_of_methods_by_hand():
    found = paired(np.array([0.3, 0.1, -0.2, 0.0, 0.4]))
    assert (found.above, found.below, found.equal) == (3, 1, 1)
    assert found.mean.mean == pytest.approx(0.12)
    assert found.improvement.mean == pytest.approx(0.7)
    assert found.rank_biserial == pytest.approx((1 + 3 + 4 - 2) / 10)
    assert found.cohens_dz == pytest.approx(0.12 / np.std([0.3, 0.1, -0.2, 0, 0.4], ddof=1))
    reference = stats.ttest_1samp([0.3, 0.1, -0.2, 0.0, 0.4], 0).confidence_interval()
    assert (found.mean.low, found.mean.high) == pytest.approx((reference.low, reference.high))
    nothing = paired(np.zeros(4))
    assert (nothing.p, nothing.rank_biserial, nothing.more) == (1.0, 0.0, None)


def test_so_many_more_images_do_find_the_difference():
    rng = np.random.default_rng(7)
    first = paired(rng.normal(0.1, 1, 60))
    assert first.mean.low < 0 < first.mean.high and first.more
    truth, spread = first.mean.mean, first.mean.error * np.sqrt(60)
    n = 60 + first.more
    reach = 1.96 * spread / np.sqrt(n)
    assert stats.norm.cdf((abs(truth) - reach) / spread * np.sqrt(n)) == pytest.approx(
        0.8, abs=0.01
    )
    assert paired(rng.normal(1, 1, 60)).more == 0


def test_wilcoxon_counts_clusters_and_not_their_images():
    rng = np.random.default_rng(8)
    apart = [paired(*clustered_about_zero(rng)).p for _ in range(200)]
    assert np.mean(np.array(apart) < 0.05) < 0.08


def clustered_about_zero(rng):
    values_n, cluster_n = clustered(rng, 20, 10)
    return values_n - 1, cluster_n


def test_standings_say_how_sure_the_first_place_is():
    rng = np.random.default_rng(9)
    base_n = rng.normal(size=300)
    noise_nM = rng.normal(0, 0.1, (300, 3))
    values_nM = base_n[:, None] + noise_nM + [0.1, 0.09, 0.0]
    found = standings(values_nM, np.arange(300, dtype=np.uint64), resamples=2000, seed=0)
    assert found.best_M.sum() == pytest.approx(1) and found.best_M[2] < 0.001
    np.testing.assert_allclose(found.ranks_MP.sum(1), 1)
    np.testing.assert_allclose(found.ranks_MP[:, 0], found.best_M)
    assert found.better(0, 2) == 1 and found.better(0, 2, margin=0.3) == 0
    gap = values_nM[:, 0] - values_nM[:, 1]
    expected = stats.norm.cdf(gap.mean() / gap.std() * np.sqrt(300))
    assert found.better(0, 1) == pytest.approx(expected, abs=0.03)
    alike = standings(values_nM[:, [0, 0]], np.arange(300, dtype=np.uint64), resamples=50, seed=0)
    assert alike.best_M.tolist() == [0.5, 0.5]


def test_profiles_fall_from_one_to_nothing():
    at_T = np.array([-1.0, 0.1, 0.2, 5.0])
    assert profile(np.array([0.1, 0.2, 0.2, 0.4]), at_T).tolist() == [1, 0.75, 0.25, 0]


def test_alpha_is_that_of_the_book():
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C."""
    o = np.nan
    ratings_RU = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, o, o, o],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, o, 3],
            [o, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, o],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, o],
        ]
    )
    assert agreement.alpha(ratings_RU) == pytest.approx(0.815, abs=5e-4)
    assert agreement.alpha(np.tile([1.0, 2, 3], (5, 1))) == 1
    chance = np.random.default_rng(0).permuted(np.tile(np.arange(5.0), (4000, 1)), axis=1)
    assert agreement.alpha(chance) == pytest.approx(0, abs=0.01)


def test_rankings_agree_disagree_or_tell_nothing():
    one = np.array([0.1, 0.2, 0.3])
    assert agreement.kendall(one, one * 2) == 1 and agreement.kendall(one, -one) == -1
    assert np.isnan(agreement.kendall(one[:1], one[:1]))
    assert agreement.ranks(np.array([[3.0, 1.0, 3.0]])).tolist() == [[1.5, 3, 1.5]]


def two_phases(rng, n=60, rest=600, noise=0.3):
    """A screened value that follows the exact one, and is biased."""
    exact = rng.gamma(3, 0.2, n + rest)
    cheap = 0.7 * exact + 0.2 + noise * rng.normal(0, 0.2, n + rest)
    return predicted(exact[:n], cheap[:n], cheap[n:])


def test_predicted_means_cover_and_are_sharper_than_the_exact_part_alone():
    rng = np.random.default_rng(10)
    found = [two_phases(rng) for _ in range(RUNS)]
    covered = share([f.low for f in found], [f.high for f in found], 0.6)
    assert COVERS[0] <= covered <= COVERS[1], covered
    width, alone = (
        np.mean([f.high - f.low for f in found]),
        np.mean([f.alone_high - f.alone_low for f in found]),
    )
    assert width < 0.55 * alone


def test_a_cheap_method_that_tells_nothing_does_no_harm():
    rng = np.random.default_rng(11)
    exact, cheap = rng.random(80), rng.random(800)
    found = predicted(exact, cheap[:80], cheap[80:])
    assert abs(found.tuned) < 0.3
    assert found.high - found.low < 1.03 * (found.alone_high - found.alone_low)
    alone = predicted(exact, exact, np.array([]))
    assert (alone.mean, alone.low) == (alone.alone, alone.alone_low)
