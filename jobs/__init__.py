"""Entry points: `pixel-quorum <name> key=value ...` or `python -m jobs.<name> key=value ...`."""
