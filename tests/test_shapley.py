from itertools import permutations

import pytest
import torch
from conftest import table_game

from pipeline import UsageError
from pipeline.methods import play, rank
from pipeline.methods.shapley import CHUNK, ShapleyExact, ShapleyMoxi, ShapleyPermutation

WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, -0.2]).double()
ALL = (
    ShapleyMoxi(rounds=3),
    ShapleyPermutation(forwards=24),
    ShapleyPermutation(forwards=18, antithetic=False),
    ShapleyExact(),
)


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS - 1.5


def scores(method, value, n, key=""):
    return play(method, value, n, key=key)["insertion"].scores_N


def ends(value, n):
    return value(torch.tensor([[False] * n, [True] * n]))


def definition(value, n):
    """Mean marginal contribution over all n! orders, one at a time."""
    orders = list(permutations(range(n)))
    phi = torch.zeros(n).double()
    for order in orders:
        visible = torch.zeros(1, n, dtype=torch.bool)
        for player in order:
            before = value(visible)[0]
            visible[0, player] = True
            phi[player] += value(visible)[0] - before
    return phi / len(orders)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


def test_exact_is_the_definition():
    for seed in range(3):
        value = table_game(5, seed)
        close(scores(ShapleyExact(), value, 5), definition(value, 5))


@pytest.mark.parametrize("method", ALL)
def test_additive_game_gives_its_weights(method):
    found = play(method, additive, 6)
    for attribution in found.values():
        close(attribution.scores_N, WEIGHTS)
        assert attribution.order == torch.argsort(-WEIGHTS).tolist()
    assert list(found) == ["insertion", "deletion"]


@pytest.mark.parametrize("method", ALL[1:])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_efficiency(method, n):
    value = table_game(n)
    empty, full = ends(value, n)
    close(scores(method, value, n).sum(), full - empty)


def test_an_order_and_its_reverse_suffice_for_pairwise_interactions():
    pairs = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()

    def value(coalitions_CN):
        visible_CN = coalitions_CN.double()
        return additive(coalitions_CN) + ((visible_CN @ pairs) * visible_CN).sum(1)

    expected = WEIGHTS + (pairs + pairs.T).sum(1) / 2
    close(scores(ShapleyPermutation(forwards=10), value, 6), expected)
    close(scores(ShapleyExact(), value, 6), expected)


@pytest.mark.parametrize("antithetic", [True, False])
def test_permutations_converge_to_exact(antithetic):
    value = table_game(6)
    found = torch.stack(
        [
            scores(ShapleyPermutation(forwards=50, antithetic=antithetic, seed=s), value, 6)
            for s in range(200)
        ]
    )
    assert standard_errors(found, scores(ShapleyExact(), value, 6)) < 4


def test_rounds_converge_to_exact_but_for_the_largest_coalition():
    """The mean over sizes 0..n-2: phi without the term v(N) - v(N \\ i), reweighted."""
    n, value = 6, table_game(6)
    found = torch.stack([scores(ShapleyMoxi(rounds=20, seed=s), value, n) for s in range(200)])
    exact = scores(ShapleyExact(), value, n)
    last = ends(value, n)[1] - value(~torch.eye(n, dtype=torch.bool))
    assert standard_errors(found, (n * exact - last) / (n - 1)) < 4
    assert standard_errors(found, exact) > 4  # the bias of the authors' estimator is real


def standard_errors(found_RN, expected_N):
    """The farthest that a mean of R runs lies from what is expected, in its standard errors."""
    error_N = found_RN.std(0) / len(found_RN) ** 0.5
    return float(((found_RN.mean(0) - expected_N).abs() / error_N).max())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_forwards_are_counted_exactly(method, n):
    asked = []

    def value(coalitions_CN):
        assert coalitions_CN.dtype == torch.bool and len(coalitions_CN)
        asked.append(coalitions_CN)
        return table_game(n)(coalitions_CN)

    found = play(method, value, n)
    spent = sum(len(c) for c in asked) - 2  # the two ends are the game's
    assert spent == method.most_forwards(n)
    for attribution in found.values():
        assert attribution.evaluations == spent
        assert attribution.order == rank(attribution.scores_N)
        assert attribution.scores_N.dtype == torch.float64


def test_forwards_of_the_paper():
    assert ShapleyMoxi().most_forwards(196) == 78_400
    assert ShapleyPermutation().most_forwards(49) == 50 * 48
    assert ShapleyPermutation(forwards=1).most_forwards(196) == 2 * 195  # a pair at the least
    assert ShapleyPermutation(forwards=600, antithetic=False).orders(196) == 3
    assert ShapleyExact().most_forwards(16) == 65_534


def test_exact_asks_each_coalition_once_and_in_chunks():
    asked = []

    def value(coalitions_CN):
        asked.append(coalitions_CN)
        return coalitions_CN.double().sum(1)

    close(scores(ShapleyExact(), value, 13), torch.ones(13).double())
    assert [len(c) for c in asked] == [2, CHUNK, CHUNK - 2]
    assert len(torch.cat(asked).unique(dim=0)) == 2**13


def test_a_round_shares_its_size_but_not_its_coalitions():
    n, asked, sizes = 7, [], set()

    def value(coalitions_CN):
        asked.append(coalitions_CN)
        return table_game(n)(coalitions_CN)

    play(ShapleyMoxi(rounds=100), value, n)
    for round_CN in asked[1:]:
        without_NN, with_NN = round_CN.split(n)
        assert ((with_NN ^ without_NN) == torch.eye(n, dtype=torch.bool)).all()
        assert not without_NN.diagonal().any()
        (size,) = without_NN.sum(1).unique().tolist()
        sizes.add(size)
    assert sizes == set(range(n - 1))
    # each other player is in m as often as the next
    share_NN = torch.stack([c[:n] for c in asked[1:]]).double().mean(0)
    others = share_NN[~torch.eye(n, dtype=torch.bool)]
    assert (others - others.mean()).abs().max() < 0.2


@pytest.mark.parametrize("kind", [ShapleyMoxi, ShapleyPermutation])
def test_scores_belong_to_seed_and_sample(kind):
    value = table_game(6)
    one = scores(kind(), value, 6, key="a")
    assert torch.equal(scores(kind(), value, 6, key="a"), one)
    assert torch.equal(play(kind(), value, 6, key="a")["deletion"].scores_N, one)
    assert not torch.equal(scores(kind(seed=1), value, 6, key="a"), one)
    assert not torch.equal(scores(kind(), value, 6, key="b"), one)


def test_what_cannot_be_served_is_refused():
    with pytest.raises(ValueError, match=r"n=17 .* use shapley_permutation"):
        play(ShapleyExact(), lambda c: c.double().sum(1), 17)
    with pytest.raises(UsageError, match="forwards=0"):
        ShapleyPermutation(forwards=0)
    with pytest.raises(UsageError, match="rounds=0"):
        ShapleyMoxi(rounds=0)
