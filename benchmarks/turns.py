"""Schedules in short turns: what a busy machine cannot make look better or worse than it is.

Everything compared does the same small piece of work in turns, every second time in reverse order
(A B B A), so that whatever else runs meets all of them alike. Ratios are of sums over pieces; their
intervals come from drawing the rounds of each piece again, what was measured together together.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.engine.device import ENVIRONMENT
from pipeline.models import PRECISIONS


class Spent(NamedTuple):
    """Seconds by the clock and of all threads of this process; what came of it."""

    wall: float
    cpu: float
    result: Any


class Ratio(NamedTuple):
    """With a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def as_workers() -> None:
    """Start this program again in the environment that workers run in, where it lacks any of it:
    how OpenMP's threads wait is read once, when a process starts. What is set already stays."""
    if ENVIRONMENT.keys() - os.environ.keys():
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, ENVIRONMENT | os.environ)


def timed(run: Callable[[], Any], device: torch.device) -> Spent:
    """One turn; a GPU has finished before and after."""
    sync(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    sync(device)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu, result)


def in_turns(
    schedules: Mapping[str, Callable[[Any], Any]],
    pieces: Sequence[Any],
    rounds: int,
    device: torch.device,
) -> dict[str, list[list[Spent]]]:
    """Turns of each schedule, a list of rounds for each piece."""
    spent: dict[str, list[list[Spent]]] = {name: [[] for _ in pieces] for name in schedules}
    for number in range(rounds):
        for place, piece in enumerate(pieces):
            names = list(schedules)
            for name in names[:: -1 if (number + place) % 2 else 1]:
                run = schedules[name]
                spent[name][place].append(timed(lambda r=run, p=piece: r(p), device))
    return spent


def seconds(turns: list[list[Spent]], clock: str = "wall") -> np.ndarray:
    """Of each piece and round (P, R)."""
    return np.array([[getattr(turn, clock) for turn in piece] for piece in turns])


def ratio(a_PR: np.ndarray, b_PR: np.ndarray, draws: int = 2000) -> Ratio:
    """Sum of a over sum of b, which took turns. One round has no interval."""
    (P, R), rng = a_PR.shape, np.random.default_rng(0)
    rows_P1, drawn_DPR = np.arange(P)[:, None], rng.integers(0, R, (draws, P, R))
    sums = [(a_PR[rows_P1, d].sum(), b_PR[rows_P1, d].sum()) for d in drawn_DPR]
    low, high = np.quantile([a / b for a, b in sums], [0.025, 0.975])
    return Ratio(float(a_PR.sum() / b_PR.sum()), float(low), float(high))


class Ceiling:
    """A large square matrix product as a schedule; `flops` of a turn."""

    def __init__(self, device: torch.device, precision: str, size: int | None = None):
        self.size = size or (2048 if device.type == "cpu" else 8192)
        self.flops = 2 * self.size**3
        self._precision = precision
        self._a = torch.randn(self.size, self.size, device=device, dtype=PRECISIONS[precision])
        self._b = torch.empty_like(self._a)
        self()

    def __call__(self, piece: Any = None) -> None:
        switch(self._precision)
        torch.mm(self._a, self._a, out=self._b)


def switch(precision: str) -> None:
    """TF32 is a switch of the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> str:
    """Processor, threads, what else it is busy with, and the GPU where that is what computes."""
    name = "unknown processor"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((s.split(": ")[1] for s in lines if s.startswith("model name")), name)
    level = torch.backends.cpu.get_cpu_capability()
    told = f"{name} ({level}), {torch.get_num_threads()} threads of {os.cpu_count()} processors"
    told += f", load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name()}; {told}" if device.type == "cuda" else told
