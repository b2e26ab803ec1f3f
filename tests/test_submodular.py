"""Terms of the submodular score against their definitions, and a game of three regions by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline import UsageError
from pipeline.game import Outputs, drive, toy
from pipeline.identity import content, fingerprint
from pipeline.methods.subset import Subset
from pipeline.scores.submodular import Submodular
from pipeline.scores.terms.collaboration import Collaboration
from pipeline.scores.terms.confidence import Confidence
from pipeline.scores.terms.consistency import Consistency
from pipeline.scores.terms.effectiveness import Effectiveness, distances, diversity
from pipeline.searches.greedy import Greedy

P_TARGET = {0: 0.1, 1: 0.6, 2: 0.3, 4: 0.2, 3: 0.8, 5: 0.7, 6: 0.4, 7: 0.9}
"""Of each set of three regions, by its bits: region 0 is 1, region 1 is 2, region 2 is 4."""
ANGLE = {0: 0.0, 1: 0.0, 2: 60.0, 4: 90.0, 3: 30.0, 5: 45.0, 6: 75.0, 7: 20.0}
"""Of the features of each set, degrees in a plane."""


def regions(coalitions_CN: torch.Tensor) -> Outputs:
    """Two classes, p(target) and its angle as said above."""
    bits_C = (coalitions_CN.int() @ torch.tensor([1, 2, 4], dtype=torch.int32)).tolist()
    p_C = torch.tensor([P_TARGET[b] for b in bits_C], dtype=torch.float64)
    angle_C = torch.tensor([math.radians(ANGLE[b]) for b in bits_C], dtype=torch.float64)
    odds_C1 = torch.logit(p_C)[:, None]
    entropy_C = -(p_C * p_C.log() + (1 - p_C) * (1 - p_C).log())
    features_C2 = torch.stack([angle_C.cos(), angle_C.sin()], 1)
    top_C = (p_C <= 0.5).long()
    return Outputs.of((0,), odds_C1, odds_C1, top_C, 2, entropy_C, features_C2)


def value_of(score, members) -> float:
    """F of a set of the three-region game."""
    game, answer = toy(regions, 3)
    picked_CN = torch.zeros(1, 3, dtype=torch.bool)
    picked_CN[0, list(members)] = True
    return float(drive(drive(score.open(game), answer)(picked_CN), answer).value_C[0])


def entropy(p: float) -> float:
    return -(p * math.log(p) + (1 - p) * math.log(1 - p))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
def test_effectiveness_in_one_step_is_its_definition(size):
    rng = np.random.default_rng(size)
    features_ND = torch.from_numpy(rng.normal(size=(12, 5)))
    distances_NN = distances(features_ND)
    cosine_NN = torch.nn.functional.cosine_similarity(
        features_ND[:, None], features_ND[None], dim=2
    )
    torch.testing.assert_close(
        distances_NN, cosine_NN.clamp(-1, 1).arccos() / math.pi, rtol=0, atol=1e-7
    )
    base = rng.permutation(12)[: size - 1].tolist()
    sets = [[*base, a] for a in range(12) if a not in base]
    picked_CN = torch.zeros(len(sets), 12, dtype=torch.bool)
    expected = []
    for row, members in enumerate(sets):
        picked_CN[row, members] = True
        nearest = [
            min((float(distances_NN[i, j]) for j in members if j != i), default=0.0)
            for i in members
        ]
        expected.append(sum(nearest))
    np.testing.assert_allclose(diversity(picked_CN, distances_NN), expected, rtol=1e-12)
    apart_CN = torch.cat([picked_CN, torch.zeros(1, 12, dtype=torch.bool)])  # no common set
    np.testing.assert_allclose(diversity(apart_CN, distances_NN), [*expected, 0], rtol=1e-12)


def test_terms_of_three_regions_by_hand():
    def only(term):
        return Submodular(terms={"it": term})

    for members in itertools.chain.from_iterable(
        itertools.combinations(range(3), k) for k in (1, 2, 3)
    ):
        bits = sum(1 << i for i in members)
        shown, left = P_TARGET[bits], P_TARGET[7 - bits]
        assert value_of(only(Consistency()), members) == pytest.approx(shown)
        assert value_of(only(Collaboration()), members) == pytest.approx(1 - left)
        assert value_of(only(Confidence()), members) == pytest.approx(
            1 - entropy(shown) / math.log(2)
        )
        towards = math.cos(math.radians(ANGLE[bits] - 20))
        away = math.cos(math.radians(ANGLE[7 - bits] - 20))
        assert value_of(only(Consistency(read="cosine")), members) == pytest.approx(towards)
        assert value_of(only(Collaboration(read="cosine")), members) == pytest.approx(1 - away)
    effectiveness = only(Effectiveness())
    assert value_of(effectiveness, [0]) == 0
    assert value_of(effectiveness, [0, 1]) == pytest.approx(2 * 60 / 180)
    assert value_of(effectiveness, [0, 1, 2]) == pytest.approx((60 + 30 + 30) / 180)


def test_weights_add_up_and_terms_without_weight_cost_nothing():
    terms = {
        "confidence": Confidence(weight=0.01),
        "effectiveness": Effectiveness(weight=0.05),
        "consistency": Consistency(weight=20.0),
        "collaboration": Collaboration(weight=5.0),
    }
    found = value_of(Submodular(terms=terms), [0, 1])
    by_hand = 0.01 * (1 - entropy(0.8) / math.log(2)) + 0.05 * 2 / 3 + 20 * 0.8 + 5 * (1 - 0.2)
    assert found == pytest.approx(by_hand)
    cheap = Submodular(terms=terms | {"effectiveness": Effectiveness(weight=0.0)})
    assert cheap.forwards(3) == (0, 2) and Submodular(terms=terms).forwards(3) == (3, 2)
    one_sided = Submodular(terms={"consistency": Consistency()})
    assert one_sided.forwards(3) == (0, 1) and one_sided.objectives == ("insertion",)
    assert Submodular(terms={"it": Collaboration()}).objectives == ("deletion",)
    with pytest.raises(UsageError, match=r"score\.terms"):
        Submodular(terms={"consistency": Consistency(weight=0.0)})


def test_smdl_on_three_regions():
    """Region 0 is worth most at once, then 1 (p .8, far from 0); both curves come for free."""
    game, answer = toy(regions, 3)
    found = drive(Subset(score=Submodular(), search=Greedy()).explain(game), answer)
    assert found["insertion"].order == found["deletion"].order
    first = {i: value_of(Submodular(), [i]) for i in range(3)}
    assert found["insertion"].order[0] == max(first, key=first.get) == 0
    second = {i: value_of(Submodular(), [0, i]) for i in (1, 2)}
    assert found["insertion"].order[1] == max(second, key=second.get)
    shown = [P_TARGET[1], P_TARGET[1 | 1 << found["insertion"].order[1]], P_TARGET[7]]
    np.testing.assert_allclose(found["insertion"].path.value_C.sigmoid(), shown)
    assert found["insertion"].path.features_CD is None  # a path keeps no features
    both = [0.1 + 1 - 0.9] + [
        s + 1 - P_TARGET[7 - b] for s, b in zip(shown, (1, 3, 7), strict=True)
    ]
    moved = np.abs(np.diff(both)).cumsum()
    values_N = 1 - (moved - moved[0]) / (moved[-1] - moved[0])
    np.testing.assert_allclose(found["insertion"].scores_N[found["insertion"].order], values_N)


def test_an_evidential_head_says_how_much_evidence_there_is(tmp_path):
    weight_KD, bias_K = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, -30.0])
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "head.safetensors"
        save_file({"weight": weight_KD, "bias": bias_K}, path, metadata={"scale": "2.0"})
    here, there = (
        Confidence(head=str(tmp_path / f / "head.safetensors")) for f in ("here", "there")
    )
    logits = [2 * (2 * math.cos(math.radians(30)) + 0.5), -10.0]  # clamped
    evidence = [math.exp(min(10, z)) for z in logits]
    expected = 1 - 2 / sum(e + 1 for e in evidence)
    score = Submodular(terms={"confidence": here})
    assert value_of(score, [0, 1]) == pytest.approx(expected, rel=1e-6)
    assert score.needs == {"shown", "features"}
    assert fingerprint(content(here)) == fingerprint(content(there))
    assert fingerprint(content(here)) != fingerprint(content(Confidence()))
    other = Confidence(head=here.head, scale=1.0)
    assert fingerprint(content(other)) != fingerprint(content(here))
    (tmp_path / "text").write_text("no head")
    with pytest.raises(UsageError, match=r"confidence\.head=.*text"):
        fingerprint(content(Confidence(head=str(tmp_path / "text"))))


@pytest.mark.parametrize("kind", [Consistency, Collaboration])
def test_a_reading_that_is_none_is_named(kind):
    with pytest.raises(UsageError, match=f"{kind.__name__.lower()}.read='logit'"):
        kind(read="logit")
