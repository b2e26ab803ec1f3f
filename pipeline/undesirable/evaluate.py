"""One image: masks of every variant and trial, what they and the controls do, as rows."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.arena import Arena
from pipeline.data import Sample
from pipeline.engine import ProgramQuery, Query, Task
from pipeline.masking.blur import Blur
from pipeline.masking.pixels import gradient_tokens
from pipeline.methods import sample_rng
from pipeline.methods.undesirable import Masks, Undesirable
from pipeline.methods.undesirable_greedy import UndesirableGreedy
from pipeline.players.patch_grid import PatchGrid
from pipeline.results import Kind
from pipeline.undesirable.controls import CONTROLS, DRAWS, MASKED, SAME_AREA, control, of_area
from pipeline.undesirable.programs import Look, Optimise, Saliency, Seen, Wish
from pipeline.work import Row, Wanted, Work

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Blur 1 - M' above which a pixel counts as undesirable, for the column `fractions`."""
THRESHOLD = 0.6
USUAL_AREA = 0.02
"""Mean blur of a mask, for estimates of work."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "shard", "key", "model", "method")),
        ("trial", pa.int32()),
        ("fingerprint", pa.string()),
        *((name, pa.int32()) for name in ("label", "prediction", "target", "prediction_after")),
        *((name, pa.int32()) for name in ("label_rank_before", "label_rank_after")),
        ("mask", pa.list_(pa.float16())),
        ("mask_best", pa.list_(pa.float16())),
        *((f"probability_{when}", pa.float64()) for when in ("before", "after", "best")),
        *((f"residual_{when}", pa.float64()) for when in ("before", "after", "best")),
        ("phi", pa.float64()),
        *((f"logit_{when}", pa.float64()) for when in ("before", "after")),
        *((f"others_{when}", pa.float64()) for when in ("before", "after")),
        ("area", pa.float64()),
        ("undesirable", pa.float64()),
        ("undesirable_normalised", pa.float64()),
        ("fractions", pa.list_(pa.float32())),
        *((f"loss_{when}", pa.float64()) for when in ("ones", "after", "best")),
        ("step_best", pa.int32()),
        ("losses", pa.list_(pa.float32())),
        ("improved", pa.bool_()),
        ("converged", pa.bool_()),
        *((f"residual_{name}", pa.float64()) for name in CONTROLS),
        ("greedy_patches", pa.int32()),
        ("evaluations", pa.int64()),
        ("seconds", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
MASKS = Kind("masks", SCHEMA, "trial", "jobs.undesirable")


@dataclass(frozen=True, kw_only=True)
class UndesirableEvaluation(Work):
    """Variants, trials of each, and the controls that they are held against; parts are trials.

    `greedy_grid`: patches a side that the `greedy` control hides. `name`: the model's conf name.
    """

    kind: ClassVar[Kind] = MASKS
    variants: Mapping[str, Undesirable]
    trials: int = 1
    controls: Sequence[str] = CONTROLS
    greedy_grid: int = 14
    name: str = ""

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
        """Precision and patches."""
        if self.model.dtype != torch.float32:
            raise UsageError("engine.precision: masks are optimised in fp32; use fp32 or tf32")
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        if "greedy" in self.controls:
            try:
                PatchGrid(grid=self.greedy_grid)(image_CHW)
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

    def forwards(self, wanted: Wanted) -> int:
        """Optimisation, masked looks, and the greedy control for masks of the usual area."""
        looks = 1 + len(self._drawn)
        greedy = UndesirableGreedy(budget=round(USUAL_AREA * self.greedy_grid**2))
        total = greedy.evaluations(self.greedy_grid**2, []) if "greedy" in self.controls else 0
        return total + 1 + sum(self.variants[name].evaluations(0, []) + looks for name, _ in wanted)

    def first_query(self) -> tuple[int, int]:
        """All masks of an image are asked for at once."""
        return len(self.wanted), gradient_tokens(self.model)

    def row(self, shard: str, key: str, name: str, part: int) -> Row:
        """Names and fingerprint."""
        return {
            "dataset": self.data.name,
            "shard": shard,
            "key": key,
            "model": self.name,
            "method": name,
            "trial": part,
            "fingerprint": self.fingerprints[name],
        }

    def explain(self, sample: Sample, image_CHW: Tensor, wanted: Wanted) -> Task:
        """Predict, optimise, look at the masks and their controls."""
        said: dict[str, int | None] = {"label": sample.label}
        try:
            look = Look(next(iter(self.variants.values())).batch)
            whole_cc = torch.ones(look.how.cells, look.how.cells)
            (plain_K,), _ = yield ProgramQuery(program=look, rows=[Seen(image_CHW, whole_cc)])
            if len(plain_K) < 2:
                raise ValueError("the model has one class: there are no others to be undesirable")
            said["prediction"] = int(plain_K.argmax())
            said["target"] = self.class_explained(sample, said["prediction"], len(plain_K))
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
    ) -> Generator[Query | ProgramQuery, Any, list[Row]]:
        wishes = [
            Wish(image_CHW, target, variant, _seed(variant, sample.key, trial))
            for variant, trial in ((self.variants[name], trial) for name, trial in wanted)
        ]
        masks, seconds = yield ProgramQuery(program=Optimise(how), rows=wishes)
        facts = [_facts(found, how, sample.label, target, self.model.input_hw) for found in masks]
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
            spent = {"seconds": seconds / len(wanted), "evaluations": how.evaluations(0, [])}
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
    ) -> Generator[ProgramQuery, Any, list[Row]]:
        """What the best iterate and the controls that are masks leave of the residual."""
        saliency_cc = torch.zeros(how.cells, how.cells)
        if "inverse_saliency" in self.controls:
            program = Saliency(how)
            (saliency_cc,), _ = yield ProgramQuery(program=program, rows=[(image_CHW, target)])
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
        logits, _ = yield ProgramQuery(program=Look(how), rows=looks)
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
    ) -> Generator[Query | ProgramQuery, Any, dict[float, Row]]:
        """For each area: what is left when about as much is hidden patch by patch."""
        arena = Arena(
            self.model,
            image_CHW,
            PatchGrid(grid=self.greedy_grid)(image_CHW),
            (target,),
            sample.key,
        )
        budgets = {area: round(area * self.greedy_grid**2) for area in areas}
        blur = Blur(sigma=how.sigma, kernel=how.kernel)
        game = yield from arena.open(blur)
        method = UndesirableGreedy(budget=max(budgets.values(), default=0), stop="gain")
        attributions, _ = yield from arena.attribute(method, blur, game, ["deletion"])
        found = attributions["deletion"]
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


def residual(logits_K: Tensor, target: int) -> float:
    """1 - f_k in float64, exact also where f_k rounds to 1."""
    logits_K = logits_K.double()
    others_K = logits_K.index_fill(0, torch.tensor(target), -torch.inf)
    return float((others_K.logsumexp(0) - logits_K.logsumexp(0)).exp())


def phi(before: float, after: float) -> float:
    """Share of the residual that was recovered, in percent (eq. 8)."""
    return 100 * (before - after) / before if before else float("nan")


def _facts(
    found: Masks, how: Undesirable, label: int | None, target: int, hw: tuple[int, int]
) -> Row:
    """Columns that one optimised mask gives."""
    blurred_HW = 1 - how.enlarge(found.mask_Bcc, hw)[0].double()
    logits = {"before": found.plain_BK[0].double(), "after": found.logits_BK[0].double()}
    losses_T = torch.cat([found.loss_BT[0], found.final_B])
    row: Row = {
        "mask": _half(found.mask_Bcc),
        "mask_best": _half(found.best_Bcc),
        "prediction_after": int(logits["after"].argmax()),
        "area": float(blurred_HW.mean()),
        "undesirable": float((blurred_HW > THRESHOLD).double().mean()),
        "undesirable_normalised": float((_normalised(blurred_HW) > THRESHOLD).double().mean()),
        "fractions": [float((blurred_HW > t).double().mean()) for t in THRESHOLDS],
        "loss_ones": float(found.ones_B[0]),
        "loss_after": float(found.final_B[0]),
        "loss_best": float(found.best_B[0]),
        "step_best": int(found.step_B[0]),
        "losses": losses_T.tolist(),
        "improved": bool(found.final_B[0] < found.ones_B[0]),
        "converged": converged(found.loss_BT[0]),
    }
    for when, logits_K in logits.items():
        left = residual(logits_K, target)
        row[f"residual_{when}"], row[f"probability_{when}"] = left, 1 - left
        row[f"logit_{when}"] = float(logits_K[target])
        row[f"others_{when}"] = float((logits_K.sum() - logits_K[target]) / (len(logits_K) - 1))
        if label is not None and 0 <= label < len(logits_K):
            row[f"label_rank_{when}"] = 1 + int((logits_K > logits_K[label]).sum())
    row["phi"] = phi(row["residual_before"], row["residual_after"])
    return row


def converged(losses_T: Tensor) -> bool:
    """Whether the mean loss of the last tenth of the steps is within 0.01 of the tenth before."""
    tenth = max(1, len(losses_T) // 10)
    before, last = losses_T[-2 * tenth : -tenth], losses_T[-tenth:]
    return len(before) > 0 and bool((last.mean() - before.mean()).abs() <= 0.01)


def _normalised(blurred_HW: Tensor) -> Tensor:
    """Stretched to 0..1, as published pictures are; a constant stays 0."""
    low, high = blurred_HW.min(), blurred_HW.max()
    return (blurred_HW - low) / (high - low).clamp_min(1e-12)


def _half(mask_Bcc: Tensor) -> np.ndarray:
    return mask_Bcc.flatten().half().numpy()


def _seed(variant: Undesirable, key: str, trial: int) -> int:
    """Start and noise belong to sample and trial, whichever variant and worker."""
    return int(sample_rng(variant.seed, key, trial).integers(2**62))
