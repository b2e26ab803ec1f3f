"""KubeRay: a RayJob, which brings its own cluster up, runs one job on it and takes it down."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, ClassVar

from pipeline.submission import Job, Say, State, cluster_of, rendered
from pipeline.submission.kubectl import found, kubectl, tried

PHASES = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
    "RUNNING": "running",
}


@dataclass(frozen=True, kw_only=True)
class KubeRay:
    """Applies a manifest with kubectl; the image holds the code."""

    image: str
    namespace: str
    min_workers: int
    max_workers: int
    gpus: int
    cpus: int
    memory: str
    queue: str | None
    claim: str | None
    secret: str | None
    node_selector: Mapping[str, str]
    keep_s: int
    deadline_s: int | None

    remote: ClassVar[bool] = True
    standing: ClassVar[bool] = False

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """The driver joins its cluster, and asks for all the workers that this may grow to."""
        cluster, added = cluster_of(settings), list[str]()
        if cluster is None:
            return []
        if cluster["address"] is None:
            added.append("cluster.address=auto")
        if cluster["actors"] is None:
            each = self.gpus / cluster["gpus_per_actor"] if self.gpus else None
            each = self.cpus // cluster["threads"] if each is None else each
            added.append(f"cluster.actors={max(1, int(each * self.max_workers))}")
        return added

    def preview(self, job: Job, id: str) -> str:
        """The manifest."""
        return rendered(
            "rayjob.yaml.j2",
            **asdict(self),
            id=id,
            command=shlex.join(job.command()),
            metadata=job.metadata,
            grace_s=grace_s(job),
            ray=version("ray"),
        )

    def check(self, job: Job, say: Say) -> None:
        """What the API server says of the manifest."""
        tried(self.namespace, self.preview(job, job.id))

    def start(self, job: Job, id: str) -> None:
        """By kubectl create."""
        kubectl(self.namespace, "create", "--filename=-", stdin=self.preview(job, id))

    def look(self, id: str) -> State | None:
        """By the status that the operator keeps."""
        job = found(self.namespace, "rayjob", id)
        return None if job is None else state(job)

    def log(self, id: str) -> str:
        """Of the pod that submits, which follows the driver's."""
        return kubectl(
            self.namespace, "logs", f"--selector=job-name={id}", "--tail=-1", "--ignore-errors"
        )

    def stop(self, id: str) -> None:
        """Suspend it: its cluster goes, pods are given the job's grace."""
        patch = '{"spec": {"suspend": true}}'
        kubectl(self.namespace, "patch", "rayjob", id, "--type=merge", f"--patch={patch}")


def state(job: Mapping[str, Any]) -> State:
    """What a RayJob's status says. The driver's exit status is in its message alone."""
    told = job.get("status", {})
    stage, phase = told.get("jobDeploymentStatus", ""), told.get("jobStatus", "")
    message = " ".join(told.get("message", "").split(", last available logs")[0].split())
    code = re.search(r"exit code (-?\d+)", message)
    if stage == "Suspended" and job.get("spec", {}).get("suspend"):
        return State(phase="stopped", message="suspended")
    if stage == "Failed" and phase != "STOPPED":
        message = ": ".join(filter(None, [told.get("reason", ""), message]))
        return State(phase="failed", code=int(code[1]) if code else None, message=message)
    return State(
        phase=PHASES.get(phase, "pending"),
        code=0 if phase == "SUCCEEDED" else int(code[1]) if code and phase == "FAILED" else None,
        message=message if phase == "FAILED" else "",
    )


def grace_s(job: Job) -> int:
    """Seconds that a pod of the job is given to finish what is under way."""
    return int(job.settings.get("cluster", {}).get("grace_s", 0)) + 30
