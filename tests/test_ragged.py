"""Images with different numbers of players in one engine: full batches, no padding, equal rows."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_game import sample, work

from pipeline.engine import Engine
from pipeline.masking.black import Black
from pipeline.masking.pixels import image_tokens
from pipeline.methods.random import Random
from pipeline.methods.subset import Subset
from pipeline.scores.submodular import Submodular
from pipeline.searches.greedy import Greedy

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True, kw_only=True)
class Slanted:
    """Between 3 and 8 slanted stripes, as the image's key says."""

    def __call__(self, view, heat_HW=None):
        count = 5 if view.sample is None else 3 + int(view.sample.key) % 6
        height, width = view.image_CHW.shape[1:]
        slope_HW = torch.arange(height)[:, None] + 2 * torch.arange(width)
        return slope_HW * count // (height + 2 * width)


@pytest.mark.parametrize("images", [24, pytest.param(500, marks=pytest.mark.slow)])
def test_images_of_different_region_counts_share_full_batches(tiny_model, images):
    methods = {
        "smdl": Subset(score=Submodular(), search=Greedy()),
        "random": Random(),
    }
    ragged = work(
        tiny_model, players=Slanted(), masking=Black(), curve_masking=Black(), methods=methods
    )
    samples = [sample(key=str(i)) for i in range(images)]

    def rows(in_flight):
        engine = Engine(tiny_model)
        ready = (ragged.read(s, ragged.wanted, {}) for s in samples)
        tasks = (ragged.explain(r, ragged.wanted, {}) for r in ready)
        found = [row for rows in engine.run(tasks, in_flight=in_flight) for row in rows]
        return {(r["key"], r["method"], r["objective"]): r for r in found}, engine.counters

    together, spent = rows(Engine(tiny_model).window(*ragged.first_request()))
    alone, spent_alone = rows(1)
    assert {r["n_players"] for r in together.values()} == set(range(3, 9))
    assert spent.forwards == spent_alone.forwards
    assert spent.tokens == spent.forwards * image_tokens(tiny_model)  # nothing is padded
    room = Engine(tiny_model).tokens_per_batch // image_tokens(tiny_model)
    fill = spent.forwards / (spent.batches * room)
    print(f"{images} images: {spent.forwards} forwards, batches {100 * fill:.0f} % full")
    assert fill >= 0.8
    for place, row in together.items():
        assert row["status"] == "ok" and row["order"].tolist() == alone[place]["order"].tolist()
        np.testing.assert_allclose(row["probability"], alone[place]["probability"], atol=1e-6)
