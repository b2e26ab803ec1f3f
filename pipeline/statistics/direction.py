"""Whether more of what a judge measures is better, or less."""

HIGHER = ("srg", "monotonicity", "mu_fidelity", "pointing", "energy")
"""Measures of which more is better, whatever the objective."""


def direction(measure: str, objective: str) -> int:
    """+1 where more is better, -1 where less is."""
    if measure in HIGHER:
        return 1
    if measure == "sanity":  # a map that survives another model's weights explains neither
        return -1
    sign = 1 if objective == "insertion" else -1
    return -sign if measure.endswith("least_first") else sign
