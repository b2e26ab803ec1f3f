"""One self-contained HTML page of sections: knows how things are shown, not which.

`page` writes it, `bundle` inlines the scripts of `app/` and uPlot (`assets/`), `gallery` finds the
photographs, `coded` makes numbers and pictures short.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.rows import RunDir
from pipeline.statistics import Band


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a group of rows is called in every figure, table, gallery and tracked key.

    `title` is the method and, where more than methods varies, the variant; `model` is the name
    that tells the group's model from other models.
    """

    method: str
    variant: str
    model: str

    @property
    def title(self) -> str:
        """Unique among the groups shown together."""
        return f"{self.method}, {self.variant}" if self.variant else self.method


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The mean of one quantity over images and its interval: a line of a chart.

    `labels`: what else tells it from other lines (data set, model, masking, ...); `n`: images;
    `x_G`: fractions of the pixels.
    """

    name: Name
    labels: Mapping[str, str]
    objective: str
    quantity: str
    subset: str
    n: int
    x_G: np.ndarray
    band: Band


@dataclass(frozen=True, kw_only=True)
class View:
    """A photograph as one model sees it, as a data URI, and what is drawn over it.

    `classes`: names of `predicted`, `target` and `label`, as far as they are known; `items`: plain
    values, which the scripts of `app/` understand.
    """

    model: str
    photo: str
    classes: Mapping[str, str]
    mistaken: bool
    items: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One image, what was found of it and what went wrong; `regions`: maps of players by name."""

    dataset: str
    shard: str
    key: str
    views: Sequence[View]
    errors: Sequence[str]
    regions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page, and the models and data sets that it is about; `run`: where its rows
    are, whose failures and provenance the page tells; `exhibits` are made as they are asked for."""

    html: Markup
    models: Sequence[str]
    datasets: Sequence[str]
    run: RunDir | None = None
    curves: Sequence[Curve] = ()
    exhibits: Iterable[Exhibit] = field(default=())
