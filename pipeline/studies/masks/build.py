"""Settings to the work of undesirable pixels, with the content addresses of its rows."""

from collections.abc import Mapping
from typing import Any

from pipeline import UsageError
from pipeline.build import explained, load, methods, target
from pipeline.identity import content, fingerprint
from pipeline.models import Model
from pipeline.studies.masks.work import MasksWork


def build(
    settings: Mapping[str, Any], device: str = "cpu", model: Model | None = None
) -> MasksWork:
    """Raises UsageError for whatever does not fit together."""
    model = model or load(settings, device)
    data, shared = explained(settings, model)
    shared |= {"controls": sorted(settings["controls"]), "greedy_grid": settings["greedy_grid"]}
    variants = methods(settings)
    for name, variant in variants.items():
        if not hasattr(variant, "batch"):
            raise UsageError(
                f"methods: {name} optimises no mask; use undesirable_base, f_tc, f_ntc"
            )
    return MasksWork(
        data=data,
        model=model,
        variants=variants,
        trials=settings["trials"],
        controls=settings["controls"],
        greedy_grid=settings["greedy_grid"],
        fingerprints={n: fingerprint(shared | {"method": content(v)}) for n, v in variants.items()},
        target=target(settings, data),
    )
