"""Searches against one another, on games whose best order is known, and their exact prices."""

import numpy as np
import pytest
import torch

from pipeline import UsageError
from pipeline.game import Coalitions, Outputs, drive, toy
from pipeline.methods.moxi_minus import MoxiMinus
from pipeline.methods.random import Random
from pipeline.methods.subset import Subset
from pipeline.scores.submodular import Submodular
from pipeline.scores.target import Target
from pipeline.scores.terms.collaboration import Collaboration
from pipeline.scores.terms.consistency import Consistency
from pipeline.searches.beam import Beam
from pipeline.searches.bidirectional import Bidirectional
from pipeline.searches.greedy import Greedy
from pipeline.searches.joint import Joint
from pipeline.searches.phase_window import PhaseWindow
from pipeline.searches.stale_scope import StaleScope
from pipeline.searches.windowed import Windowed

INSERTION = Target()
DELETION = Target(visible="others", sign=-1)
SMDL = Submodular()
BOTH = Submodular(terms={"consistency": Consistency(), "collaboration": Collaboration()})
SEARCHES = [
    *(Greedy(), Bidirectional(pending=3), StaleScope(scope=3, pending=2, update=4)),
    *(PhaseWindow(), PhaseWindow(bend=None), Joint(), Joint(r=3, top=5), Beam(), Windowed()),
    *(Windowed(window=3), Windowed(window=2, prior=MoxiMinus())),
]


class Curved:
    """Log-odds of a random game of n players with strong interactions; features and entropy too.
    Counts what it is asked, and refuses to be asked twice."""

    def __init__(self, n: int, seed: int = 0, once: bool = True):
        rng = np.random.default_rng(seed)
        self.n, self.once = n, once
        self._in_NH = 3 * torch.from_numpy(rng.normal(size=(n, 64)))
        self._out_H = torch.from_numpy(rng.normal(size=64)) / 4
        self.asked: set[bytes] = set()
        self.forwards = 0

    def __call__(self, coalitions_CN: torch.Tensor) -> Outputs:
        for row in coalitions_CN:
            key = row.numpy().tobytes()
            assert key not in self.asked or not self.once, "asked twice"
            self.asked.add(key)
        self.forwards += len(coalitions_CN)
        features_CH = torch.tanh(coalitions_CN.double() @ self._in_NH / self.n**0.5)
        value_C1 = features_CH @ self._out_H[:, None]
        p_C2 = torch.cat([value_C1, -value_C1], 1).sigmoid()
        entropy_C = -(p_C2 * p_C2.log()).sum(1)
        prediction_C = (value_C1[:, 0] <= 0).long()
        return Outputs.of((0,), value_C1, value_C1, prediction_C, 2, entropy_C, features_CH)


def explain(method, value, n):
    """What a method finds, and the forwards spent beside the end points."""
    game, answer = toy(value, n)
    if isinstance(value, Curved):
        value.forwards = 0
        if isinstance(method, Subset) and len(method.objectives) == 1:
            value.asked = set()  # the last step of a search of one side is asked for, as printed
    return drive(method.explain(game), answer)


@pytest.mark.parametrize("score", [INSERTION, DELETION, SMDL], ids=["in", "de", "smdl"])
@pytest.mark.parametrize(
    "search",
    [Beam(width=1), Joint(r=1), Joint(share=0.0), Windowed(window=12), Bidirectional(pending=12)],
    ids=str,
)
def test_searches_are_greedy_where_they_have_no_more_freedom(search, score):
    for seed in range(3):
        found, expected = (
            explain(Subset(score=score, search=s), Curved(12, seed, once=s == Greedy()), 12)
            for s in (search, Greedy())
        )
        for objective, attribution in expected.items():
            assert found[objective].order == attribution.order
            np.testing.assert_allclose(
                found[objective].path.value_C, attribution.path.value_C, rtol=1e-12
            )


@pytest.mark.parametrize("score", [INSERTION, DELETION, BOTH], ids=["in", "de", "both"])
@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_every_search_sorts_an_additive_game(search, score):
    for seed in range(3):
        weights_N = torch.from_numpy(np.random.default_rng(seed).normal(size=11)) / 5
        method = Subset(score=score, search=search)
        found = explain(method, lambda c, w=weights_N: c.double() @ w, 11)
        for attribution in found.values():
            if score is BOTH and isinstance(search, PhaseWindow | StaleScope | Bidirectional):
                continue  # probabilities are not additive; these trust older values
            assert attribution.order == torch.argsort(-weights_N).tolist()


@pytest.mark.parametrize("score", [INSERTION, SMDL], ids=["moxi", "smdl"])
@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_no_coalition_is_asked_for_twice_and_all_are_counted(search, score):
    n = 13
    value = Curved(n, once=getattr(search, "prior", None) is None)
    method = Subset(score=score, search=search)
    found = explain(method, value, n)
    for attribution in found.values():
        assert attribution.evaluations == value.forwards <= method.most_forwards(n)
        assert sorted(attribution.order) == list(range(n))


