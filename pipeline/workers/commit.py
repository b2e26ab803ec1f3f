"""What becomes of a run whose rows cannot be made durable."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import RunError, UsageError


@contextmanager
def committing(out: str) -> Iterator[None]:
    """Turn the store's errors, of whatever class, into a RunError of one line."""
    try:
        yield
    except (UsageError, RunError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(
            f"out={out}: rows cannot be committed ({reason}); what is staged there is kept: mend "
            "it and run the same command again"
        ) from error
