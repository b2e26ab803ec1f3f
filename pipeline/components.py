"""Settings to objects: the one place that imports what a `_target_` names.

A whole tree of settings is checked before anything is imported, whether it comes from a command or
from the metadata of a Parquet file: a `_target_` names a class of this project or of a package that
the command in hand allows (`plugins`), and no other callable can be reached through one of those.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pipeline import UsageError

_PUBLIC = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)  # no __main__, nothing private
_REFUSED = ("_args_", "_partial_", "_recursive_", "_convert_")  # what else Hydra would act upon
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_WORDS |= {NoneType: "null", list: "a list", dict: "a mapping"}


def component(node: Mapping[str, Any], name: str = "", allowed: Sequence[str] = ()) -> Any:
    """The object that `_target_` and the arguments beside it describe, nested ones included.

    `name` is where `node` stands in the settings, for messages; `allowed` are the packages besides
    this one whose classes may be named. Raises UsageError for whatever cannot be built.
    """
    check_targets(node, allowed, name)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UsageError(f"{name or 'component'}: no _target_ says what it is; choose one by name")
    return _built(node, name, allowed)


def check_targets(tree: Any, allowed: Sequence[str] = (), name: str = "") -> None:
    """Refuse a tree of settings that names anything but public classes of allowed packages.

    Imports nothing. Raises UsageError at the first offence.
    """
    if isinstance(tree, list | tuple):
        for place, value in enumerate(tree):
            check_targets(value, allowed, _join(name, place))
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        where = _join(name, key)
        if key in _REFUSED:
            raise UsageError(f"{where}: only _target_ and constructor arguments count; remove it")
        if key != "_target_":
            check_targets(value, allowed, where)
        elif not isinstance(value, str) or not _PUBLIC.fullmatch(value):
            raise UsageError(f"{where}={value!r}: give a class as package.module.Class")
        elif not _belongs(value, allowed):
            raise UsageError(
                f"{where}: {value} is not part of pipeline; only its classes may be named, and "
                f"those of plugins={list(allowed)}"
            )


def check_plugins(names: Sequence[str]) -> None:
    """Refuse packages that are not there, without importing them."""
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"plugins: {name!r} is no package; give top-level names, no dots")
        if find_spec(name) is None:
            raise UsageError(
                f"plugins: {name} is not installed; pip install it, or name its folder in "
                "PYTHONPATH"
            )


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def suggestion(name: str, known: Sequence[str]) -> str:
    """What may have been meant, as the end of a sentence."""
    close = get_close_matches(name, known, 3, 0.5) or sorted(known)
    return f"use one of {', '.join(close)}" if close else "there are none"


def _built(node: Any, name: str, allowed: Sequence[str]) -> Any:
    if isinstance(node, list | tuple):
        return [_built(value, _join(name, place), allowed) for place, value in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    arguments = {
        key: _built(value, _join(name, key), allowed)
        for key, value in node.items()
        if key != "_target_"
    }
    if "_target_" not in node:
        return arguments
    made = _class(node["_target_"], name, allowed)
    _check_arguments(made, arguments, name)
    try:
        return made(**arguments)
    except UsageError as error:
        raise UsageError(_placed(str(error), arguments, name)) from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name or node['_target_']}: {one_line(error)}") from error


def _placed(said: str, arguments: Mapping[str, Any], name: str) -> str:
    """An object does not know where it stands: the setting that it names, by its whole key."""
    found = re.match(r"(?:\w+\.)*(\w+)(?=[=:])", said)
    if not name or found is None or found[1] not in arguments:
        return said
    return _join(name, found[1]) + said[found.end() :]


def _class(target: str, name: str, allowed: Sequence[str]) -> type:
    """The class of an allowed package that is found in one of its modules."""
    where = _join(name, "_target_")
    place, _, attribute = target.rpartition(".")
    try:
        module = import_module(place)
    except ImportError as error:
        raise UsageError(f"{where}: {target} cannot be imported: {one_line(error)}") from error
    found = getattr(module, attribute, None)
    if found is None:
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        own = [n for n in classes if vars(module)[n].__module__ == place]
        raise UsageError(f"{where}: {place} has no {attribute}; {suggestion(attribute, own)}")
    if not isinstance(found, type) or not _belongs(found.__module__, allowed):
        raise UsageError(
            f"{where}: {target} is no class of {target.split('.')[0]}; only those may be named"
        )
    return found


def _check_arguments(made: type, arguments: Mapping[str, Any], name: str) -> None:
    """Names and plain types of constructor arguments."""
    known = inspect.signature(made).parameters
    for key in arguments:
        if key not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            raise UsageError(
                f"{_join(name, key)}: {made.__name__} has no such setting; "
                f"{suggestion(key, list(known))}"
            )
    for key, parameter in known.items():
        where = _join(name or made.__name__, key)
        if key in arguments:
            _check_value(arguments[key], parameter.annotation, where)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise UsageError(f"{where} is not set: {made.__name__} needs it")


def _check_value(value: Any, annotation: Any, where: str) -> None:
    """Refuse a value of another type than annotated; what is no plain type passes."""
    union = get_origin(annotation) in (Union, UnionType)
    options = get_args(annotation) if union else (annotation,)
    if any(_fits(value, option) for option in options):
        return
    hint = ""
    if str in options and not isinstance(value, list | dict | NoneType):
        hint = f", quoted twice: '{where}=\"{value}\"'"
    said = " or ".join(_word(option) for option in options)
    raise UsageError(f"{where}={value!r}: give {said}{hint}")


def _fits(value: Any, option: Any) -> bool:
    plain = get_origin(option) or option
    if plain is Literal:
        return value in get_args(option)
    if plain is float:
        return type(value) in (int, float)
    return type(value) is plain if plain in _WORDS else True


def _word(option: Any) -> str:
    if get_origin(option) is Literal:
        return f"one of {', '.join(map(str, get_args(option)))}"
    return _WORDS[get_origin(option) or option]


def _belongs(path: str, allowed: Sequence[str]) -> bool:
    return path.split(".")[0] in ("pipeline", *allowed)


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
