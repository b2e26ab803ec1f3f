from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from conftest import prepared
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engine import Engine, Listed, PerRow, Request
from pipeline.engine.pool import Budget
from pipeline.game import Reads
from pipeline.game.sets import Hands, SetGame, read_out
from pipeline.masking.blur import Blur
from pipeline.masking.zero import Zero
from pipeline.models import Model
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")


def images(count: int, size: int = 160) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, size, size, generator=generator) for _ in range(count)]


def asks(model, masking, image_CHW, queries, classes=(3,)):
    """A task: ask the queries one after the other, return all values."""
    ready = prepared(model, masking, image_CHW, PatchGrid(grid=4).cut(160, 160))
    values = []
    for coalitions_CN in queries:
        rows = Hands(ready, coalitions_CN, Reads(classes))
        outputs, *_ = yield Request(SetGame(masking), rows)
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
    found = read_out(logits_BK, torch.tensor([[0, 0], [0, 1]]))
    assert found[0, 2] != found[1, 2]
    torch.testing.assert_close(found[1, 2], torch.tensor(60 - 2.0**0.5).log().exp(), atol=1, rtol=0)
    assert found[:, -2].tolist() == [0, 0]  # the prediction


def test_out_of_memory_halves_the_budget_and_loses_nothing(tiny_model):
    tried = []

    class Small(Zero):
        def encode(self, model, parts):
            tried.append(sum(map(len, parts)))
            if tried[-1] > 2:
                raise torch.OutOfMemoryError("too large")
            return super().encode(model, parts)

    (image_CHW,) = images(1)
    queries = random_queries(0)
    engine = Engine(tiny_model, tokens_per_batch=10_000)
    (found,) = engine.run([asks(tiny_model, Small(), image_CHW, queries)], in_flight=1)
    (expected,) = Engine(tiny_model).run(
        [asks(tiny_model, Zero(), image_CHW, queries)], in_flight=1
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert tried == [5, 2, 2, 1, 1, 2, 2, 2, 2, 1]
    assert engine.counters.forwards == 15


def test_an_error_reaches_the_tasks_that_asked_and_no_other(tiny_model):
    class Broken(Zero):
        def encode(self, model, parts):
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
    (image_CHW,) = images(1)
    with FlopCounterMode(display=False) as count:
        tiny_model.module(image_CHW[None])
    engine = Engine(tiny_model)
    list(engine.run([asks(tiny_model, Zero(), image_CHW, random_queries(0))], in_flight=1))
    assert engine.counters.flops == pytest.approx(15 * count.get_total_flops(), rel=1e-6)


@dataclass(frozen=True)
class Squares(PerRow):
    """A program of one's own: squares of numbers. `most` rows fit into memory at once; a row weighs
    `tokens`, or as much as its number says; `fails`: the step that does not work."""

    name: str = ""
    most: int = 1000
    tokens: int | None = 100
    fails: str = ""
    batches: list[list[int]] = field(default_factory=list, compare=False)

    def lengths(self, model, rows):
        self._may_fail("lengths")
        return np.array(rows) if self.tokens is None else self.tokens

    def launch(self, model, pieces, spent):
        rows = [row for piece in pieces for row in piece]
        self.batches.append(rows)
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("too large")
        self._may_fail("launch")
        spent(len(rows))
        return [row**2 for row in rows]

    def answer(self, landed, pieces):
        self._may_fail("answer")
        return super().answer(landed, pieces)

    def _may_fail(self, step):
        if step == self.fails:
            raise RuntimeError(f"{step} failed")


def squares_of(program, *requests):
    """A task: all answers, one after the other."""
    found = []
    for rows in requests:
        answer, seconds, tokens, forwards = yield Request(program, Listed(rows))
        assert seconds > 0 and tokens > 0 and forwards == len(rows)
        found += answer
    return found


def test_requests_of_many_images_share_the_batches_of_a_program(tiny_model):
    program = Squares()
    engine = Engine(tiny_model, tokens_per_batch=1000)
    rows = [[10 * i + j for j in range(4)] for i in range(6)]
    tasks = [squares_of(program, some, some[:1]) for some in rows]
    found = sorted(engine.run(tasks, in_flight=6))
    assert found == [[row**2 for row in (*some, some[0])] for some in rows]
    assert [len(batch) for batch in program.batches[:2]] == [10, 10]
    assert engine.counters.forwards == 6 * 5
    assert engine.counters.batches == len(program.batches) == 4  # the last image asks last
    assert engine.counters.tokens == 6 * 5 * 100


def test_out_of_memory_halves_the_budget_of_its_own_program_only(tiny_model):
    small, wide = Squares("small", most=3), Squares("wide")
    engine = Engine(tiny_model, tokens_per_batch=1000)
    for program in (wide, small):  # both have a budget; the small one's pool is drained first
        list(engine.run([squares_of(program, [1])], in_flight=1))
        program.batches.clear()
    rows = [list(range(7 * i, 7 * i + 7)) for i in range(6)]
    found = list(
        engine.run(
            [squares_of(p, some, some) for some in rows for p in (small, wide)], in_flight=12
        )
    )
    expected = [[row**2 for row in some] * 2 for some in rows for _ in (small, wide)]
    assert sorted(found) == sorted(expected)  # nothing is lost, nor answered twice
    sizes = [len(batch) for batch in small.batches]
    assert sizes[:3] == [10, 5, 2] and max(sizes[2:]) == 2
    assert sorted({len(batch) for batch in wide.batches})[-1] == 10
    assert len(wide.batches) == -(-6 * 2 * 7 // 10)
    assert engine.counters.forwards == 2 + 2 * 6 * 2 * 7


def test_one_row_that_does_not_fit_is_an_error_and_no_endless_loop(tiny_model):
    with pytest.raises(torch.OutOfMemoryError):
        list(Engine(tiny_model).run([squares_of(Squares(most=0), [1, 2])], in_flight=1))


def test_rows_of_unequal_lengths_are_batched_apart_and_joined_in_order(tiny_model):
    program = Squares(tokens=None)
    engine = Engine(tiny_model, tokens_per_batch=6)
    requests = [[3, 1, 2, 3, 1, 1, 2], [1, 1], [2, 3]]
    found = list(engine.run([squares_of(program, rows) for rows in requests], in_flight=3))
    assert sorted(found) == sorted([row**2 for row in rows] for rows in requests)
    assert all(len(set(batch)) == 1 and sum(batch) <= 6 for batch in program.batches)
    assert [1] * 5 in program.batches  # of two images


@pytest.mark.parametrize("depth", [1, 2])  # batches under way at once: on a CPU, on a GPU
@pytest.mark.parametrize("step", ["lengths", "launch", "answer"])
def test_a_program_that_fails_fails_only_who_asked_and_tells_them_once(tiny_model, step, depth):
    good, bad = Squares("good"), Squares("bad", fails=step)
    told = []

    def guarded(rows):
        try:
            yield from squares_of(bad, rows)
        except RuntimeError as error:
            told.append(str(error))
        return (yield from squares_of(good, rows))  # a task goes on

    engine = Engine(tiny_model, tokens_per_batch=400)  # a request is several batches
    engine._depth = depth
    tasks = [guarded([1, 2, 3, 4, 5, 6]), squares_of(good, [7]), guarded([8, 9])]
    found = list(engine.run(tasks, in_flight=3))
    assert sorted(found) == [[1, 4, 9, 16, 25, 36], [49], [64, 81]]
    assert told == [f"{step} failed"] * 2
    rest = [5, 6] if (step, depth) == ("answer", 2) else []  # was under way already
    assert bad.batches == ([] if step == "lengths" else [[1, 2, 3, 4], [*rest, 8, 9]])


@pytest.mark.parametrize(
    ("fastest", "most", "found"),
    [(400, None, 400), (100, None, 100), (10**6, 800, 800), (10**6, 1000, 800)],
)
def test_a_budget_ends_at_the_size_beyond_which_batches_are_no_faster(fastest, most, found):
    budget = Budget(100, growing=True, most=most)
    while budget.growing:
        size = budget.tokens
        budget.settled(size // 2, 1e-9)  # not full: says nothing
        for delay in (7, 3, 1):  # the machine is busy with others
            budget.settled(size, delay * size / min(size, fastest))
    assert budget.tokens == found


def test_on_a_cpu_a_budget_grows_to_four_times_what_it_begins_with():
    model = Model(module=torch.nn.Linear(1, 1), preprocessing={})
    grows, given = (Engine(model, tokens_per_batch=t)._budgets[Squares()] for t in (None, 50))
    assert (grows.growing, grows.most) == (True, 4 * grows.tokens)
    assert (given.growing, given.tokens) == (False, 50)
