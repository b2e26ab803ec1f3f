"""What both Kubernetes back ends ask of kubectl."""

import json
import subprocess
from typing import Any

from pipeline import RunError, UsageError


def kubectl(namespace: str, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints. Raises RunError with the API server's words where it refuses."""
    command = ["kubectl", f"--namespace={namespace}", *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError(
            "there is no kubectl here: install it, or print the manifest with --dry-run"
        ) from None
    if done.returncode:
        raise RunError(f"kubectl {arguments[0]}: {' '.join(done.stderr.split())}")
    return done.stdout


def tried(namespace: str, manifest: str) -> None:
    """Have the API server look at a manifest, and keep nothing. Raises UsageError if it refuses."""
    try:
        kubectl(namespace, "apply", "--dry-run=server", "--filename=-", stdin=manifest)
    except RunError as error:
        hint = "; is KubeRay installed?" if "no matches for kind" in str(error) else ""
        raise UsageError(f"{error}{hint}") from None


def found(namespace: str, kind: str, name: str) -> dict[str, Any] | None:
    """An object of the API server; None where there is none of that name."""
    said = kubectl(namespace, "get", kind, name, "--output=json", "--ignore-not-found")
    return json.loads(said) if said.strip() else None
