"""`pixel-quorum <job> key=value ...`, the same as `python -m jobs.<job> key=value ...`."""

import ast
import importlib
import sys
from difflib import get_close_matches
from pathlib import Path


def main() -> None:
    """Run the job that the first argument names, or list the jobs."""
    jobs = {p.stem: p for p in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print("pixel-quorum <job> key=value ...; --help after a job explains it\n")
        for job, path in jobs.items():
            doc = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"  {job:12}{doc.splitlines()[0]}")
    elif name in jobs:
        del sys.argv[1]
        importlib.import_module(f"jobs.{name}").main()
    else:
        choices = get_close_matches(name, jobs, 3, 0.5) or jobs
        print(f"error: {name!r} is no job; use one of {', '.join(choices)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
