"""Settings to the work of curves, with the content addresses of its rows."""

from collections.abc import Mapping
from typing import Any

from pipeline import UsageError
from pipeline.build import explained, methods, part, target
from pipeline.identity import content, fingerprint, name_of
from pipeline.studies.curves import paper, published
from pipeline.studies.curves.work import CurvesWork


def build(settings: Mapping[str, Any], device: str = "cpu") -> CurvesWork:
    """Orders are addressed by what finds them, rows by their order and what judges it.

    Raises UsageError for whatever does not fit together.
    """
    published.check(settings.get("published", {}))
    paper.check(settings.get("table"), list(settings["methods"]))
    model, data, shared = explained(settings, device)
    players, masking, curve_masking, judge = (
        part(settings, role) for role in ("players", "masking", "curve_masking", "judge")
    )
    chosen = methods(settings)
    shared |= {"players": content(players), "masking": content(masking)}
    orders = {n: fingerprint(shared | {"method": content(m)}) for n, m in chosen.items()}
    judged = {"judge": content(judge), "curve_masking": content(curve_masking)}
    prints = {name: fingerprint(judged | {"order": order}) for name, order in orders.items()}
    for name in prints:
        if twin := next((n for n in prints if n != name and prints[n] == prints[name]), None):
            raise UsageError(f"methods: {name} and {twin} are the same; leave one of them out")
    return CurvesWork(
        data=data,
        model=model,
        players=players,
        masking=masking,
        curve_masking=curve_masking,
        judge=judge,
        methods=chosen,
        names={
            "model": model.name,
            "weights": model.weights_hash[:8],
            "players": name_of(players),
            "masking": name_of(masking),
            "curve_masking": name_of(curve_masking),
            "judge": name_of(judge),
        },
        fingerprints=prints,
        order_fingerprints=orders,
        target=target(settings, data),
    )
