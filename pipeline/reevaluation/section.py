"""The verdict and the nights before it, as a section of a page."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.reevaluation.history import Record, trend
from pipeline.reevaluation.night import Night
from pipeline.report import Section
from pipeline.report.text import rendered


def section(night: Night, nights: Sequence[Record]) -> Section:
    """What was decided, and the trend of `nights`."""
    html = rendered(
        Path(__file__).with_name("section.html"),
        word=night.word,
        lines=night.lines(),
        notes=night.notes,
        table_of=night.table(),
        nights=len(nights),
        trend=trend(nights),
    )
    return Section(html=html, models=[night.checkpoint.model], datasets=[])
