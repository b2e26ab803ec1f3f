"""Optimise masks of undesirable pixels (F-TC, F-NTC): rows into <out>/masks, only those missing."""

from jobs.evaluate import evaluate
from pipeline.config import entry_point

main = entry_point("undesirable")(evaluate)

if __name__ == "__main__":
    main()
