"""What a run brings into being: rows of one kind for each image. Workers know no more than this."""

import json
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from pipeline import UsageError
from pipeline.components import one_line
from pipeline.data import Sample, SampleRef
from pipeline.data.images import decode
from pipeline.data.ranges import read_members
from pipeline.data.shards import Shards
from pipeline.engine import Task
from pipeline.models import Model
from pipeline.rows import Kind

SCHEMA_VERSION = 3
"""Part of every fingerprint: raise it when a change alters what any row holds."""

LOOKED_AT = 3
"""Samples whose labels are looked for before work begins."""

Row = dict[str, Any]
Wanted = Sequence[tuple[str, Any]]
"""(method, facet) of each row that is asked for; the kind of rows says what a facet is."""
Known = Mapping[tuple[str, Any], Row]
"""Rows that hold a part of the answer already: for each wanted one, if any."""


def read_image(model: Model, data: Shards, ref: SampleRef) -> tuple[Sample, Tensor]:
    """A sample and its image (C, H, W) as the model reads it. Raises ValueError for a bad one."""
    sample = data.read(ref)
    return sample, prepared(model, sample)


def prepared(model: Model, sample: Sample) -> Tensor:
    """A sample's image (C, H, W) as the model reads it."""
    return model.transform(decode(sample.encoded, exif=sample.exif))


@dataclass(frozen=True, kw_only=True)
class Work(ABC):
    """Everything that decides a row. `fingerprints`: the content address of each method's rows;
    `order_fingerprints`: of the part of them that others with the same one can use again; `target`:
    the class explained; `lender`: another run directory, whose rows may hold such parts."""

    kind: ClassVar[Kind]
    data: Shards
    model: Model
    fingerprints: Mapping[str, str]
    order_fingerprints: Mapping[str, str] = field(default_factory=dict)
    target: Literal["prediction", "label"] | int = "prediction"
    lender: str = ""

    @property
    @abstractmethod
    def wanted(self) -> list[tuple[str, Any]]:
        """The rows of one image."""

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError where settings do not fit each other, before work begins."""

    @abstractmethod
    def forwards(self, wanted: Wanted, known: Container[Any]) -> int:
        """Forwards that one image will need for `wanted`, `known` in part."""

    @abstractmethod
    def first_request(self) -> tuple[int, int]:
        """Rows and tokens a row of the smallest request: how many images it takes to fill a batch.
        Runs the model."""

    @abstractmethod
    def read(self, ref: SampleRef, wanted: Wanted, known: Known) -> Any:
        """What can be made of an image without the model, on any thread: decoded, cut, masked.

        Raises ValueError for a bad sample.
        """

    @abstractmethod
    def explain(self, ready: Any, wanted: Wanted, known: Known) -> Task:
        """Coroutine for the engine: the rows of one image, of which `read` has made `ready`;
        failures included; never raises."""

    @abstractmethod
    def row(self, shard: str, key: str, name: str, facet: Any) -> Row:
        """Columns that are known before anything is computed."""

    def sample(self, ref: SampleRef) -> Sample:
        """Bytes that the rows of an image stand on. Raises ValueError for a bad sample."""
        return self.data.read(ref)

    def image(self, ref: SampleRef) -> tuple[Sample, Tensor]:
        """Bytes to a normalised image (C, H, W). Raises ValueError for a bad sample."""
        sample = self.sample(ref)
        return sample, prepared(self.model, sample)

    def check_labels(self, refs: Sequence[SampleRef]) -> None:
        """Look at the first readable samples where labels are wanted, or looked for somewhere.

        Raises UsageError if none of them has one.
        """
        if self.target != "label" and self.data.label == "cls":
            return
        member, said = self.data.label.partition(".")[0], ""
        there = [ref for ref in refs[:LOOKED_AT] if ref.error is None]
        for ref in there:
            try:
                if self.data.read(ref).label is not None:
                    return
                said = f"samples hold {', '.join(ref.members)}"
            except Exception as error:
                said = one_line(error)
            if member == "json" and member in ref.members:
                said = f"fields are {', '.join(_fields(ref)) or 'none'}"
        if there:
            raise UsageError(
                f"dataset.label={self.data.label}: the first {len(there)} samples have no label "
                f"there ({said}); give 'cls' or 'json.<field>' as they have it"
            )

    def asked(self, sample: Sample) -> int | None:
        """The class that is to be explained, None for the prediction. Raises ValueError where the
        sample does not say."""
        if self.target == "prediction":
            return None
        target = sample.label if self.target == "label" else self.target
        if target is None:
            raise ValueError("sample has no label to explain; use target=prediction")
        if target < 0:
            raise ValueError(f"class {target} is not one of the model's")
        return target

    def explained(self, asked: int | None, prediction: int, n_classes: int) -> int:
        """The target. Raises ValueError where the model has no such class."""
        target = prediction if asked is None else asked
        if target >= n_classes:
            raise ValueError(f"class {target} is not one of the model's {n_classes}")
        return target

    def failures(
        self,
        shard: str,
        key: str,
        wanted: Wanted,
        error: Exception | str,
        **said: Any,
    ) -> list[Row]:
        """A row with status 'failed' and the reason for each of `wanted`; `said`: what is known
        besides (label, prediction, target, content)."""
        plain = isinstance(error, str) or type(error) in (ValueError, UsageError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        return [
            self.row(shard, key, name, facet) | said | {"status": "failed", "error": reason}
            for name, facet in wanted
        ]


def _fields(ref: SampleRef) -> list[str]:
    """Fields of a sample's json member."""
    try:
        found = json.loads(read_members(ref.url, [ref.members["json"]])[0])
    except Exception:  # the reason is the label's, and told as such
        return []
    return list(found) if isinstance(found, dict) else []
