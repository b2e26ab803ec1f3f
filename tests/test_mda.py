"""MDA on a game whose two maskings disagree, and the curve that its magnitudes follow."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pipeline import UsageError
from pipeline.api import explain
from pipeline.api.presets import preset
from pipeline.game import drive, toy
from pipeline.methods import Attribution
from pipeline.methods.mda import Mda, concave

ODDS = {
    "blurred": torch.tensor([0.5, 3.0, 1.0, 0.1, 0.2, 0.3]).double(),
    "black": torch.tensor([9.0, 9.0, 9.0, 0.3, 0.2, 0.1]).double(),
}


class Prior:
    """An order that is wrong within a window of two."""

    objectives = ("insertion",)

    def most_forwards(self, n_players):
        return 5

    def explain(self, game):
        yield from ()
        return {"insertion": Attribution(order=[0, 2, 1, 3, 4, 5], evaluations=5)}


def found_by(method):
    """What it finds, and how many sets each of its questions held."""
    asked = {where: [] for where in ODDS}

    def value(where):
        return lambda coalitions_CN: coalitions_CN.double() @ ODDS[where] - 2.0

    def answer(ask):
        game, there = toy(value(ask.masking), 6)

        def counted(one):
            asked[ask.masking].append(one.sets)
            return there(one)

        return drive(ask.play(game), counted)

    game, _ = toy(value("blurred"), 6)
    return drive(method.explain(game), answer)["insertion"], asked


def test_players_are_inserted_within_a_window_then_deleted_from_the_end():
    method = Mda(insertion_masking="blurred", deletion_masking="black", prior=Prior(), window=2)
    found, asked = found_by(method)
    # p(2, 1) = sigmoid(2) is above .9 of the way from sigmoid(-2) to sigmoid(3.1)
    assert found.order == [2, 1, 0, 3, 4, 5]
    assert asked == {"blurred": [2, 2, 5], "black": [2, 2, 2, 1, 5]}
    assert found.evaluations == 5 + sum(map(sum, asked.values())) + 2 <= method.most_forwards(6)
    steps = found.scores_N[found.order]
    assert float(steps.sum()) == pytest.approx(1)
    assert float(steps.min()) >= 0 and bool((steps.diff() < 1e-9).all())


def test_without_a_prior_single_players_are_one():
    method = Mda(insertion_masking="blurred", deletion_masking="black", window=6)
    found, asked = found_by(method)
    assert found.order[:2] == [1, 2]
    assert asked["blurred"][0] == 6
    assert found.evaluations <= method.most_forwards(6)
    with pytest.raises(UsageError, match=r"mda\.window=0"):
        Mda(insertion_masking="blurred", deletion_masking="black", window=0)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_nearest_concave_curve_is_that_of_the_quadratic_program(n):
    rng = np.random.default_rng(n)
    y = np.append(0, np.sort(rng.random(n)))
    y[-1] = 1
    found = concave(y)
    assert (found[0], found[-1]) == (0, pytest.approx(1))
    assert (np.diff(found) > -1e-9).all() and (np.diff(found, 2) < 1e-9).all()
    program = minimize(
        lambda c: ((c - y[1:-1]) ** 2).sum(),
        np.linspace(0, 1, n + 1)[1:-1],
        jac=lambda c: 2 * (c - y[1:-1]),
        method="SLSQP",
        bounds=[(0, 1)] * (n - 1),
        constraints={"type": "ineq", "fun": lambda c: -np.diff([0, *c, 1], 2)},
    )
    assert program.success
    np.testing.assert_allclose(found[1:-1], program.x, atol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_the_preset_runs_on_an_image(tiny_model):
    """A tiny model of random weights has a Grad-CAM that may be constant: none is needed here."""
    x_BCHW = torch.randn(1, 3, *tiny_model.input_hw, generator=torch.Generator().manual_seed(0))
    method = preset("methods", "mda")
    assert method.most_forwards(196) == 1 + sum(min(28, k) for k in range(1, 197)) + 2 * 196
    found = explain(tiny_model, x_BCHW, method="mda", grid=4)
    assert sorted(found.order[0]) == list(range(16))