@pytest.mark.parametrize(
    ("search", "n", "published", "repeated"),
    [
        (Greedy(), 25, 650, 6),
        (Greedy(), 49, 2450, 6),
        (Bidirectional(pending=8), 25, 506, 18),
        (Bidirectional(pending=8), 49, 1610, 18),
        (Bidirectional(pending=8), 64, 2592, 18),
        (StaleScope(scope=8, pending=4, update=10), 53, 746, 2),
        (StaleScope(scope=6, pending=4, update=15), 48, 560, 2),
    ],
    ids=str,
)
def test_forwards_are_those_published_less_what_the_authors_ask_for_twice(
    search, n, published, repeated
):
    """The ends; where few or nearly all are picked, what another side or round has shown."""
    found = explain(Subset(score=BOTH, search=search), Curved(n), n)
    spent = {attribution.evaluations for attribution in found.values()}
    assert spent == {published - repeated}


def test_areas_and_targets_end_a_search():
    full = explain(Subset(score=INSERTION, search=Greedy()), Curved(12), 12)["insertion"]
    half = explain(Subset(score=INSERTION, search=Greedy(), area=0.5), Curved(12), 12)["insertion"]
    assert half.order == full.order[:6]
    goal = float(full.path.value_C[2])
    found = explain(Subset(score=INSERTION, search=Greedy(), reach=goal), Curved(12), 12)
    first = int((full.path.value_C >= goal).nonzero()[0])
    assert found["insertion"].order == full.order[: first + 1]
    with pytest.raises(UsageError, match="area=0"):
        Subset(score=INSERTION, search=Greedy(), area=0.0)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_budget_is_a_prefix_s_length_and_cheaper(search):
    value = Curved(13, once=False)
    full = explain(Subset(score=SMDL, search=search), value, 13)["insertion"]
    few = explain(Subset(score=SMDL, search=search, stop="budget", budget=3), value, 13)
    assert len(few["insertion"].order) == 3
    assert few["insertion"].evaluations < full.evaluations


def test_beams_and_pairs_find_what_greedy_misses():
    """Two players that are worth nothing but together."""

    def hidden_pair(coalitions_CN):
        value_C = coalitions_CN.double() @ torch.tensor([0.3, 0.2, 0.01, 0.01, 0.1]).double()
        return value_C + 5 * (coalitions_CN[:, 2] & coalitions_CN[:, 3])

    greedy, joint, beam = (
        explain(Subset(score=INSERTION, search=s), hidden_pair, 5)["insertion"]
        for s in (Greedy(), Joint(top=5), Beam(width=10))
    )
    assert greedy.order[:2] == [0, 1]
    assert set(joint.order[:2]) == set(beam.order[:2]) == {2, 3}
    assert beam.path.value_C.sum() > greedy.path.value_C.sum()


def test_a_wider_beam_s_orders_are_worth_more_on_average():
    worth = [
        np.mean(
            [
                float(
                    explain(
                        Subset(score=INSERTION, search=Beam(width=w)), Curved(10, s, False), 10
                    )["insertion"].path.value_C.mean()
                )
                for s in range(12)
            ]
        )
        for w in (1, 6)
    ]
    assert worth[0] < worth[1]


def test_a_windowed_search_follows_its_prior():
    random = explain(Random(seed=3), Curved(12), 12)["insertion"].order
    search = Windowed(window=1, prior=Random(seed=3))
    found = explain(Subset(score=INSERTION, search=search), Curved(12), 12)["insertion"]
    assert found.order == random and found.evaluations == 12


@pytest.mark.parametrize(
    ("kind", "wrong", "named"),
    [
        (Bidirectional, {"pending": 0}, "search.pending=0"),
        (StaleScope, {"scope": 0}, "search.scope=0"),
        (Joint, {"r": 3, "top": 2}, "search.r=3"),
        (Joint, {"share": 2.0}, "search.share=2.0"),
        (Beam, {"width": 0}, "search.width=0"),
        (Windowed, {"window": 0}, "search.window=0"),
        (PhaseWindow, {"window": 0.0}, "search.window=0"),
        (PhaseWindow, {"prune": 0.7}, "search.prune=0.7"),
        (PhaseWindow, {"near": 0.0}, "search.near=0"),
    ],
)
def test_settings_that_are_none_are_named(kind, wrong, named):
    with pytest.raises(UsageError, match=named):
        kind(**wrong)


def test_coalitions_are_asked_for_in_batches():
    """A search waits for the model once a step, not once a set."""
    game, answer = toy(Curved(20, once=False), 20)
    steps = []

    def counted(ask):
        assert isinstance(ask, Coalitions)
        steps.append(ask.sets)
        return answer(ask)

    drive(Subset(score=BOTH, search=Beam(width=4)).explain(game), counted)
    assert len(steps) <= 20
