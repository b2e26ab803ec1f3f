"""Pack the demo: eight photographs from scikit-image and scikit-learn as WebDataset tars.

python -m jobs.demo out=data/demo
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from pipeline.config import entry_point
from pipeline.config.limits import at_least, directory, setting
from pipeline.data.packers import demo, pack


@dataclass
class DemoConfig:
    """Settings: see conf/demo.yaml."""

    out: str = setting(MISSING, directory())
    samples_per_shard: int = setting(4, at_least(1))


@entry_point("demo", DemoConfig)
def main(settings: dict[str, Any]) -> None:
    """Write the tars, unless they are there."""
    folder = Path(settings["out"])
    if shards := sorted(folder.glob("demo-*.tar")):
        print(f"{len(shards)} demo shards are in {folder}")
        return
    shards = pack(
        demo.samples(), folder, name="demo", samples_per_shard=settings["samples_per_shard"]
    )
    print(f"packed {len(demo.PHOTOGRAPHS)} photographs into {len(shards)} shards in {folder}")


if __name__ == "__main__":
    main()
