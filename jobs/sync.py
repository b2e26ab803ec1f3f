"""Upload a run directory's offline W&B runs; those that are uploaded already are left alone.

python -m jobs.sync out=runs/pets
python -m jobs.sync out=runs/pets entity=my-team project=explanations
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipeline.config import entry_point
from pipeline.config.limits import directory, setting
from pipeline.tracking.sync import sync


@dataclass
class SyncConfig:
    """Settings: see conf/sync.yaml."""

    out: str = setting(MISSING, directory())
    project: str = "pixel-quorum"
    entity: str | None = None


@entry_point("sync", SyncConfig)
def main(settings: dict[str, Any]) -> None:
    """Say how many."""
    now, before = sync(settings)
    print(f"{settings['out']}: {now} runs uploaded, {before} were before")


if __name__ == "__main__":
    main()
