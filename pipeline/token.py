"""The file with Ray's token, which opens a cluster to whoever reads it, is its owner's alone."""

import os
from contextlib import suppress
from pathlib import Path


def protect() -> None:
    """Take others' rights from the file, where there is one: Ray lets all read it."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    with suppress(OSError):  # none, or somebody else's, whose affair it is
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
