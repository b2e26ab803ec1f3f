"""Rows as durable Parquet: one staged file an image, sealed into parts that readers see.

    <out>/staging/<kind>/<hash of image and its rows>.parquet   by a worker when an image is done
    <out>/<kind>/<dataset>-<hash of contents>.parquet           sealed from those by the driver

Names derive from contents, so a late or repeated write changes nothing. A crash between sealing and
removing staged files leaves rows in both; the next run drops the staged.
"""

from pipeline.rows.directory import RunDir
from pipeline.rows.parts import METADATA_KEY, encode
from pipeline.rows.schema import Identity, Kind
from pipeline.rows.storage import Storage

__all__ = ["METADATA_KEY", "Identity", "Kind", "RunDir", "Storage", "encode"]
