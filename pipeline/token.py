"""Ray's token opens a cluster to whoever knows it: where it lies, and that its file is private."""

import os
from contextlib import suppress
from pathlib import Path


def place() -> Path:
    """The file that holds it, there or not."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def find() -> str | None:
    """The token of RAY_AUTH_TOKEN, else of its file; None where there is none."""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    with suppress(OSError):
        return place().read_text().strip() or None
    return None


def protect() -> None:
    """Take others' rights from the file, where there is one: Ray lets all read it."""
    path = place()
    with suppress(OSError):  # none, or somebody else's, whose affair it is
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
