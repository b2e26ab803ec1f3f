"""Credentials are not written down: whatever a run records or prints goes through `redacted`.

They come in URLs (user:password@, signatures), in settings called so, and from the environment,
where a variable's name tells.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 8
"""Characters of an environment's value from which it is looked for; shorter ones are words."""

_NAME = (
    r"(?:secret|password|passwd|token|credentials?|signature|api[_-]?key|access[_-]?key(?:[_-]?id)?"
    r"|private[_-]?key|account[_-]?key|connection[_-]?string)"
)
_NAMED = re.compile(rf"(?:^|[._-]){_NAME}$", re.IGNORECASE)
_USER = re.compile(r"(?<=://)(?:[^\s/@:'\"\[]*:(?!\d+/)[^\s@'\"]*|[^\s/@:'\"]{16,})@")
_VALUE = re.compile(rf"((?:{_NAME}|[?&]sig)['\"]?=['\"]?)[^\s&;,'\"\])}}]+", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """The same text, mapping or list, nested ones too, with *** in place of what is secret."""
    return _redacted(value, _of_environment())


def guard_output() -> None:
    """From here on nothing secret is printed by this process, nor logged to its output."""
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), Guarded):
            setattr(sys, name, Guarded(stream))


class Guarded:
    """A text stream like another, behind `redacted`."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what may be seen of it; the length that was given counts as written."""
        self._stream.write(redacted(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Each of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        text = _VALUE.sub(rf"\g<1>{HIDDEN}", _USER.sub(f"{HIDDEN}@", value))
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return text
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _named(key) and one and isinstance(one, str) else _redacted(one, secrets)
            for key, one in value.items()
        }
    return [_redacted(one, secrets) for one in value] if isinstance(value, list | tuple) else value


def _named(key: Any) -> bool:
    return isinstance(key, str) and _NAMED.search(key) is not None


def _of_environment() -> list[str]:
    """Values of variables that are called secret, longest first, as they are and as in a URL."""
    found = {v for k, v in os.environ.items() if _named(k) and len(v) >= SHORTEST}
    return sorted(found | {quote(v, safe="") for v in found}, key=len, reverse=True)
