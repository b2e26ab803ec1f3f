"""How many made-up inputs a test of whatever may come tries; `make fuzz`: thirty times as many."""

import os

from hypothesis import HealthCheck, settings

TIMES = 30 if os.environ.get("FUZZ") else 1


def tries(count: int) -> settings:
    """So many examples, or thirty times as many where FUZZ is set."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
