"""Which orders of a run are meant by settings that judge them on another model.

Data set, players, masking, target and methods are the same; the model, what judges and how it is
computed may be others. Components are compared by what they are, not by what files call them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.build import dataset, target
from pipeline.components import component
from pipeline.data.shards import Shards
from pipeline.identity import content
from pipeline.rows import RunDir, parts
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.transfer import GEOMETRY

CHOICE = ("run", "model", "weights", "fingerprints")
"""What says which orders are meant, where a run holds several."""
FOUND = ("preprocessing",)
COLUMNS = ("fingerprint", "order_fingerprint", "model", "weights", "order_model", "order_weights")


class Origin(NamedTuple):
    """The model that orders are of; `geometry`: what it sees of an image, as JSON."""

    model: str
    weights: str
    geometry: str

    def __str__(self) -> str:
        size = "x".join(map(str, json.loads(self.geometry)["input_size"] or ()))
        return f"{self.model} ({self.weights}, input {size})"


class Order(NamedTuple):
    """The address of a method's orders, and whose they are."""

    fingerprint: str
    origin: Origin


class Asked(NamedTuple):
    """What an order depends on besides the model: in common, and by method."""

    common: dict[str, Any]
    methods: dict[str, Any]

    @classmethod
    def by(cls, settings: Mapping[str, Any], data: Shards, plugins: Sequence[str]) -> "Asked":
        """Of a run's settings; classes are named, on `data`, as those of ours are."""
        methods = settings.get("methods", {})
        common = {
            "dataset": {name: settings["dataset"].get(name) for name in ("name", "label", "exif")},
            "target": _target(str(settings.get("target")), data),
            "players": _content(settings.get("players"), plugins),
            "masking": _content(settings.get("masking"), plugins),
        }
        return cls(common, {name: _content(methods[name], plugins) for name in methods})


class Way(NamedTuple):
    """One way that some parts were made, by their metadata."""

    made: Mapping[str, Any]
    parts: list[str]
    asked: Asked


def located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose `orders`, a run directory, is a mapping of all that there is to know: the run,
    the model that its orders are of, GEOMETRY of that, and the orders' addresses by method. Such a
    mapping, or one of CHOICE, is looked up again.

    Raises UsageError where the run holds no order of a method, or several; says what differs.
    """
    given = settings.get("orders")
    if not given or not settings["methods"]:
        return dict(settings)
    asked = {"run": given} if isinstance(given, str) else dict(given)
    if not asked.get("run") or set(asked) - {*CHOICE, *FOUND}:
        raise UsageError(
            f"orders={given}: give a run directory, or {{run: <directory>, model: <name>}} where "
            "it holds orders of several models"
        )
    plugins = settings.get("plugins", ())
    data, run = dataset(settings), RunDir(asked["run"], CURVES)
    mine, ways = Asked.by(settings, data, plugins), _ways(run, data, plugins)
    orders = {name: _orders(name, mine, ways, run, asked) for name in settings["methods"]}
    origins = {origin for found in orders.values() for _, origin in found}
    if len(origins) > 1:
        raise UsageError(
            f"orders={run.out}: its orders are of several models, {_listed(origins)}; choose one: "
            f"orders={{run: {run.out}, model: <name>, weights: <hash>}}"
        )
    for name, found in orders.items():
        if len(found) > 1:
            raise UsageError(
                f"orders={run.out}: its orders of {name} were made with several precisions or "
                f"releases, as order_fingerprint tells: {_listed({order for order, _ in found})}; "
                f"choose: orders={{run: {run.out}, fingerprints: {{{name}: <one of these>}}}}"
            )
    (origin,) = origins
    known = {
        "run": run.out,
        "model": origin.model,
        "weights": origin.weights,
        "preprocessing": json.loads(origin.geometry),
        "fingerprints": {name: found[0][0] for name, found in orders.items()},
    }
    return dict(settings) | {"orders": known}


def _ways(run: RunDir, data: Shards, plugins: Sequence[str]) -> list[Way]:
    """How a run's parts were made, each way once. Reads footers."""
    names = run.sealed()
    ways: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    found = run.look(lambda path: parts.metadata(run.fs, path), names)
    for name, made in zip(names, found, strict=True):
        if made.get("config") and made.get("fingerprints"):
            ways.setdefault(json.dumps(made, sort_keys=True), (made, []))[1].append(name)
    if not ways:
        raise UsageError(f"orders={run.out}: no results there; run {CURVES.job} first")
    return [
        Way(made, names, Asked.by(made["config"], data, plugins)) for made, names in ways.values()
    ]


