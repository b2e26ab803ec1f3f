"""Progress of a run: images done, forwards a second, time to go."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from pipeline.engine import Counters

SECONDS_PER_LINE = 10.0


class Progress:
    """A bar on a terminal, else a line every ten seconds. Forwards measure it, images count."""

    def __init__(self, *, images: int, forwards: int):
        self.images = images
        self.forwards = forwards
        self._bar = None
        self._told = self._started = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(total=forwards, unit="fwd", unit_scale=True, dynamic_ncols=True)
            self._bar.set_description(f"0/{images} images")

    def __call__(self, images: int, counters: Counters) -> None:
        """Tell how far the run is."""
        if self._bar is not None:
            self._bar.set_description(f"{images}/{self.images} images", refresh=False)
            self._bar.update(min(counters.forwards, self.forwards) - self._bar.n)
        elif images == self.images or time.monotonic() - self._told > SECONDS_PER_LINE:
            self._told = time.monotonic()
            print(self._line(images, counters), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self, images: int, counters: Counters) -> str:
        seconds = time.monotonic() - self._started
        rate = counters.forwards / seconds
        left = max(0, self.forwards - counters.forwards)
        eta = f"{left / rate / 60:.1f} min to go" if rate else "starting"
        share = 100 * min(1.0, counters.forwards / max(1, self.forwards))
        return f"{images}/{self.images} images, {share:.0f} %, {rate:.0f} forwards/s, {eta}"
