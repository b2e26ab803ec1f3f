"""Players that count how often an image is cut, and kill or hang their worker at some."""

import os
import signal
import time
from dataclasses import dataclass

from pipeline.players.patch_grid import PatchGrid


@dataclass(frozen=True, kw_only=True)
class Faulty(PatchGrid):
    """What happens is not part of what the rows mean, so it comes from the environment: FAULT_LOG
    gets a line an image, FAULT_POISON kills, FAULT_HANG never ends."""

    def __str__(self):
        return f"faulty{self.grid}"

    def __call__(self, view, heat_HW=None):
        if view.sample is not None:
            self._tell(view.sample.key)
        return super().__call__(view, heat_HW)

    def _tell(self, key):
        with open(os.environ["FAULT_LOG"], "a") as file:
            file.write(f"{key}\n")
        if key == os.environ.get("FAULT_POISON"):
            os.kill(os.getpid(), signal.SIGSEGV)
        while key == os.environ.get("FAULT_HANG"):
            time.sleep(1)