def _orders(
    name: str, mine: Asked, ways: Sequence[Way], run: RunDir, asked: Mapping[str, Any]
) -> list[Order]:
    """A method's orders that fit, of the model that is asked for."""
    fitting, differing, named = defaultdict[str, list[Way]](list), list[list[str]](), set[str]()
    for way in ways:
        common = list(_differences("", way.asked.common, mine.common))
        for other, fingerprint in way.made["fingerprints"].items():
            theirs = way.asked.methods.get(other)
            apart = common + list(_differences(f"methods.{name}", theirs, mine.methods[name]))
            named.add(other)
            if not apart:
                fitting[fingerprint].append(way)
            elif other == name:
                differing.append(apart)
    orders = {_order(run, made_so, fingerprint) for fingerprint, made_so in fitting.items()}
    there = sorted(order for order in orders if order is not None)
    if not there:
        said = f"no orders of {name} there; it holds those of {', '.join(sorted(named))}"
        if fitting:
            said = f"its orders of {name} were made before they had addresses; compute them anew"
        elif differing:
            said = f"its orders of {name} do not fit: {'; '.join(min(differing, key=len))}"
        raise UsageError(f"orders={run.out}: {said}")
    print_ = asked.get("fingerprints", {}).get(name)
    fits = [
        order
        for order in there
        if print_ in (None, order.fingerprint)
        and all(asked.get(k) in (None, getattr(order.origin, k)) for k in ("model", "weights"))
    ]
    if not fits:
        choice = {key: asked[key] for key in CHOICE if asked.get(key)}
        raise UsageError(
            f"orders={choice}: the orders of {name} there are of "
            f"{_listed({order.origin for order in there})}"
        )
    return fits


def _order(run: RunDir, ways: Sequence[Way], fingerprint: str) -> Order | None:
    """The order of rows with a fingerprint; None where they do not say. A way may name rows that
    none of its parts holds, so parts of all are looked at in turn."""
    for names in zip_longest(*(way.parts for way in ways)):
        for way, name in zip(ways, names, strict=True):
            row = None if name is None else _row(run, name, fingerprint)
            if row is not None and row["order_fingerprint"] is None:
                return None
            if row is not None:
                # rows that were judged on another model themselves say whose order it is
                lent = way.made["config"].get("orders") or {}
                seen = lent.get("preprocessing") or way.made["preprocessing"]
                geometry = json.dumps({key: seen.get(key) for key in GEOMETRY}, sort_keys=True)
                model, weights = (str(row[f"order_{c}"] or row[c]) for c in ("model", "weights"))
                return Order(row["order_fingerprint"], Origin(model, weights, geometry))
    return None


def _row(run: RunDir, part: str, fingerprint: str) -> dict[str, Any] | None:
    """The first row of a part with this fingerprint, if any; just COLUMNS."""
    (table,) = run.each(COLUMNS, lambda _, table: table, [part])
    mine = table.filter(pc.equal(table["fingerprint"], fingerprint))
    return next(iter(mine.slice(0, 1).to_pylist()), None)


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """What differs between two trees of plain values, by dotted name."""
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        if there != here:
            yield f"{name} is {there} there, {here} here"
    elif there.get("class") != here.get("class"):
        kinds = (str(one.get("class")).rpartition(".")[2] for one in (there, here))
        yield "{} is {} there, {} here".format(name, *kinds)
    else:
        for key in dict.fromkeys((*here, *there)):
            yield from _differences(f"{name}.{key}" if name else key, there.get(key), here.get(key))


def _content(node: Any, plugins: Sequence[str]) -> Any:
    """What a component is; its settings where it can be built no more."""
    try:
        return content(component(node, allowed=plugins))
    except UsageError:
        return node


def _target(given: str, data: Shards) -> Any:
    try:
        return target({"target": given}, data)
    except UsageError:
        return given


def _listed(found: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, found)))
