"""Pack the demo: eight photographs from scikit-image and scikit-learn as WebDataset tars.

python -m jobs.demo out=data/demo
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipeline.config import entry_point
from pipeline.config.limits import at_least, directory, setting
from pipeline.data.packers.demo import Demo
from pipeline.packing import pack
from pipeline.packing.plan import planned
from pipeline.rows.storage import Storage


@dataclass
class DemoConfig:
    """Settings: see conf/demo.yaml."""

    out: str = setting(MISSING, directory())
    samples_per_shard: int = setting(4, at_least(1))


@entry_point("demo", DemoConfig)
def main(settings: dict[str, Any]) -> None:
    """Write the tars that are not there."""
    plan = planned(Demo(), name="demo", samples_per_shard=settings["samples_per_shard"])
    pack(plan, Storage(settings["out"]), source={"packages": "scikit-image, scikit-learn"})
    print(f"{plan.images} photographs in {len(plan.shards)} demo shards in {settings['out']}")


if __name__ == "__main__":
    main()
