import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.functional import gaussian_blur

from pipeline import UsageError
from pipeline.game import Game, Outputs, drive
from pipeline.methods.controls import BlurredRandom, CenterGaussian
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid


def game(key: str = "key", grid: int = 5, height: int = 40, width: int = 60) -> Game:
    preprocessing = {"input_size": (3, height, width), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    empty = torch.zeros(2, 1)
    return Game(
        n_players=grid**2,
        key=key,
        ends=Outputs.of((0,), empty, empty, empty[:, 0]),
        view=View(torch.zeros(3, height, width), preprocessing),
        regions_HW=PatchGrid(grid=grid).cut(height, width),
    )


def explained(method, game: Game):
    """What it finds; it asks nothing."""
    found = drive(method.explain(game), lambda ask: pytest.fail("a control asks nothing"))
    assert found["insertion"] is found["deletion"] and found["insertion"].evaluations == 0
    return found["insertion"]


def test_heat_falls_with_the_distance_from_the_centre():
    found = explained(CenterGaussian(), game())
    assert found.order[0] == 12 and sorted(found.order[-4:]) == [0, 4, 20, 24]
    heat_HW = drive(CenterGaussian(sigma=0.5).heat(torch.zeros(3, 41, 61), 0), pytest.fail)
    assert float(heat_HW[20, 30]) == 1
    expected = np.exp(-((10 / 41) ** 2 + (15 / 61) ** 2) / 2 / 0.5**2)
    assert float(heat_HW[10, 45]) == pytest.approx(expected)


def test_blurred_noise_is_smooth_and_belongs_to_seed_and_key():
    one = explained(BlurredRandom(), game("a"))
    assert explained(BlurredRandom(), game("a")).order == one.order
    assert explained(BlurredRandom(), game("b")).order != one.order
    assert explained(BlurredRandom(seed=1), game("a")).order != one.order
    assert sorted(one.order) == list(range(25))

    def roughness(sigma):
        """Mean difference of neighbours over the spread."""
        found = [explained(BlurredRandom(sigma=sigma), game(str(k))) for k in range(20)]
        grids = torch.stack([one.scores_N for one in found]).view(20, 5, 5)
        return float(grids.diff(dim=2).abs().mean() / grids.std())

    assert roughness(0.2) < 0.7 * roughness(0.01)


def test_noise_is_blurred_as_by_torchvision():
    noise_HW = np.random.default_rng(0).standard_normal((40, 60))
    expected_1HW = gaussian_blur(torch.from_numpy(noise_HW)[None], [37, 25], [6.0, 4.0])
    assert_close(BlurredRandom()._blurred(noise_HW), expected_1HW[0])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: CenterGaussian(sigma=0), r"center_gaussian\.sigma=0"),
        (lambda: BlurredRandom(sigma=0.3), r"blurred_random\.sigma=0\.3"),
    ],
)
def test_settings_that_cannot_be_are_named(made, said):
    with pytest.raises(UsageError, match=said):
        made()
