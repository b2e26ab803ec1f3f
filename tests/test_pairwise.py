import torch
from conftest import table_game

from pipeline.methods import play
from pipeline.methods.pairwise import Pairwise


def test_pairs_are_the_definitions():
    n, value = 5, table_game(5)
    found = play(Pairwise(), value, n)

    def v(players, hidden=False):
        row = torch.zeros(1, n, dtype=torch.bool)
        row[0, list(players)] = True
        return float(value(~row if hidden else row)[0])

    for position, (i, j) in enumerate(torch.triu_indices(n, n, 1).T.tolist()):
        own = v([i, j]) - v([i]) - v([j]) + v([])
        full = v([], True) - v([i], True) - v([j], True) + v([i, j], True)
        torch.testing.assert_close(
            float(found["insertion"].pairs[position]), own, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            float(found["deletion"].pairs[position]), full / (n - 1), atol=1e-5, rtol=0
        )


def test_a_game_of_pairs_is_recovered_with_its_shapley_order():
    n = 5
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n, generator=generator).double()
    joint = torch.randn(n, n, generator=generator).double().triu(1)

    def value(coalitions_CN):
        x = coalitions_CN.double()
        return x @ weights + ((x @ joint) * x).sum(1)

    found = play(Pairwise(), value, n)
    one, other = torch.triu_indices(n, n, 1)
    torch.testing.assert_close(
        found["insertion"].pairs.double(), joint[one, other], atol=1e-5, rtol=0
    )
    shapley = weights + (joint + joint.T).sum(1) / 2
    for objective in ("insertion", "deletion"):
        assert found[objective].order == torch.argsort(-shapley).tolist()
        torch.testing.assert_close(found[objective].scores_N, shapley)


def test_forwards_are_counted():
    asked = []

    def value(coalitions_CN):
        asked.append(len(coalitions_CN))
        return table_game(6)(coalitions_CN)

    found = play(Pairwise(), value, 6)
    assert found["insertion"].evaluations == found["deletion"].evaluations == 6 + 15
    assert sum(asked) - 2 == Pairwise().most_forwards(6) == 2 * 21
