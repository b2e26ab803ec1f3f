"""Curves as W&B draws them: one chart with intervals for each quantity, from a preset of ours.

A preset belongs to a W&B user or team. Where none is known, which is so offline without
`tracking.entity`, the same table is drawn by W&B's own lines, without intervals.
"""

import logging
from typing import Any

import wandb

from pipeline.studies import Chart

logger = logging.getLogger(__name__)

PRESET = "pixel-quorum-curves"
PLAIN = "wandb/lineseries/v0"
COLUMNS = ("step", "lineKey", "lineVal", "low", "high")
"""Those that W&B's own lines read, and the interval."""
MOST_ROWS = 10_000
"""Of a custom chart; W&B drops what is beyond."""

_X = {"field": "${field:step}", "type": "quantitative", "title": "${string:xname}"}
_COLOUR = {"field": "${field:lineKey}", "type": "nominal", "title": None}
_RUN = {"field": "name", "type": "nominal", "title": "run"}


def _axis(field: str) -> dict[str, Any]:
    return {"field": f"${{field:{field}}}", "type": "quantitative", "title": "${string:yname}"}


SPEC: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "description": "Mean curves with their intervals; runs that are shown together by dashes",
    "data": {"name": "wandb"},
    "title": "${string:title}",
    "encoding": {"x": _X, "color": _COLOUR},
    "layer": [
        {
            "mark": {"type": "area", "opacity": 0.15},
            "encoding": {
                "y": _axis("low"),
                "y2": {"field": "${field:high}"},
                "detail": _RUN,
            },
        },
        {
            "mark": {"type": "line", "tooltip": True},
            "encoding": {"y": _axis("lineVal"), "strokeDash": _RUN},
        },
    ],
}


def publish(entity: str) -> None:
    """Make the preset known to a user or team, once; an older one of the name stays."""
    try:
        wandb.Api().create_custom_chart(
            entity=entity,
            name=PRESET,
            display_name="Curves with intervals",
            spec_type="vega2",
            access="private",
            spec=SPEC,
        )
    except Exception as error:  # W&B has no question whether one is there
        logger.debug("preset %s/%s: %s", entity, PRESET, error)


def drawn(chart: Chart, entity: str | None) -> Any:
    """A custom chart of the means of a chart's lines and their intervals."""
    step = -(-len(chart.x_G) * len(chart.lines) // MOST_ROWS)
    shown = sorted({*range(0, len(chart.x_G), step), len(chart.x_G) - 1})
    data: list[Any] = [
        [float(chart.x_G[i]), title, float(band.mean_G[i]), float(band.low_G[i]), high]
        for title, band in chart.lines.items()
        for i, high in ((i, float(band.high_G[i])) for i in shown)
    ]
    return wandb.plot_table(
        vega_spec_name=f"{entity}/{PRESET}" if entity else PLAIN,
        data_table=wandb.Table(columns=list[Any](COLUMNS), data=data),
        fields={column: column for column in COLUMNS},
        string_fields={
            "title": f"{chart.name}: {chart.quantity}",
            "xname": chart.axis,
            "yname": chart.quantity,
        },
        split_table=True,
    )
