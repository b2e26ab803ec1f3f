"""What a run brings into being: rows of one kind for each image. Workers know no more than this."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from pipeline import UsageError
from pipeline.data import Sample, SampleRef
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.engine import Task
from pipeline.models import Model
from pipeline.results import Kind

SCHEMA_VERSION = 2
"""Part of every fingerprint: raise it when a change alters what any row holds."""

Row = dict[str, Any]
Wanted = Sequence[tuple[str, Any]]
"""(method, part) of each row that is asked for; the kind of rows says what a part is."""


@dataclass(frozen=True, kw_only=True)
class Work(ABC):
    """Everything that decides a row. `fingerprints`: the content address of each method's rows;
    `target`: the class explained."""

    kind: ClassVar[Kind]
    data: Shards
    model: Model
    fingerprints: Mapping[str, str]
    target: Literal["prediction", "label"] | int = "prediction"

    @property
    @abstractmethod
    def wanted(self) -> list[tuple[str, Any]]:
        """The rows of one image."""

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError where settings do not fit each other, before work begins."""

    @abstractmethod
    def forwards(self, wanted: Wanted) -> int:
        """Forwards that one image will need for `wanted`."""

    @abstractmethod
    def first_query(self) -> tuple[int, int]:
        """Rows and tokens a row of the smallest query: how many images it takes to fill a batch."""

    @abstractmethod
    def explain(self, sample: Sample, image_CHW: Tensor, wanted: Wanted) -> Task:
        """Coroutine for the engine: the rows of one image, failures included; never raises."""

    @abstractmethod
    def row(self, shard: str, key: str, name: str, part: Any) -> Row:
        """Columns that are known before anything is computed."""

    def read(self, ref: SampleRef) -> tuple[Sample, Tensor]:
        """Bytes to a normalised image (C, H, W). Raises ValueError for a bad sample."""
        sample = self.data.read(ref)
        return sample, self.model.transform(decode(sample.encoded, exif=self.data.exif))

    def class_explained(self, sample: Sample, prediction: int, n_classes: int) -> int:
        """The target of an image. Raises ValueError where it has none."""
        target = prediction if self.target == "prediction" else self.target
        if target == "label":
            target = sample.label
        if target is None:
            raise ValueError("sample has no label to explain; use target=prediction")
        if not 0 <= int(target) < n_classes:
            raise ValueError(f"class {target} is not one of the model's {n_classes}")
        return int(target)

    def failures(
        self,
        shard: str,
        key: str,
        wanted: Wanted,
        error: Exception | str,
        **said: int | None,
    ) -> list[Row]:
        """A row with status 'failed' and the reason for each of `wanted`; `said`: what is known
        besides (label, prediction, target)."""
        plain = isinstance(error, str) or type(error) in (ValueError, UsageError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        return [
            self.row(shard, key, name, part) | said | {"status": "failed", "error": reason}
            for name, part in wanted
        ]


def fingerprint(content: Any) -> str:
    """Content address of a JSON-like value: SHA-256 of its canonical form, 16 hex digits.

    Key order does not matter, nor whether a whole number is written 1 or 1.0.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): canonical(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [canonical(v) for v in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    text = json.dumps(canonical(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
