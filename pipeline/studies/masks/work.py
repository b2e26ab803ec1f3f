"""One image: masks of every variant and trial, what they and the controls do, as rows."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.components import one_line
from pipeline.data import Sample, SampleRef
from pipeline.engine import Engine, Listed, Request, Task
from pipeline.game import sample_rng
from pipeline.game.arena import Arena, Turn
from pipeline.masking.blur import Blur
from pipeline.masking.pixels import gradient_tokens
from pipeline.methods.subset import Subset
from pipeline.methods.undesirable import Masks, Undesirable
from pipeline.models.head import example
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.rows import Kind
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy
from pipeline.studies.masks.controls import CONTROLS, DRAWS, MASKED, SAME_AREA, control, of_area
from pipeline.studies.masks.programs import Look, Optimise, Saliency, Seen, Wish
from pipeline.studies.masks.rows import MASKS, facts_of, residual
from pipeline.work import Known, Row, Wanted, Work

USUAL_AREA = 0.02
"""Mean blur of a mask, for estimates of work."""


@dataclass(frozen=True, kw_only=True)
class MasksWork(Work):
    """Variants, trials of each, and the controls that they are held against; parts are trials.

    `greedy_grid`: patches a side that the `greedy` control hides.
    """

    kind: ClassVar[Kind] = MASKS
    variants: Mapping[str, Undesirable]
    trials: int = 1
    controls: Sequence[str] = CONTROLS
    greedy_grid: int = 14

    def __post_init__(self):
        if self.trials < 1:
            raise UsageError(f"trials={self.trials}: give at least 1")
        if unknown := set(self.controls) - set(CONTROLS):
            raise UsageError(f"controls: unknown {sorted(unknown)}; known are {list(CONTROLS)}")

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Every (variant, trial)."""
        return [(name, trial) for name in self.variants for trial in range(self.trials)]

    def check(self) -> None:
        """Precision, patches, classes; one look and one gradient on a made-up image."""
        if self.model.output != "softmax":
            raise UsageError(
                f"model.output={self.model.output}: undesirable pixels are those of a softmax"
            )
        if self.model.dtype != torch.float32:
            raise UsageError("engine.precision: masks are optimised in fp32; use fp32 or tf32")
        if "greedy" in self.controls:
            try:
                PatchGrid(grid=self.greedy_grid).cut(*self.model.input_hw)
            except UsageError as error:
                raise UsageError(str(error).replace("players.grid", "greedy_grid")) from None
        smallest = min(self.model.input_hw)
        for variant in self.variants.values():
            varied = variant.noise > 0 or variant.start != "ones"
            if self.trials > 1 and not varied:
                raise UsageError(
                    f"trials={self.trials}: without noise, trials from M = 1 are the same; "
                    "give methods.<name>.noise or methods.<name>.start=uniform"
                )
            if variant.cells < 2:
                raise UsageError(f"cells={variant.cells}: give at least 2")
            if variant.kernel // 2 >= smallest:
                raise UsageError(f"kernel={variant.kernel}: the input has {smallest} pixels only")
        self._rehearse()

    def _rehearse(self) -> None:
        """One look and one gradient on a made-up image. Raises UsageError where they fail."""
        image_CHW = example(self.model.preprocessing["input_size"])[0]
        how = next(iter(self.variants.values())).batch

        def look() -> Turn[int]:
            whole_cc = torch.ones(how.cells, how.cells)
            (plain_K,), *_ = yield Request(Look(how), Listed([Seen(image_CHW, whole_cc)]))
            yield Request(Saliency(how), Listed([(image_CHW, 0)]))
            return len(plain_K)

        try:
            (n_classes,) = Engine(self.model).run([look()], in_flight=1)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"methods: no mask can be made: {one_line(error)}") from error
        if isinstance(self.target, int) and self.target >= n_classes:
            raise UsageError(f"target={self.target}: the model has classes 0 to {n_classes - 1}")

    def forwards(self, wanted: Wanted, known: Container[Any]) -> int:
        """Optimisation, masked looks, and the greedy control for masks of the usual area."""
        looks = 1 + len(self._drawn)
        greedy = raising(budget=round(USUAL_AREA * self.greedy_grid**2))
        total = greedy.most_forwards(self.greedy_grid**2) if "greedy" in self.controls else 0
        return total + 1 + sum(self.variants[name].most_forwards(0) + looks for name, _ in wanted)

    def first_request(self) -> tuple[int, int]:
        """All masks of an image are asked for at once."""
        return len(self.wanted), gradient_tokens(self.model)

    def row(self, shard: str, key: str, name: str, part: int) -> Row:
        """Names and fingerprint."""
        return {
            "dataset": self.data.name,
            "shard": shard,
            "key": key,
            "model": self.model.name,
            "method": name,
            "trial": part,
            "fingerprint": self.fingerprints[name],
        }

    def read(self, ref: SampleRef, wanted: Wanted, known: Known) -> tuple[Sample, Tensor]:
        """Decode."""
        return self.image(ref)

    def explain(self, ready: tuple[Sample, Tensor], wanted: Wanted, known: Known) -> Task:
        """Predict, optimise, look at the masks and their controls."""
        sample, image_CHW = ready
        said: Row = {"label": sample.label, "content": sample.content}
        try:
            look = Look(next(iter(self.variants.values())).batch)
            whole_cc = torch.ones(look.how.cells, look.how.cells)
            (plain_K,), *_ = yield Request(look, Listed([Seen(image_CHW, whole_cc)]))
            if len(plain_K) < 2:
                raise ValueError("the model has one class: there are no others to be undesirable")
            said["prediction"] = int(plain_K.argmax())
            asked = self.asked(sample)
            said["target"] = self.explained(asked, said["prediction"], len(plain_K))
        except Exception as error:
            return self.failures(sample.shard, sample.key, wanted, error, **said)
        rows: list[Row] = []
        for how, members in self._batches(wanted).items():
            try:
                rows += yield from self._rows(sample, image_CHW, said["target"], how, members)
            except Exception as error:
                rows += self.failures(sample.shard, sample.key, members, error)
        return [row | said for row in rows]

    @property
    def _drawn(self) -> list[str]:
        """Controls that are masks, each as often as it is drawn."""
        names = [name for name in CONTROLS if name in self.controls and name in MASKED]
        return [name for name in names for _ in range(DRAWS.get(name, 1))]

    def _batches(self, wanted: Wanted) -> dict[Undesirable, Wanted]:
        """What can be optimised together."""
        found: dict[Undesirable, list[tuple[str, int]]] = {}
        for name, trial in wanted:
            found.setdefault(self.variants[name].batch, []).append((name, trial))
        return dict(found)

    def _rows(
        self, sample: Sample, image_CHW: Tensor, target: int, how: Undesirable, wanted: Wanted
    ) -> Turn[list[Row]]:
        wishes = [
            Wish(image_CHW, target, variant, _seed(variant, sample.key, trial))
            for variant, trial in ((self.variants[name], trial) for name, trial in wanted)
        ]
        masks, seconds, *_ = yield Request(Optimise(how), Listed(wishes))
        facts = [facts_of(found, how, sample.label, target, self.model.input_hw) for found in masks]
        areas = [fact["area"] for fact in facts]
        reached = yield from self._reached(image_CHW, target, how, wishes, masks, areas)
        patches = {}
        if "greedy" in self.controls:
            finite = [area for area in areas if np.isfinite(area)]
            patches = yield from self._greedy(sample, image_CHW, target, how, finite)
        rows = []
        for i, (name, trial) in enumerate(wanted):
            if not bool(masks[i].final_B.isfinite()):
                reason = "the loss is not finite: the model's output or gradient is not, here"
                rows += self.failures(sample.shard, sample.key, [(name, trial)], reason)
                continue
            greedy = patches.get(facts[i]["area"], {})
            row = self.row(sample.shard, sample.key, name, trial) | facts[i] | reached[i] | greedy
            spent = {"seconds": seconds / len(wanted), "evaluations": how.most_forwards(0)}
            rows.append(row | spent | {"status": "ok"})
        return rows

    def _reached(
        self,
        image_CHW: Tensor,
        target: int,
        how: Undesirable,
        wishes: list[Wish],
        masks: list[Masks],
        areas: list[float],
    ) -> Turn[list[Row]]:
        """What the best iterate and the controls that are masks leave of the residual."""
        saliency_cc = torch.zeros(how.cells, how.cells)
        if "inverse_saliency" in self.controls:
            program = Saliency(how)
            (saliency_cc,), *_ = yield Request(program, Listed([(image_CHW, target)]))
        height, width = self.model.input_hw
        shares_cc = how.per_cell(torch.full((1, height, width), 1 / (height * width)))[0]
        looks = []
        for wish, found, area in zip(wishes, masks, areas, strict=True):
            mask_cc = found.mask_Bcc[0]
            # a control's draws do not depend on which others are asked for
            rngs = {name: np.random.default_rng([wish.seed, i]) for i, name in enumerate(CONTROLS)}
            others = []
            for name in self._drawn:
                other_cc = control(name, mask_cc, saliency_cc, rngs[name])
                same = name in SAME_AREA and np.isfinite(area)
                others.append(of_area(other_cc, area, shares_cc) if same else other_cc)
            looks += [Seen(image_CHW, seen_cc) for seen_cc in (found.best_Bcc[0], *others)]
        logits, *_ = yield Request(Look(how), Listed(looks))
        residuals = iter([residual(logits_K, target) for logits_K in logits])
        reached = []
        for _ in wishes:
            left: dict[str, list[float]] = {}
            for name in ("best", *self._drawn):
                left.setdefault(f"residual_{name}", []).append(next(residuals))
            row = {column: float(np.mean(values)) for column, values in left.items()}
            reached.append(row | {"probability_best": 1 - row["residual_best"]})
        return reached

    def _greedy(
        self, sample: Sample, image_CHW: Tensor, target: int, how: Undesirable, areas: list[float]
    ) -> Turn[dict[float, Row]]:
        """For each area: what is left when about as much is hidden patch by patch."""
        regions_HW = PatchGrid(grid=self.greedy_grid).cut(*self.model.input_hw)
        view = View(image_CHW, self.model.preprocessing, sample)
        arena = Arena(self.model, view, regions_HW, sample.key)
        budgets = {area: round(area * self.greedy_grid**2) for area in areas}
        blur = Blur(sigma=how.sigma, kernel=how.kernel)
        yield from arena.meet(blur, target)
        game = yield from arena.open(blur)
        method = raising(budget=max(budgets.values(), default=0))
        explanation, _ = yield from arena.play(method.explain(game), blur)
        found = explanation["deletion"]
        assert found.path is not None
        log_odds = [game.ends.value_C[1], *found.path.value_C]
        return {
            area: {
                "greedy_patches": min(budget, len(found.order)),
                "residual_greedy": float(
                    log_odds[min(budget, len(found.order))].neg().double().sigmoid()
                ),
            }
            for area, budget in budgets.items()
        }


def raising(budget: int) -> Subset:
    """Hide the patch that raises the target's log-odds most, while one does."""
    score = Target(visible="others", sign=1)
    return Subset(score=score, search=Greedy(), budget=budget, gain=True)


def _seed(variant: Undesirable, key: str, trial: int) -> int:
    """Start and noise belong to sample and trial, whichever variant and worker."""
    return int(sample_rng(variant.seed, key, trial).integers(2**62))
