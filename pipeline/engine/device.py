"""To the device and back without waiting for it, its clock, its memory."""

import ctypes
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Start a copy to the device; a pageable one would wait for all that runs there."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """Start a copy to the host; it is there once the device has got so far."""
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


class Clock:
    """Seconds between construction and `stop` as the device counts them."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._start = self._now()

    def stop(self) -> "Clock":
        """What follows is not counted."""
        self._end = self._now()
        return self

    def seconds(self) -> float:
        """Waits for the device to get there."""
        if not self._cuda:
            return self._end - self._start
        self._end.synchronize()
        return self._start.elapsed_time(self._end) / 1e3

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class Peak:
    """Bytes in use at the highest since construction, beyond those in use then.

    On a GPU those of tensors. On a CPU the process's resident memory, tensors and all: freed blocks
    that glibc keeps are given back first, and Linux told to begin its high-water mark anew. Where
    it cannot be told, only what exceeds the process's highest so far is seen.
    """

    def __init__(self, device: torch.device):
        self._device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _resident()

    def bytes(self) -> int:
        """Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, _resident() - self._before)


def _resident() -> int:
    """The high-water mark of resident memory, bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


ENVIRONMENT = {
    "GOMP_SPINCOUNT": "3000",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Environment for a CPU process whose engine runs beside other threads and processes, all of which
can only be had before the first allocation: `keep_freed_memory` for all threads; and OpenMP threads
that wait for each other sleep after some microseconds instead of spinning for a tenth of a second
on a core that the one waited for may need."""


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks: returning activations to the system after every layer halves a
    CNN's speed on a CPU (page faults). No effect on other C libraries."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # mmap, trim, top pad
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        pass
