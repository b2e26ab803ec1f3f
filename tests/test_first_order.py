"""First-order answers to removals: what they are, what they cost, who is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import moxi
from test_screened import screened, small_vit

from pipeline import UsageError
from pipeline.api import explain
from pipeline.engine import Engine
from pipeline.game import Coalitions
from pipeline.game.arena import Arena
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.searches.probes.first_order import FirstOrder, Nudged
from pipeline.searches.probes.frozen_tokens import Probed

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = small_vit()
EYE = torch.eye(25, dtype=torch.bool)
MASKING = TokenDrop()


def task(asks, seed=0, masking=MASKING, grid=5):
    image_CHW = torch.randn(3, *MODEL.input_hw, generator=torch.Generator().manual_seed(seed))
    regions_HW = PatchGrid(grid=grid).cut(*MODEL.input_hw)
    arena = Arena(MODEL, View(image_CHW, MODEL.preprocessing), regions_HW, str(seed))

    def asking():
        answers = []
        for ask in asks:
            answers.append((yield ask))
        return answers

    yield from arena.meet(masking, 2)
    yield from arena.open(masking)
    answers, _ = yield from arena.play(asking(), masking)
    return SimpleNamespace(answers=answers, arena=arena)


def solved(*asks, **settings):
    engine = Engine(MODEL)
    (found,) = engine.run([task(asks, **settings)], in_flight=1)
    return found, engine.counters


def test_an_answer_is_the_slope_towards_attention_without_the_player():
    """Moved by a little towards what a block mixes without the player, log-odds change by a little
    of the answer: summed over blocks, one at a time, by differences."""
    players = torch.arange(100)
    rows_CN = (players != torch.tensor([[3], [11], [64]])) & (players != 20)
    found, _ = solved(Nudged(Coalitions(rows_CN), 1.0), grid=10)
    (told,) = found.answers
    prepared, vit = found.arena._prepared[MASKING], MODEL.body.double()
    seen = [patch for patch in range(100) if patch != 20]
    tokens_1SD = prepared.tokens_LD.double()[[0, *(1 + p for p in seen)]][None]

    def log_odds(block=None, gone=None, step=0.0):
        def towards(attn, inputs, mixed_1SD):
            q, k, v = (
                attn.qkv(inputs[0]).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            )
            score = q @ k.transpose(-1, -2) * attn.scale
            with_it = score.softmax(-1) @ v
            score[..., gone] = -torch.inf
            apart = score.softmax(-1) @ v - with_it
            apart[:, :, gone] = 0
            return mixed_1SD + step * (apart.transpose(1, 2).flatten(2) @ attn.proj.weight.T)

        hook = None if block is None else vit.blocks[block].attn.register_forward_hook(towards)
        with torch.no_grad():
            features = vit.forward_head(vit.norm(vit.blocks(tokens_1SD)))
            z_K = MODEL._parts.head.double()(features)[0]
        if hook is not None:
            hook.remove()
        return float(z_K[2] - torch.cat([z_K[:2], z_K[3:]]).logsumexp(0))

    try:
        base, step = log_odds(), 1e-5
        for row, player in enumerate([3, 11, 64]):
            gone = 1 + seen.index(player)
            moved = [log_odds(block, gone, step) - base for block in range(len(vit.blocks))]
            assert float(told.value_C[row]) == pytest.approx(base + sum(moved) / step, abs=1e-3)
    finally:
        MODEL.module.float()


def test_removals_cost_a_forward_and_a_backward_and_know_who_matters():
    found, before = solved()
    for kept in (25, 15):
        base_N = torch.arange(25) < kept
        asked = Coalitions((base_N & ~EYE)[:kept])
        found, counters = solved(asked, Nudged(asked, 1.0))
        exact, told = (answer.value_C.numpy() for answer in found.answers)
        assert np.corrcoef(exact, told)[0, 1] > 0.8
        assert counters.forwards == before.forwards + kept + 2
        assert counters.tokens == before.tokens + kept * (4 * kept - 3) + 2 * (1 + 4 * kept)
        assert found.answers[1].prediction_C.unique().numel() == 1


def test_images_share_a_batch():
    asked = Nudged(Coalitions(~EYE), 1.0)
    tasks = [task([asked], seed) for seed in range(3)]
    together = Engine(MODEL).run(tasks, in_flight=3)
    together = {one.arena.key: one.answers[0].value_C for one in together}
    for seed in range(3):
        alone, _ = solved(asked, seed=seed)
        torch.testing.assert_close(together[str(seed)], alone.answers[0].value_C, atol=1e-4, rtol=0)


def test_additions_are_asked_of_a_pass():
    rows_CN = (torch.arange(25) < 6) | EYE[6:]
    asked = Coalitions(rows_CN)
    found, _ = solved(Nudged(asked, 0.5), Probed(asked, 0.5))
    torch.testing.assert_close(*(answer.value_C for answer in found.answers), atol=1e-5, rtol=0)


def test_the_first_steps_ask_everybody_whatever_the_probe_says():
    """By the probe alone one image begins otherwise than by greedy search, another goes on so."""
    x_BCHW = torch.randn(4, 3, *MODEL.input_hw, generator=torch.Generator().manual_seed(1))

    def heads(method):
        found = explain(MODEL, x_BCHW, method=method, grid=5, masking="token_drop")
        (spent,) = {one["deletion"].evaluations for one in found.attributions}
        assert spent == method.most_forwards(25)
        return [order[:3] for order in found.order], spent

    exact, _ = heads(moxi("deletion"))
    method = screened("deletion", probe=FirstOrder(refresh=1, whole=2), sets=2 * 2 + 25 + 24)
    found, spent = heads(replace(method, stop="budget", budget=2))
    assert spent == 53 and [head[:2] for head in exact] == found, "looks of two steps, no more"
    for whole, agree in ((0, [3, 1, 0, 3]), (1, [3, 1, 1, 3]), (2, [3, 3, 3, 3])):
        probe = FirstOrder(refresh=1, whole=whole)
        found, spent = heads(screened("deletion", probe=probe, risk=0.0, most=1))
        assert spent == 3 * 25 + sum(24 - step for step in range(whole))
        pairs = zip(found, exact, strict=True)
        assert [[*np.equal(*pair), False].index(False) for pair in pairs] == agree
    with pytest.raises(UsageError, match="whole=-1"):
        FirstOrder(whole=-1)


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(UsageError, match="need masking=token_drop"):
        solved(Nudged(Coalitions(~EYE), 1.0), masking=Zero())
    with pytest.raises(UsageError, match="the score reads something else"):
        solved(Nudged(Coalitions(~EYE, features=True), 1.0))
