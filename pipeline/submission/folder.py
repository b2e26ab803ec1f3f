"""Where submissions live that run from this machine's files: a folder each.

<folder>/<id>/job.sh, log, exit     exit: the status, after "stopped" where it was asked to end
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import RunError
from pipeline.rows.storage import Storage
from pipeline.submission import State


@dataclass(frozen=True)
class Folder:
    """The folder of one submission."""

    parent: str
    id: str

    @property
    def path(self) -> Path:
        """Absolute, since the job may stand elsewhere."""
        return Path(self.parent).absolute() / self.id

    def create(self, files: Mapping[str, str]) -> None:
        """Make it, with these files. Raises RunError where it is there already."""
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"{self.path} is there already: somebody else submits this") from None
        for name, content in files.items():
            self.write(name, content)

    def write(self, name: str, content: str) -> None:
        """A whole file or none."""
        Storage(str(self.path)).write(str(self.path / name), content.encode())

    def read(self, name: str) -> str | None:
        """What a file holds, None where it is not there."""
        try:
            return (self.path / name).read_text(errors="replace")
        except FileNotFoundError:
            return None

    def ended(self) -> State | None:
        """How it ended, None while it has not."""
        if (told := self.read("exit")) is None:
            return None
        *stopped, code = told.split()
        phase = "stopped" if stopped else "succeeded" if code == "0" else "failed"
        return State(phase=phase, code=int(code))
