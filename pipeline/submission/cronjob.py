"""Kubernetes' own clock: a CronJob that runs a job in one pod, never two at once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pipeline import RunError
from pipeline.submission import Job, Say, State, rendered
from pipeline.submission.kubectl import found, kubectl, tried
from pipeline.submission.kuberay import grace_s


@dataclass(frozen=True, kw_only=True)
class CronJob:
    """Applies a manifest with kubectl; the image holds the code, Ray is embedded."""

    schedule: str
    zone: str
    image: str
    namespace: str
    gpus: int
    cpus: int
    memory: str
    claim: str | None
    secret: str | None
    node_selector: Mapping[str, str]
    deadline_s: int

    remote: ClassVar[bool] = True
    standing: ClassVar[bool] = True

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """None."""
        return []

    def preview(self, job: Job, id: str) -> str:
        """The manifest."""
        return rendered(
            "cronjob.yaml.j2",
            **asdict(self),
            id=id,
            arguments=[f"jobs.{job.name}", *job.overrides],
            metadata=job.metadata,
            grace_s=grace_s(job),
        )

    def check(self, job: Job, say: Say) -> None:
        """What the API server says of the manifest."""
        tried(self.namespace, self.preview(job, job.name))

    def start(self, job: Job, id: str) -> None:
        """By kubectl apply: what is scheduled under the same name is replaced."""
        kubectl(self.namespace, "apply", "--filename=-", stdin=self.preview(job, id))

    def look(self, id: str) -> State | None:
        """Whether it is scheduled, and when it last ran."""
        order = found(self.namespace, "cronjob", id)
        if order is None:
            return None
        last = order.get("status", {}).get("lastSuccessfulTime")
        return State(phase="scheduled", message=f"last success {last}" if last else "")

    def log(self, id: str) -> str:
        """Of the pods that are kept."""
        label = f"--selector=app.kubernetes.io/instance={id}"
        return kubectl(self.namespace, "logs", label, "--tail=-1", "--prefix", "--ignore-errors")

    def stop(self, id: str) -> None:
        """Remove it; a run that is under way ends."""
        if found(self.namespace, "cronjob", id) is None:
            raise RunError(f"{id}: there is no such CronJob in {self.namespace}")
        kubectl(self.namespace, "delete", "cronjob", id)
