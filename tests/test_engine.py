import pytest
import torch

from pipeline.engine import Engine, Query, read_out
from pipeline.masking.blur import Blur
from pipeline.masking.zero import Zero
from pipeline.players.patch_grid import PatchGrid


def images(count: int, size: int = 160) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, size, size, generator=generator) for _ in range(count)]


def asks(model, masking, image_CHW, queries, classes=(3,)):
    """A task: ask the queries one after the other, return all values."""
    regions_HW = PatchGrid(grid=4)(image_CHW)
    prepared = masking.prepare(model, image_CHW, regions_HW)
    values = []
    for coalitions_CN in queries:
        outputs = yield Query(
            masking=masking, prepared=prepared, coalitions_CN=coalitions_CN, classes=classes
        )
        values.append(outputs.log_odds_CT)
    return torch.cat(values)


def random_queries(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, 16, generator=generator) < 0.5 for size in (5, 1, 9)]


def test_batched_equals_one_at_a_time(tiny_model):
    def run(in_flight, budget):
        engine = Engine(tiny_model, tokens_per_batch=budget)
        found = {}

        def task(i, image_CHW):
            masking = Zero() if i % 2 else Blur()
            classes = (i,) if i % 3 else (i, 0)
            found[i] = yield from asks(tiny_model, masking, image_CHW, random_queries(i), classes)

        list(engine.run((task(i, x) for i, x in enumerate(images(7))), in_flight=in_flight))
        assert engine.counters.forwards == 7 * 15
        return [found[i] for i in range(7)]

    alone = run(1, 1)
    for in_flight, budget in ((7, 10_000), (3, 400)):
        for one, other in zip(alone, run(in_flight, budget), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_full_coalition_is_the_plain_forward(tiny_model):
    (image_CHW,) = images(1)
    everyone = torch.ones(1, 16, dtype=torch.bool)
    (found,) = Engine(tiny_model).run(
        [asks(tiny_model, Zero(), image_CHW, [everyone])], in_flight=1
    )
    logits = tiny_model.module(image_CHW[None])
    rest = torch.cat([logits[:, :3], logits[:, 4:]], 1).logsumexp(1)
    torch.testing.assert_close(found[0, 0], (logits[:, 3] - rest)[0], atol=1e-5, rtol=1e-5)


def test_log_odds_do_not_saturate():
    logits_BK = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    found = read_out(logits_BK, [(0,), (0, 1)])
    assert found[0, 2] != found[1, 2]
    torch.testing.assert_close(found[1, 2], torch.tensor(60 - 2.0**0.5).log().exp(), atol=1, rtol=0)
    assert found[:, -1].tolist() == [0, 0]


def test_out_of_memory_halves_the_budget_and_loses_nothing(tiny_model):
    class Small(Zero):
        def logits(self, model, parts):
            if sum(len(c) for _, c in parts) > 2:
                raise torch.OutOfMemoryError("too large")
            return super().logits(model, parts)

    (image_CHW,) = images(1)
    queries = random_queries(0)
    engine = Engine(tiny_model, tokens_per_batch=10_000)
    (found,) = engine.run([asks(tiny_model, Small(), image_CHW, queries)], in_flight=1)
    (expected,) = Engine(tiny_model).run(
        [asks(tiny_model, Zero(), image_CHW, queries)], in_flight=1
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert engine.tokens_per_batch // 100 == 2


def test_an_error_reaches_the_tasks_that_asked_and_no_other(tiny_model):
    class Broken(Zero):
        def logits(self, model, parts):
            raise RuntimeError("kernel failed")

    def guarded(masking, image_CHW):
        try:
            yield from asks(tiny_model, masking, image_CHW, random_queries(0))
        except RuntimeError as error:
            return str(error)
        return "ok"

    a, b = images(2)
    found = list(Engine(tiny_model).run([guarded(Broken(), a), guarded(Zero(), b)], in_flight=2))
    assert sorted(found) == ["kernel failed", "ok"]


def test_flops_are_those_of_the_model(tiny_model):
    from torch.utils.flop_counter import FlopCounterMode

    (image_CHW,) = images(1)
    with FlopCounterMode(display=False) as count:
        tiny_model.module(image_CHW[None])
    engine = Engine(tiny_model)
    list(engine.run([asks(tiny_model, Zero(), image_CHW, random_queries(0))], in_flight=1))
    assert engine.counters.flops == pytest.approx(15 * count.get_total_flops(), rel=1e-6)
