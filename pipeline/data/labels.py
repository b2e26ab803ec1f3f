"""The class index that a label member states, or why it states none."""

import json
import re

MOST = 2**31 - 1
"""Rows hold labels as signed integers of 32 bits."""


def parse_label(raw: bytes, where: str) -> int:
    """A class index from a member's bytes; `where`: `cls`, or `json.<field>`.

    Plain decimal integers from -1 to MOST. Raises ValueError that names what was found.
    """
    field = where.partition(".")[2]
    if field:
        value = _field(raw, where, field)
    else:
        text = raw.strip()
        if not re.fullmatch(rb"-?[0-9]{1,20}", text):
            raise ValueError(_said(where, text[:40].decode(errors="replace"), "no plain integer"))
        value = int(text)
    if not -1 <= value <= MOST:
        raise ValueError(_said(where, str(value), f"not within -1 to {MOST}"))
    return value


def _field(raw: bytes, where: str, field: str) -> int:
    try:
        held = json.loads(raw)
    except (ValueError, RecursionError) as error:
        shown = raw[:40].decode(errors="replace")
        raise ValueError(_said(where, shown, f"no JSON: {error}")) from None
    if not isinstance(held, dict):
        raise ValueError(_said(where, str(held)[:40], "no JSON object"))
    if field not in held:
        fields = ", ".join(list(held)[:20]) or "none"
        raise ValueError(f"label {where!r}: no field {field!r}; the fields there are: {fields}")
    value = held[field]
    if type(value) is not int:  # bool is an int to isinstance
        raise ValueError(_said(where, repr(value)[:40], "no plain integer"))
    return value


def _said(where: str, found: str, why: str) -> str:
    return f"label member {where!r} holds no class index: {found!r} ({why})"
