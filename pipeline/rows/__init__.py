"""Rows as durable Parquet: staged by workers as images are done, sealed into parts for readers.

<out>/staging/<kind>/<writer>/...               groups of rows and claims to them (see `writer`)
<out>/<kind>/<dataset>-<writer>-<n>.parquet     parts, which a writer seals from its own groups
"""

from pipeline.rows.committed import Committed, Part
from pipeline.rows.directory import RunDir
from pipeline.rows.parts import METADATA_KEY
from pipeline.rows.schema import Kind
from pipeline.rows.storage import Storage
from pipeline.rows.writer import Writer

__all__ = ["METADATA_KEY", "Committed", "Kind", "Part", "RunDir", "Storage", "Writer"]
