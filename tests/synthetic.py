"""Rows made up for tests of what becomes of rows; no model, no Ray."""

import numpy as np

from pipeline.rows import Kind, RunDir, Writer
from pipeline.rows.writer import register
from pipeline.studies.curves.rows import CURVES

PREPROCESSING = {
    "input_size": [3, 8, 8],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "crop_pct": 1.0,
    "crop_mode": "center",
    "interpolation": "bicubic",
}


def curve(key: str, fingerprint: str, method: str = "moxi", seed: int = 0, **more) -> dict:
    """A row of one image: an order of four players and its insertion curve."""
    rng = np.random.default_rng([seed, *key.encode()])
    probability = np.sort(rng.random(5))
    return {
        "dataset": "toy",
        "shard": "s.tar",
        "key": key,
        "model": "timm",
        "players": "patch14",
        "masking": "zero",
        "curve_masking": "zero",
        "method": method,
        "objective": "insertion",
        "fingerprint": fingerprint,
        "label": 1,
        "prediction": 1,
        "target": 1,
        "n_players": 4,
        "order": rng.permutation(4).tolist(),
        "fraction": [0, 0.25, 0.5, 0.75, 1],
        "probability": probability.tolist(),
        "top1": [False, False, True, True, True],
        "auc_probability": float(np.trapezoid(probability, dx=0.25)),
        "auc_top1": 0.625,
        "flip": 2,
        "evaluations": 10,
        "seconds": 0.5,
        "status": "ok",
    } | more


def made(fingerprint: str, method: str = "moxi", **config) -> dict:
    """Provenance of one fingerprint."""
    return {
        "fingerprints": {method: fingerprint},
        "weights_hash": "aae49dd47f24bcb0",
        "preprocessing": PREPROCESSING,
        "schema_version": 2,
        "config": {
            "dataset": {"_target_": "pipeline.data.shards.Shards", "name": "toy", "shards": "x"},
            "model": {"_target_": "pipeline.models.TimmModel", "name": "resnet18"},
            "players": {"_target_": "pipeline.players.patch_grid.PatchGrid", "grid": 2},
            "masking": {"_target_": "pipeline.masking.zero.Zero"},
            "curve_masking": {"_target_": "pipeline.masking.zero.Zero"},
            "methods": {method: {"_target_": "pipeline.methods.moxi.Moxi", "budget": None}},
            "target": "prediction",
            "engine": {"precision": "fp32"},
        }
        | config,
    }


def seal(out, *parts: tuple[list[dict], dict], kind: Kind = CURVES) -> RunDir:
    """A run directory of these parts."""
    run = RunDir(str(out), kind)
    for rows, metadata in parts:
        writer = Writer(run, register(run), metadata)
        writer.stage(rows)
        writer.close()
    return run
