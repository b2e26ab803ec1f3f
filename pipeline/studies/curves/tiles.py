"""What the gallery draws of one image's rows: orders to replay, maps and regions of players."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.maps import assigned_values, both_ways
from pipeline.report import coded
from pipeline.report.gallery import Photographs, Record

CODES = {
    "fraction": coded.unit,
    "probability": coded.unit,
    "log_odds": coded.log_odds,
    "top1": coded.bits,
}
"""Columns of a curve and how the page holds them."""


def items(records: Sequence[Record], photographs: Photographs) -> Iterable[Mapping[str, Any]]:
    """An order with its curve for each row; beside the orders of searches, once each, their values
    and the region that they found, by the curves of the masking that they searched under, where
    it judges them."""
    mapped = set()
    for row in in_order(records):
        regions_HW = photographs.regions(row)
        more: dict[str, Any] = {"values": None, "region": None}
        if _order(row) not in mapped and _searched(row, photographs):
            mapped.add(_order(row))
            judged = [r for r in records if r["fingerprint"] == row["fingerprint"]]
            alike = {r["objective"]: r for r in judged if r["order"] == row["order"]}
            more["values"] = coded.shares(values(alike))
            more["both"] = len(alike) > 1
            if row["objective"] == "insertion":
                more["region"] = region(row, photographs)
        yield _item(row) | {"regions": photographs.map_of(regions_HW)} | more


def _item(row: Record) -> dict[str, Any]:
    """A row as the scripts read it; a curve that takes no step a player is not replayed."""
    replayed = _along_the_order(row) and "phase_a" not in _details(row)
    curve = {column: row[column] for column in CODES if replayed and row[column] is not None}
    return {
        **{name: row[name] for name in ("title", "method", "objective")},
        **{"n": row["n_players"], "caption": caption(row)},
        "area": row["auc_probability"] if row["measure"] in (None, "auc_probability") else None,
        "flip": row["flip"] if _along_the_order(row) else None,
        "order": coded.whole(row["order"]),
        "heat": coded.shares(heat_of(row)),
        "pairs": None if row["pairs"] is None else _pairs(row["pairs"]),
        **{column: CODES[column](values) for column, values in curve.items()},
    }


def heat(order: list[int], flip: int | None, n_players: int) -> np.ndarray:
    """Heat of each player, 0 to 1, (N,): of K picks up to the flip the t-th gets K - t + 1, the
    rest 0, over the maximum (MoXI, Fig. 4). Without a flip every pick counts."""
    picks = order[: len(order) if flip is None else flip]
    heat_N = np.zeros(n_players)
    heat_N[picks] = np.arange(len(picks), 0, -1) / max(1, len(picks))
    return heat_N


def values(rows: dict[str, Record]) -> np.ndarray:
    """Heat of each player, above 0 to 1, (N,), 0 for those without a place in the order: by the
    scores of the search, or else by what each pick changes in the curves of its objectives."""
    row = next(iter(rows.values()))
    order, n_players = row["order"], row["n_players"]
    if row["scores"] is not None:
        values_N = np.asarray(row["scores"], dtype=np.float64)
    else:
        curves = [rows[o]["probability"] for o in ("insertion", "deletion") if o in rows]
        values_G = both_ways(*map(np.asarray, curves)) if len(curves) == 2 else curves[0]
        values_N = assigned_values(order, values_G[: len(order) + 1], n_players)
    low, high = values_N[order].min(), values_N[order].max()
    heat_N = np.zeros(n_players)
    heat_N[order] = 0.05 + 0.95 * (values_N[order] - low) / (high - low or 1.0)
    return heat_N


def best_prefix(row: Record, *, top1: bool = False) -> int:
    """How many players stand at the highest point of an insertion curve; with `top1`, of those at
    which the target is the prediction, 0 where there is none."""
    probability_G = np.asarray(row["probability"][1:])
    fit_G = np.asarray(row["top1"][1:]) if top1 else np.ones(len(probability_G), dtype=bool)
    return int(np.where(fit_G, probability_G, -1).argmax()) + 1 if fit_G.any() else 0


def in_order(records: Sequence[Record]) -> list[Record]:
    """Insertion first, and first what is judged as it was searched."""
    return sorted(records, key=_place)


def _place(row: Record) -> tuple[Any, ...]:
    return row["objective"] != "insertion", row["curve_masking"] != row["masking"], row["title"]


def _order(row: Record) -> tuple[Any, ...]:
    """What rows of one order have in common; the older ones do not say it."""
    return row["order_fingerprint"] or row["fingerprint"], *row["order"]


def _along_the_order(row: Record) -> bool:
    """Whether the row's curve, if it has one, takes a step a player in the order's own sense."""
    measure, judge = row.get("measure") or "", row.get("judge") or ""
    backwards = measure == "monotonicity" or measure.endswith("least_first")
    return row["fraction"] is not None and not backwards and not judge.startswith("pixel_steps")


def _searched(row: Record, photographs: Photographs) -> bool:
    """Whether a search made the order; nothing is known of a class that is there no more."""
    if not row["order"] or "phase_a" in _details(row) or row["probability"] is None:
        return False
    if not _along_the_order(row):
        return False
    try:
        return photographs.method(row).searches
    except UsageError:
        return False


def region(row: Record, photographs: Photographs) -> dict[str, Any]:
    """What makes a mistake its target with the rest dark; where nothing does, and where there is no
    mistake, the region at the top of the curve: the first `k` players, all of them where `k` is
    beyond the order; `cured` says which of the two, `caption` how far it goes."""
    mistaken = row["target"] != row["prediction"]
    cured = best_prefix(row, top1=True) if mistaken else 0
    k = cured or best_prefix(row)
    share, probability = 100 * row["fraction"][k], row["probability"][k]
    if cured:
        name = photographs.class_name(row["target"])
        caption = f"without the dark regions ({100 - share:.0f} % of the pixels) it is {name}"
    else:
        caption = f"{share:.0f} % of the pixels" + (", never the prediction" if mistaken else "")
    caption += f": probability {probability:.3f}, {row['probability'][-1]:.3f} with all"
    return {"k": k, "cured": bool(cured), "caption": caption}


def _pairs(pairs: Sequence[float]) -> dict[str, Any]:
    """Interactions of all pairs in the order of `torch.triu_indices`, in units of the largest."""
    largest = max(map(abs, pairs)) or 1.0
    return {"largest": largest, "halves": coded.shares(0.5 + np.asarray(pairs) / largest / 2)}


def _details(row: Record) -> dict[str, Any]:
    return json.loads(row["details"]) if row["details"] else {}


def heat_of(row: Record) -> np.ndarray:
    """Heat up to the flip; of a class-targeted order, what phase B hid."""
    details = _details(row)
    if "phase_a" not in details:
        flip = row["flip"] if _along_the_order(row) else None
        return heat(row["order"], flip, row["n_players"])
    return heat(row["order"][details["phase_a"] :], None, row["n_players"])


def caption(row: Record) -> str:
    """How far an order goes, in a line."""
    details = _details(row)
    if "phase_a" in details:
        hidden = f"{details['phase_a']} hidden in phase A"
        if not details["reached"]:
            return f"the class never becomes the prediction ({hidden})"
        return f"{details['phase_b']} players of phase B carry the class ({hidden})"
    if not _along_the_order(row):
        return f"{row['measure']} {row['value']:.3f}"
    if row["auc_probability"] is None:  # of a scalar output
        return f"output {row['log_odds'][0]:.3g} to {row['log_odds'][-1]:.3g}"
    auc = f"AUC {row['auc_probability']:.3f}"
    if row["flip"] is None:
        return f"never flips, {auc}"
    share = row["fraction"][row["flip"]]
    return f"flips at {row['flip']} of {row['n_players']} ({100 * share:.0f} %), {auc}"
