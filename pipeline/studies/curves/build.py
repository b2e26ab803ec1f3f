"""Settings to the work of curves, with the content addresses of its rows."""

from collections.abc import Mapping
from typing import Any

from pipeline import UsageError
from pipeline.build import explained, load, methods, part, target
from pipeline.identity import content, fingerprint, name_of
from pipeline.models import Model
from pipeline.studies.curves import paper, published
from pipeline.studies.curves.orders import located
from pipeline.studies.curves.transfer import Transfer, check_players, lent
from pipeline.studies.curves.work import CurvesWork


def build(
    settings: Mapping[str, Any], device: str = "cpu", model: Model | None = None
) -> CurvesWork:
    """Orders are addressed by what finds them, rows by their order and what judges it.

    `orders` are another model's, looked up unless they were: this model is then what judges.
    Raises UsageError for whatever does not fit together.
    """
    published.check(settings.get("published", {}))
    paper.check(settings.get("table"), list(settings["methods"]))
    model = model or load(settings, device)
    data, shared = explained(settings, model)
    players, masking, curve_masking, judge = (
        part(settings, role) for role in ("players", "masking", "curve_masking", "judge")
    )
    chosen = methods(settings)
    asked = ("dataset", "target")  # all else is of the model
    judging = {name: what for name, what in shared.items() if name not in asked}
    shared |= {"players": content(players), "masking": content(masking)}
    orders = {n: fingerprint(shared | {"method": content(m)}) for n, m in chosen.items()}
    judged = {"judge": content(judge), "curve_masking": content(curve_masking)}
    names = {
        "model": model.name,
        "weights": model.weights_hash[:8],
        "players": name_of(players),
        "masking": name_of(masking),
        "curve_masking": name_of(curve_masking),
        "judge": name_of(judge),
    }
    source = settings.get("orders")
    if source and "fingerprints" not in source:
        source = located(settings)["orders"]
    if source:
        check_players(players, model, source["preprocessing"], source["run"])
        if own := [n for n, order in orders.items() if order in source["fingerprints"].values()]:
            raise UsageError(
                f"orders={source['run']}: its orders of {', '.join(own)} are this model's own; "
                "give another model, or leave orders out"
            )
        orders = source["fingerprints"]
        judged["on"] = judging
        names |= {"order_model": source["model"], "order_weights": source["weights"]}
    prints = {name: fingerprint(judged | {"order": order}) for name, order in orders.items()}
    for name in prints:
        if twin := next((n for n in prints if n != name and prints[n] == prints[name]), None):
            raise UsageError(f"methods: {name} and {twin} are the same; leave one of them out")
    kind = Transfer if source else CurvesWork
    return kind(
        data=data,
        model=model,
        players=players,
        masking=curve_masking if source else masking,
        curve_masking=curve_masking,
        judge=judge,
        methods=lent(chosen) if source else chosen,
        names=names,
        fingerprints=prints,
        order_fingerprints=orders,
        target=target(settings, data),
        lender=source["run"] if source else "",
    )
