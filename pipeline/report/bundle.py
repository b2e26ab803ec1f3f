"""The page's scripts and styles: modules of `app/` as one script, uPlot with its licence."""

import re
from functools import cache
from pathlib import Path

APP, ASSETS = Path(__file__).with_name("app"), Path(__file__).with_name("assets")
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([a-z_]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|const) (\w+))", re.MULTILINE)


@cache
def script(entry: str = "main") -> str:
    """`app/<entry>.js` and every module that it imports, each in a scope of its own, imported ones
    first."""
    found: dict[str, str] = {}
    _gather(entry, found)
    return '"use strict";\n(() => {\n' + "\n".join(found.values()) + "\n})();\n"


@cache
def uplot() -> tuple[str, str]:
    """uPlot's script, its licence before it, and its style sheet."""
    licence = (ASSETS / "uPlot.LICENSE.txt").read_text().strip()
    code = (ASSETS / "uPlot.iife.min.js").read_text()
    return f"/*!\n{licence}\n*/\n{code}", (ASSETS / "uPlot.min.css").read_text()


def style() -> str:
    """The page's own style sheet."""
    return (APP / "theme.css").read_text()


def _gather(name: str, found: dict[str, str]) -> None:
    if name in found:
        return
    code = (APP / f"{name}.js").read_text()
    for _, other in _IMPORT.findall(code):
        _gather(other, found)
    names = ", ".join(exported for _, exported in _EXPORT.findall(code))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = module_\2;", code))
    found[name] = f"const module_{name} = (() => {{\n{body}return {{ {names} }};\n}})();"
