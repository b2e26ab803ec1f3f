"""The gallery's pictures of one image's rows: orders, maps and regions over the photograph."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.maps import assigned_values, both_ways
from pipeline.report import figures
from pipeline.report.gallery import Photographs, Record, Tile, data_uri

HALF, DARK = 0.5, 0.3
"""Brightness outside of a searched region, and of what hides a mistake's true class."""
RED = (0.9, 0.05, 0.05)


def tiles(records: Sequence[Record], photographs: Photographs) -> Iterable[Tile]:
    """An order over the photograph for each row, and a matrix where it has pairs; beside the orders
    of searches, once each, their values and the region that they found, by the curves of the
    masking that they searched under, where it judges them."""
    mapped = set()
    for row in sorted(records, key=_place):
        regions_HW, pixels_HWC = photographs.regions(row), photographs.pixels_HWC
        order = order_tile(row, pixels_HWC, regions_HW)
        yield order
        if row["pairs"] is not None:
            largest = max(map(abs, row["pairs"])) or 1.0
            matrix = data_uri(interaction_matrix(row["pairs"], row["n_players"], largest))
            caption = f"interactions of all pairs, blue -{largest:.2g} to red {largest:.2g}"
            yield Tile(picture=matrix, title=order.title, caption=caption)
        if _order(row) not in mapped and _searched(row, photographs):
            mapped.add(_order(row))
            judged = [r for r in records if r["fingerprint"] == row["fingerprint"]]
            alike = {r["objective"]: r for r in judged if r["order"] == row["order"]}
            picture = data_uri(overlay(pixels_HWC, values(alike)[regions_HW]))
            caption = "colder by what each pick changes" + (", both ways" if len(alike) > 1 else "")
            yield Tile(picture=picture, title=f"{row['title']}, values", caption=caption)
            if row["objective"] == "insertion":
                yield _region(row, photographs, regions_HW)


def order_tile(row: Record, pixels_HWC: np.ndarray, regions_HW: np.ndarray) -> Tile:
    """A row's order over the photograph, up to its flip."""
    picture = data_uri(overlay(pixels_HWC, _heat_of(row)[regions_HW]))
    title = f"{row['title']}, {row['objective']}"
    return Tile(picture=picture, title=title, caption=_caption(row))


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


def overlay(pixels_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Hot regions coloured by their heat over a dimmed grey photograph; all in 0..1."""
    grey_HWC = np.repeat(pixels_HWC.mean(2, keepdims=True), 3, 2) * 0.55
    colour_HWC = figures.heat(0.1 + 0.85 * heat_HW)
    return np.where((heat_HW > 0)[..., None], 0.55 * pixels_HWC + 0.45 * colour_HWC, grey_HWC)


def outlined(pixels_HWC: np.ndarray, inside_HW: np.ndarray, outside: float) -> np.ndarray:
    """A region with a red contour, the rest at a brightness of `outside`; all in 0..1."""
    edge_HW = np.zeros_like(inside_HW)
    down, right = np.diff(inside_HW, axis=0), np.diff(inside_HW, axis=1)
    edge_HW[:-1] |= down
    edge_HW[1:] |= down
    edge_HW[:, :-1] |= right
    edge_HW[:, 1:] |= right
    shown_HWC = np.where(inside_HW[..., None], pixels_HWC, outside * pixels_HWC)
    return np.where(edge_HW[..., None], RED, shown_HWC)


def interaction_matrix(pairs: list[float], n_players: int, largest: float) -> np.ndarray:
    """Symmetric matrix of pair interactions, `pairs` in the order of `torch.triu_indices`, as a
    picture of at least 176 pixels; -largest is blue, 0 white, largest red."""
    matrix_NN = np.zeros((n_players, n_players))
    one, other = np.triu_indices(n_players, 1)
    matrix_NN[one, other] = matrix_NN[other, one] = pairs
    scale = -(-176 // n_players)
    return figures.signed(matrix_NN / largest).repeat(scale, 0).repeat(scale, 1)


def _place(row: Record) -> tuple[Any, ...]:
    """Insertion first, and first what is judged as it was searched."""
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


def _region(row: Record, photographs: Photographs, regions_HW: np.ndarray) -> Tile:
    """What makes a mistake its target with the rest dark; where nothing does, and where there is no
    mistake, the region at the top of the curve."""
    mistaken = row["target"] != row["prediction"]
    cured = best_prefix(row, top1=True) if mistaken else 0
    k = cured or best_prefix(row)
    inside_HW = np.ones_like(regions_HW, dtype=bool)
    if k <= len(row["order"]):  # a search that stopped early is closed by the whole image
        inside_HW = np.isin(regions_HW, row["order"][:k])
    share, probability = 100 * row["fraction"][k], row["probability"][k]
    if cured:
        name = photographs.class_name(row["target"])
        caption = f"without the dark regions ({100 - share:.0f} % of the pixels) it is {name}"
    else:
        caption = f"{share:.0f} % of the pixels" + (", never the prediction" if mistaken else "")
    caption += f": probability {probability:.3f}, {row['probability'][-1]:.3f} with all"
    picture = data_uri(outlined(photographs.pixels_HWC, inside_HW, DARK if cured else HALF))
    title = f"{row['title']}, {'dark regions' if cured else 'searched region'}"
    return Tile(picture=picture, title=title, caption=caption)


def _details(row: Record) -> dict[str, Any]:
    return json.loads(row["details"]) if row["details"] else {}


def _heat_of(row: Record) -> np.ndarray:
    """Heat up to the flip; of a class-targeted order, what phase B hid."""
    details = _details(row)
    if "phase_a" not in details:
        flip = row["flip"] if _along_the_order(row) else None
        return heat(row["order"], flip, row["n_players"])
    return heat(row["order"][details["phase_a"] :], None, row["n_players"])


def _caption(row: Record) -> str:
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
