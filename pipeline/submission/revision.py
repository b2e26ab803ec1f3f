"""Which code a submission is of: git's revision, and what differs from it."""

import hashlib
import subprocess
from pathlib import Path


def revision(folder: Path) -> dict[str, str]:
    """The commit that is checked out in a folder, whether files differ from it, and a hash of how;
    nothing where there is no git to ask."""
    commit = git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    state = git(folder, "status", "--porcelain") or b""
    found = {"revision": commit.decode().strip(), "dirty": "true" if state else "false"}
    if state:
        changes = state + (git(folder, "diff", "HEAD") or b"")
        found["changes"] = hashlib.sha256(changes).hexdigest()[:12]
    return found


def git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it is missing or refuses, as outside of a repository."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
