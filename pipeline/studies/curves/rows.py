"""Rows of curves: an order of players and its judgement; docs/columns.yaml says what each means."""

import pyarrow as pa

from pipeline.rows import Kind

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "shard", "key", "model", "weights")),
        *((name, pa.string()) for name in ("players", "masking", "curve_masking", "method")),
        *((name, pa.string()) for name in ("objective", "fingerprint", "order_fingerprint")),
        ("content", pa.string()),
        *((name, pa.int32()) for name in ("label", "prediction", "target", "n_players")),
        ("order", pa.list_(pa.uint16())),
        ("scores", pa.list_(pa.float32())),
        ("interaction", pa.list_(pa.float32())),
        ("pairs", pa.list_(pa.float32())),
        ("details", pa.string()),
        ("regions", pa.binary()),
        ("fraction", pa.list_(pa.float32())),
        ("probability", pa.list_(pa.float32())),
        ("log_odds", pa.list_(pa.float32())),
        ("top1", pa.list_(pa.bool_())),
        ("auc_probability", pa.float64()),
        ("auc_top1", pa.float64()),
        ("flip", pa.int32()),
        ("evaluations", pa.int64()),
        ("tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("heat", pa.binary()),
        ("judge", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float64()),
        *((name, pa.string()) for name in ("order_model", "order_weights")),
    ]
)
CURVES = Kind("curves", "results", SCHEMA, "objective", "jobs.evaluate")
"""Orders and their insertion and deletion curves."""
ORDER_COLUMNS = (
    *("n_players", "order", "scores", "interaction", "pairs", "details", "evaluations"),
    *("tokens", "seconds", "heat"),
)
"""Columns that hold an order; the others, its judgement."""
