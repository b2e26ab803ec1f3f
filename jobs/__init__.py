"""Entry points: `python -m jobs.<name> key=value ...`; `--help` lists every setting."""
