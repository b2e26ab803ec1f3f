"""Components by the names that configuration files give them, without Hydra."""

from pathlib import Path
from typing import Any

import yaml

from pipeline import UsageError
from pipeline.components import component

CONF = Path(__file__).resolve().parent.parent.parent / "conf"


def preset(group: str, name: str) -> Any:
    """The component of conf/<group>/<name>.yaml, None where there is no such file."""
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        return None
    node = yaml.safe_load(path.read_text())
    return component(node if "_target_" in node else node[name])


def chosen(group: str, given: Any) -> Any:
    """`given` itself, or the component that it names. Raises UsageError for an unknown name."""
    if not isinstance(given, str):
        return given
    found = preset(group, given)
    if found is None:
        known = ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
        raise UsageError(f"{group}={given!r} does not exist: choose from {known}")
    return found
