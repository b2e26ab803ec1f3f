"""The shortest titles that tell a run's groups apart, the same wherever groups are shown.

A title is the method, then every label that varies among the groups. Groups that labels leave alike
get settings that differ in how they were made (`players.grid=2`), or at last their fingerprint.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report import Name

Key = Mapping[str, Any]
"""Labels and fingerprint of a group."""

HEADS = {
    "dataset": "data set",
    "model": "model",
    "players": "players",
    "masking": "masking",
    "curve_masking": "judged under",
    "judge": "judge",
    "order_model": "order of",
}
"""Labels that titles may need besides the method, as tables call them."""
FIRST = ("players", "masking", "curve_masking", "judge", "model", "target")
ELSEWHERE = (
    *(
        *FIRST,
        "methods",
        "engine",
        "dataset",
        "names",
        "out",
        "cluster",
        "tracking",
        "published",
        "table",
    ),
)
"""Settings that are asked for by name, or that do not say how rows were made."""


def names(keys: Sequence[Key], provenance: Sequence[Mapping[str, Any]]) -> dict[str, Name]:
    """Names by fingerprint; `provenance`: what the run's parts say of how they were made."""
    made = {f: entry for entry in provenance for f in entry.get("fingerprints", {}).values()}
    groups = {key["fingerprint"]: key for key in keys}
    settings = [_settings(key, made.get(f, {})) for f, key in groups.items()]
    columns = varied(keys)
    labels = [_labels(key, columns) for key in groups.values()]
    heads = [(key["method"], *said) for key, said in zip(groups.values(), labels, strict=True)]
    models = [(str(key.get("model")),) for key in groups.values()]
    of_models = [
        {place: text for place, text in one.items() if place[1].startswith(("model", "weights"))}
        for one in settings
    ]
    found = zip(
        groups.items(),
        labels,
        _differences(heads, settings),
        _differences(models, of_models),
        strict=True,
    )
    return {
        fingerprint: Name(
            method=key["method"],
            variant=", ".join((*said, *more)),
            model=f"{key.get('model')}" + (f" ({', '.join(model)})" if model else ""),
        )
        for (fingerprint, key), said, more, model in found
    }


def varied(keys: Sequence[Key]) -> list[str]:
    """Labels that differ among groups; the judging masking only where it is not always the own."""
    found = [column for column in HEADS if len({key.get(column) for key in keys}) > 1]
    if all(key.get("curve_masking") == key.get("masking") for key in keys):
        found = [column for column in found if column != "curve_masking"]
    return found


def _labels(key: Key, columns: Sequence[str]) -> list[str]:
    told = [(column, key[column]) for column in columns if key.get(column) is not None]
    said = {name: f"{HEADS[name]} " for name in ("curve_masking", "order_model")}
    return [f"{said.get(column, '')}{value}" for column, value in told]


def _differences(
    heads: Sequence[tuple[str, ...]], settings: Sequence[Mapping[tuple[int, str], str]]
) -> list[list[str]]:
    """For each head what tells it from equal heads: the first settings that do, no more of them."""
    found: list[list[str]] = [[] for _ in heads]
    for head in dict.fromkeys(heads):
        alike = [i for i, other in enumerate(heads) if other == head]
        for place in sorted(
            {place: None for i in alike for place in settings[i]}, key=lambda p: p[0]
        ):
            texts = {i: settings[i].get(place) for i in alike}
            apart = len({tuple(found[i]) for i in alike})
            if len({(*found[i], text) for i, text in texts.items()}) > apart:
                for i, text in texts.items():
                    found[i] += [] if text is None else [f"{place[1]}={text}" if place[1] else text]
    return found


def _settings(key: Key, made: Mapping[str, Any]) -> dict[tuple[int, str], str]:
    """Leaves of a group's provenance by (rank, name), likely causes before their consequences."""
    config, prints = made.get("config", {}), made.get("fingerprints", {})
    method = next((m for m, f in prints.items() if f == key["fingerprint"]), key["method"])
    data = config.get("dataset", {})
    ranked = [
        ("", config.get("methods", {}).get(method)),
        *((name, config.get(name)) for name in FIRST),
        ("engine.precision", config.get("engine", {}).get("precision")),
        ("", {name: node for name, node in config.items() if name not in ELSEWHERE}),
        ("dataset", {name: data.get(name) for name in ("label", "exif")}),
        ("preprocessing", made.get("preprocessing")),
        ("weights", (key.get("weights") or made.get("weights_hash") or "")[:8] or None),
        ("schema_version", made.get("schema_version")),
        ("", key["fingerprint"][:8]),
    ]
    return {
        (rank, name): text
        for rank, (prefix, node) in enumerate(ranked)
        for name, text in _leaves(prefix, node)
    }


def _leaves(name: str, node: Any) -> Iterator[tuple[str, str]]:
    """Dotted names and short values; a component's class goes by the component's name."""
    if isinstance(node, Mapping):
        for inner, value in node.items():
            if inner == "_target_":
                yield name or "method", str(value).rpartition(".")[2]
            else:
                yield from _leaves(f"{name}.{inner}" if name else inner, value)
    elif node is not None:
        text = node if isinstance(node, str) else json.dumps(node)
        yield name, text if len(text) <= 32 else f"…{text[-31:]}"
