"""The job server of a running Ray cluster: its dashboard, by the documented REST interface."""

import json
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

from pipeline import RunError, UsageError
from pipeline.redaction import redacted
from pipeline.submission import Job, Say, State, cluster_of
from pipeline.submission.package import Package, lacking, packed
from pipeline.submission.server import Server
from pipeline.workers.cluster import plan

GRACE_S = 15
"""Seconds that stopping may take beyond the job's own cluster.grace_s."""
NO_AGENT, WAITS_S = "No available agent", (2, 4, 8, 15, 30)
"""What a server says whose nodes have only just started, and how long they are waited for."""


@dataclass(frozen=True, kw_only=True)
class RayJobs:
    """Submits to the dashboard at `address`. Raises UsageError for what is no such URL."""

    address: str
    working_dir: str | None
    include: Sequence[str]
    most_mb: float
    gpus: int
    growing: bool
    pip: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)

    remote: ClassVar[bool] = True
    standing: ClassVar[bool] = False

    def __post_init__(self):
        Server(self.address)

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """The driver joins the cluster that it runs on."""
        cluster = cluster_of(settings)
        return ["cluster.address=auto"] if cluster and cluster["address"] is None else []

    def preview(self, job: Job, id: str) -> str:
        """The package and the request."""
        said = [self._package.text()] if self._package else []
        body = json.dumps(redacted(self._request(job, id)), indent=2)
        return "\n".join([*said, f"POST {self._server.url('/api/jobs/')}", body])

    def check(self, job: Job, say: Say) -> None:
        """Whether the server answers, has what the job needs, and gets what the job reads."""
        if self._package:
            say(self._package.text())
            if unsent := list(lacking(job.settings, self._package)):
                raise UsageError(
                    f"{'; '.join(unsent)}: the cluster will not find it; put it where all nodes "
                    "see it (a URL, an absolute path), or name it in submit.include"
                )
        lacks, notes = self._compared(cluster_of(job.settings))
        if self.address.startswith("http://") and not self._server.local:
            notes.append("is not encrypted: who listens gets the token; use https, or ssh -L")
        for note in [*notes, *(lacks if self.growing else [])]:
            say(f"note: {self.address} {note}")
        if lacks and not self.growing:
            raise UsageError(
                f"{self.address} {'; '.join(lacks)}; submit.growing=true if it starts nodes on "
                "demand"
            )

    def start(self, job: Job, id: str) -> None:
        """Upload the package unless the server holds it, and send the request."""
        if package := self._package:
            place = f"/api/packages/gcs/{package.name}"
            if not self._server.holds(place):
                self._server.ask("PUT", place, data=package.content)
        request = self._request(job, id)
        for wait in (*WAITS_S, None):
            try:
                self._server.ask("POST", "/api/jobs/", json=request)
                return
            except RunError as error:
                if wait is None or NO_AGENT not in str(error):
                    raise
            time.sleep(wait)

    def look(self, id: str) -> State | None:
        """The server's word, and the exit status of the driver itself."""
        found = self._server.find(f"/api/jobs/{id}")
        if found is None:
            return None
        phase = found["status"].lower()
        # which goes on with the end of the log
        message = (found.get("message") or "").split(", last available logs")[0].strip()
        told = " ".join(message.split()) if phase in ("pending", "failed") else ""
        return State(phase=phase, code=found.get("driver_exit_code"), message=told)

    def log(self, id: str) -> str:
        """What the driver printed."""
        found = self._server.find(f"/api/jobs/{id}/logs")
        return (found or {}).get("logs") or ""

    def stop(self, id: str) -> None:
        """SIGTERM to the driver, and SIGKILL after what `env_vars` give it."""
        self._server.ask("POST", f"/api/jobs/{id}/stop")

    @property
    def _server(self) -> Server:
        return Server(self.address)

    @cached_property
    def _package(self) -> Package | None:
        if self.working_dir is None:
            return None
        return packed(self.working_dir, self.include, self.most_mb)

    def _request(self, job: Job, id: str) -> dict[str, Any]:
        grace = job.settings.get("cluster", {}).get("grace_s", 0)
        variables = {**self.env, "RAY_JOB_STOP_WAIT_TIME_S": f"{grace + GRACE_S:.0f}"}
        environment: dict[str, Any] = {"env_vars": variables}
        if self._package:
            environment["working_dir"] = f"gcs://{self._package.name}"
        if self.pip:
            environment["pip"] = list(self.pip)
        return {
            "submission_id": id,
            "entrypoint": shlex.join(job.command()),
            "entrypoint_num_cpus": 0,  # it only waits; CPUs and GPUs are for the workers
            "entrypoint_num_gpus": 0,
            "metadata": dict(job.metadata),
            "runtime_env": environment,
        }

    def _compared(self, cluster: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
        """What the cluster lacks for a job with these settings of one, and what is odd."""
        runs = self._server.ask("GET", "/api/v0/cluster_metadata")["data"]
        listed = self._server.ask("GET", "/api/v0/nodes?limit=10000")["data"]["result"]["result"]
        nodes = [one.get("resources_total") or {} for one in listed if one["state"] == "ALIVE"]
        total = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
        lacks, notes = [], []
        for what, theirs, ours in (
            ("Ray", runs["rayVersion"], version("ray")),
            ("Python", runs["pythonVersion"], platform.python_version()),
        ):
            if theirs.split(".")[:2] != ours.split(".")[:2]:
                notes.append(f"runs {what} {theirs}, this machine {ours}")
        if total["GPU"] < self.gpus:
            lacks.append(f"has {total['GPU']:g} GPUs of the {self.gpus} that submit.gpus asks for")
        elif cluster is not None:
            lacks += _too_small(nodes, total, cluster)
            notes += [] if total["GPU"] else ["has no GPU: workers will compute on CPUs"]
        return lacks, notes


def _too_small(
    nodes: Sequence[Mapping[str, float]], total: Mapping[str, float], cluster: Mapping[str, Any]
) -> list[str]:
    """Workers for which no node is large enough."""
    if not total["CPU"]:
        return ["has no CPU for workers"]
    found = []
    for group in plan(cluster, total).groups:
        needs = {n.removeprefix("num_")[:3].upper(): v for n, v in group.resources.items()}
        if not any(all(node.get(n, 0.0) >= v for n, v in needs.items()) for node in nodes):
            words = ", ".join(f"{value:g} {name}" for name, value in needs.items())
            largest = ", ".join(
                f"{max(node.get(name, 0.0) for node in nodes):g} {name}" for name in needs
            )
            found.append(
                f"has no node with what one worker needs: {words} (the largest: {largest})"
            )
    return found
