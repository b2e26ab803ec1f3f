"""What a summary's numbers look like in tables, of the report and of the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.game import OBJECTIVES
from pipeline.report.tables import Table, slug
from pipeline.report.text import counted, interval, number
from pipeline.studies.curves.cells import ALIKE
from pipeline.studies.curves.highest import BUDGETS
from pipeline.studies.curves.statistics import Aggregate
from pipeline.studies.curves.sums import OF_CURVE
from pipeline.studies.names import HEADS, varied

Summary = Mapping[str, Any]


def areas(summaries: Sequence[Summary]) -> Table:
    """A line a method and objective; what a paper prints stands beside its area, what a judge
    measures besides areas of probability has columns of its own."""
    columns, printed = varied(summaries), _printed(summaries)
    others = any(s["measure"] != OF_CURVE for s in summaries)
    heads = [
        *("method", *(HEADS[column] for column in columns), "objective"),
        *(["measure", "value"] if others else []),
        *("AUC probability", *(["published"] if printed else [])),
        *("AUC top-1", "players to flip", "forwards", "device s", "images"),
    ]
    rows = []
    for s in summaries:
        own = {"curve_masking": " (own)"} if s.get("masking") == s.get("curve_masking") else {}
        rows.append(
            [
                s["title"],
                *(f"{s[column] or '-'}{own.get(column, '')}" for column in columns),
                s["objective"],
                *([s["measure"], interval(s, "value")] if others else []),
                interval(s, "auc_probability"),
                *([_beside(s, "auc_probability")] if printed else []),
                *(interval(s, "auc_top1"), number(s["flip"], ".1f")),
                *(number(s["evaluations"], ",.0f"), number(s["seconds"], ".2f"), counted(s)),
            ]
        )
    return Table(heads, rows)


def measures(summaries: Sequence[Summary]) -> dict[str, Table]:
    """A table of `both` for each measure."""
    found: dict[str, list[Summary]] = {}
    for s in summaries:
        found.setdefault(s["measure"], []).append(s)
    return {measure: both(mine) for measure, mine in found.items()}


def both(summaries: Sequence[Summary]) -> Table:
    """A line a method, both objectives of one measure beside each other."""
    measure = summaries[0]["measure"]
    said = "AUC" if measure == OF_CURVE else measure
    lines: dict[str, dict[str, Summary]] = {}
    for s in summaries:
        lines.setdefault(s["fingerprint"], {})[s["objective"]] = s
    printed = {o: _printed([s for s in summaries if s["objective"] == o]) for o in OBJECTIVES}
    heads = ["method"]
    for objective in OBJECTIVES:
        heads += [f"{objective} {said}", *(["published"] if printed[objective] else [])]
    rows = []
    for line in lines.values():
        s, *_ = line.values()
        cells = [s["title"]]
        for objective in OBJECTIVES:
            mine = line.get(objective)
            cells.append(interval(mine, "value") if mine else "-")
            if printed[objective]:
                cells.append(_beside(mine, "auc_probability") if mine else "-")
        rows.append([*cells, number(s["evaluations"], ",.0f"), counted(s)])
    return Table([*heads, "forwards/image", "images"], rows)


def confidence(found: Aggregate) -> Table | None:
    """Highest confidence within each budget, where there are mistakes to explain: images without a
    step inside are told, and what a paper prints is a line of its own."""
    summaries = [g.summary for g in found.groups if "highest_100" in g.summary]
    mistakes = found.mistakes or any(s["subset"] == "wrong" for s in summaries)
    if not mistakes or not summaries:
        return None
    rows = []
    for s in summaries:
        cells = [interval(s, f"highest_{budget}") for budget in BUDGETS]
        missed = [s[f"missed_{budget}"] for budget in BUDGETS]
        told = [f"{c} ({n} missed)" if n else c for c, n in zip(cells, missed, strict=True)]
        rows.append([s["title"], *told, counted(s)])
        if any(f"published_highest_{budget}" in s for budget in BUDGETS):
            printed = [_beside(s, f"highest_{budget}") for budget in BUDGETS]
            rows.append([f"{s['title']}, published", *printed, "-"])
    heads = ["method", *(f"within {budget} %" for budget in BUDGETS), "images"]
    return Table(heads, rows, title="highest confidence within so much of the area")


def versus(found: Aggregate) -> Table | None:
    """A line a method of each cell that has several: its difference to the reference that is asked
    for, else the best, image by image, and how sure that is."""
    compared = found.compared
    asked = [row for row in compared.comparisons if not row["chosen"]] or compared.comparisons
    rows = []
    several = varied([dict(row) for row in asked]) if asked else []
    seen = {}
    for row in asked:
        seen.setdefault(tuple(row[c] for c in ALIKE), []).append(row)
    best = {
        (*(row[c] for c in ALIKE), row["method"]): row["probability_best"]
        for row in compared.standings
    }
    for cell, lines in seen.items():
        heads = [str(lines[0].get(c) or "-") for c in several]
        shared = [*heads, lines[0]["objective"], lines[0]["measure"]]
        reference = lines[0]["against"]
        alone = ["reference", "-", "-", "-", _share(best.get((*cell, reference))), "-", "-"]
        rows.append([reference, *shared, *alone])
        for line in lines:
            title = f"{line['method']}{' (own masking)' if line['own_masking'] else ''}"
            rows.append(
                [
                    title,
                    *shared,
                    interval(line, "difference", "+.3f"),
                    f"{line['better']}/{line['worse']}",
                    "<.0001" if line["p_holm"] < 1e-4 else number(line["p_holm"], ".4f"),
                    number(line["cohens_dz"], "+.2f"),
                    _share(best.get((*cell, line["method"]))),
                    "-" if line["more_images"] is None else f"{line['more_images']:,}",
                    f"{line['n']}",
                ]
            )
    heads = ["method", *(HEADS[c] for c in several), "objective", "measure", "difference"]
    heads += ["better/worse", "p (Holm)", "dz", "P(best)", "more images", "images"]
    return Table(heads, rows, title="image by image, against the reference") if rows else None


def phases(found: Aggregate) -> Table | None:
    """What an exact method would say of all images on which a cheap one ran, and what it says of
    its own by itself."""
    rows = []
    for row in found.compared.two_phase:
        title = row["exact"] if row["against"] is None else f"{row['exact']} - {row['against']}"
        rows.append(
            [
                *(title, row["cheap"], row["objective"], row["measure"]),
                interval(row | {"mean_low": row["low"], "mean_high": row["high"]}, "mean"),
                interval(row, "alone"),
                *(f"{row['n']}", f"{row['n'] + row['others']}"),
            ]
        )
    heads = ["exact", "cheap", "objective", "measure", "of all images", "of its own alone"]
    return Table([*heads, "exact on", "images"], rows, title="two phases") if rows else None


def _share(probability: float | None) -> str:
    return "-" if probability is None else number(probability, ".3f")


def sources(summaries: Sequence[Summary]) -> str:
    """Where published numbers stand, in a line; whose, where there are several places."""
    found: dict[str, list[str]] = {}
    for s in summaries:
        if source := s.get("published_source"):
            found.setdefault(source, []).append(s["title"])
    if len(found) < 2:
        return "".join(found)
    return "; ".join(f"{source} ({', '.join(dict.fromkeys(t))})" for source, t in found.items())


def every(found: Aggregate) -> dict[str, Table]:
    """All tables by name: one a measure, highest confidence, those of papers."""
    named = measures([group.summary for group in found.groups])
    if table := confidence(found):
        named["highest_confidence"] = table
    if table := versus(found):
        named["comparisons"] = table
    if table := phases(found):
        named["two_phase"] = table
    return named | {slug(table.title.partition(";")[0]): table for table in found.papers}


def text(found: Aggregate) -> str:
    """All of it for the terminal."""
    said = [table.text() for table in every(found).values()]
    if where := sources([group.summary for group in found.groups]):
        said.append(f"published: {where}")
    return "\n\n".join(said)


def _printed(summaries: Sequence[Summary]) -> bool:
    return any("published_auc_probability" in s for s in summaries)


def _beside(summary: Summary, name: str) -> str:
    """What a paper prints of a column, to four places as papers do, or a dash."""
    return number(summary.get(f"published_{name}", float("nan")), ".4f")
