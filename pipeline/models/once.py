"""One download a machine, however many workers of it start at the same moment."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for other processes of this user that fetch weights; what they have fetched is cached
    then (timm and torchvision keep it in the hub's and PyTorch's cache folders)."""
    place = os.path.join(tempfile.gettempdir(), f"pixel-quorum-{os.getuid()}.lock")
    with open(place, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
