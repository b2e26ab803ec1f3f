"""Kinds of rows: which columns they have, and which of these make a row one and the same."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Kind:
    """A kind of rows: the study that they belong to, the folder of their parts, their columns, the
    one that tells apart the rows of one image and fingerprint, and the job that makes them."""

    study: str
    folder: str
    schema: pa.Schema
    facet: str
    job: str

    @property
    def identity(self) -> list[str]:
        """Columns that make a row one and the same."""
        return ["shard", "key", "fingerprint", self.facet]
