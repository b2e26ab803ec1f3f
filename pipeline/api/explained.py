"""What `explain` and `judge` return: orders, curves, areas, and a picture of them."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Objective
from pipeline.maps import assigned_values, both_ways, ranks
from pipeline.methods import Attribution

HEAT = matplotlib.colormaps["turbo"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Of one image: arrays over the G points of the curve. `auc_*`: trapezoids over `fraction`;
    `flip`: first k at which the target becomes (insertion) or stops being the prediction. `value`
    of `measure`: what the judge says in one number; of one that plays no curve the rest is empty.
    """

    measure: str
    value: float
    fraction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    probability: np.ndarray = field(default_factory=lambda: np.zeros(0))
    log_odds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top1: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    auc_probability: float = math.nan
    auc_top1: float = math.nan
    flip: int | None = None
    curve_masking: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explained:
    """B images explained. Lists hold an item an image; a dict of them has an item an objective.

    `pixels`: uint8 (H, W, C) as the model sees them; `regions`: the player of each pixel (H, W).
    """

    pixels: Sequence[np.ndarray]
    regions: Sequence[np.ndarray]
    attributions: Sequence[Mapping[Objective, Attribution]]
    curves: Sequence[Mapping[Objective, Curve]]
    prediction: Sequence[int]
    target: Sequence[int]
    forwards: int

    @property
    def objective(self) -> Objective:
        """The first that the method serves, of which the properties below speak."""
        return next(iter(self.attributions[0]))

    @property
    def order(self) -> list[list[int]]:
        """Players of each image, most important first."""
        return [found[self.objective].order for found in self.attributions]

    @property
    def scores(self) -> list[np.ndarray]:
        """Importance per player (N,): the method's own, or else n - k for the k-th pick, over n."""
        return [self._scores(i) for i in range(len(self.pixels))]

    @property
    def heat_BHW(self) -> np.ndarray:
        """Each pixel's player's score."""
        pairs = zip(self.scores, self.regions, strict=True)
        return np.stack([scores_N[regions_HW] for scores_N, regions_HW in pairs])

    def maps(self, kind: Literal["rank", "assigned"]) -> np.ndarray:
        """Maps (B, H, W) in which every pixel has a value, players without a place the lowest.

        `rank`: n - k for the k-th pick. `assigned`: 1 to 0, falling by what each pick changes
        (`pipeline.maps`): in the target's probability, of both curves where one order serves both.
        """
        if kind not in ("rank", "assigned"):
            raise UsageError(f"kind={kind!r}: use 'rank' or 'assigned'")
        values = self._ranks if kind == "rank" else self._assigned
        return np.stack([values(i)[regions_HW] for i, regions_HW in enumerate(self.regions)])

    @property
    def curve(self) -> list[Curve]:
        """Of `objective`; `curves` holds those of all."""
        return [curves[self.objective] for curves in self.curves]

    @property
    def auc(self) -> np.ndarray:
        """Area under each image's probability curve, (B,)."""
        return np.array([curve.auc_probability for curve in self.curve])

    def figure(self) -> Figure:
        """A row an image: what the model sees, the heat over it, the curves."""
        rows = len(self.pixels)
        figure = Figure(figsize=(9.0, 2.9 * rows), layout="constrained")
        for i, (photo, over, plot) in enumerate(figure.subplots(rows, 3, squeeze=False)):
            photo.imshow(self.pixels[i])
            photo.set_title(f"predicted {self.prediction[i]}, explained {self.target[i]}")
            over.imshow(_overlay(self.pixels[i], self.heat_BHW[i]))
            over.set_title("first picks are red")
            for axes in (photo, over):
                axes.set_axis_off()
            for objective, curve in self.curves[i].items():
                label = f"{objective}, {curve.measure} {curve.value:.3f}"
                label = label.replace("auc_probability", "AUC")
                plot.plot(curve.fraction, curve.probability, lw=1.8, label=label)
            plot.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="fraction of pixels")
            plot.set_title("probability of the target")
            plot.legend(fontsize=8, frameon=False)
            plot.grid(alpha=0.25)
        return figure

    def show(self) -> "Explained":
        """Display the figure where there is a notebook, else open it as a picture."""
        try:
            from IPython.display import Image as Shown  # type: ignore[import-not-found]
            from IPython.display import display  # type: ignore[import-not-found]
        except ImportError:
            from PIL import Image

            Image.open(io.BytesIO(self._repr_png_())).show()
        else:
            display(Shown(self._repr_png_()))
        return self

    def _repr_png_(self) -> bytes:
        """The figure, as notebooks ask for it."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        return buffer.getvalue()

    def _scores(self, i: int) -> np.ndarray:
        found = self.attributions[i][self.objective]
        if found.scores_N is not None:
            return found.scores_N.float().numpy()
        return (self._ranks(i) / self._n_players(i)).astype(np.float32)

    def _ranks(self, i: int) -> np.ndarray:
        return ranks(self.order[i], self._n_players(i))

    def _assigned(self, i: int) -> np.ndarray:
        found, curves = self.attributions[i], self.curves[i]
        order, values_G = self.order[i], curves[self.objective].probability
        if all(o in found and found[o].order == order for o in OBJECTIVES):
            shown, left = (curves[objective].probability for objective in OBJECTIVES)
            values_G = both_ways(shown, left)
        return assigned_values(order, values_G[: len(order) + 1], self._n_players(i))

    def _n_players(self, i: int) -> int:
        return int(self.regions[i].max()) + 1


def _overlay(pixels_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    low, high = float(heat_HW.min()), float(heat_HW.max())
    level_HW = (heat_HW - low) / max(high - low, 1e-12)
    return (0.5 * pixels_HWC / 255 + 0.5 * HEAT(level_HW)[..., :3]).clip(0, 1)
