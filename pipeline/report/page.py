"""The page: what it is about, then its sections."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.report import Section
from pipeline.report.text import rendered
from pipeline.rows import Storage


def write(
    run: Storage,
    sections: Sequence[Section],
    *,
    confidence: float,
    notes: Sequence[str] = (),
    title: str = "Which pixels carry the decision?",
    name: str = "index",
) -> str:
    """Write <out>/report/<name>.html, `notes` on top; returns its place."""
    html = rendered(
        Path(__file__).with_name("page.html"),
        title=title,
        out=run.out,
        models=list(dict.fromkeys(name for section in sections for name in section.models)),
        datasets=list(dict.fromkeys(name for section in sections for name in section.datasets)),
        confidence=f"{100 * confidence:g}",
        notes=notes,
        sections=[section.html for section in sections],
    )
    path = run.path("report", f"{name}.html")
    run.write(path, html.encode())
    return path if run.is_local else f"{run.out.rstrip('/')}/report/{name}.html"
