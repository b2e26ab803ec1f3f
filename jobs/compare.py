"""Compare two runs' orders and AUCs: lower precision, other actors, another release."""

from typing import Any

from pipeline.compare import compare
from pipeline.config import entry_point
from pipeline.results import Run


@entry_point("compare")
def main(settings: dict[str, Any]) -> None:
    """A line for each method and objective."""
    heads = ("rows", "same order", "same picks", "before parting", "mean dAUC", "largest dAUC")
    print(f"{'method':18} {'objective':10}" + "".join(f"{head:>15}" for head in heads))
    for line in compare(Run(settings["out"]), Run(settings["against"])):
        shares = "".join(f"{100 * x:13.2f} %" for x in (line.orders, line.picks, line.first))
        gaps = f"{line.auc_mean:15.2e}{line.auc_largest:15.2e}"
        print(f"{line.method:18} {line.objective:10}{line.rows:15}{shares}{gaps}")


if __name__ == "__main__":
    main()
