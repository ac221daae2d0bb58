"""What computes: the processor in words, versions, and a setting of the C library."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def hardware(device: torch.device | str = "cpu") -> str:
    """The name of what computes: the GPU's, or the processor's with its threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name, told = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if told.is_file():  # Linux
        names = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if "model name" in line]
        name = (names or [name])[0]
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": version("torch")}
    with suppress(PackageNotFoundError):  # a checkout that was never installed
        found["pixelcnn-helpers"] = version("pixelcnn-helpers")
    return found


def keep_memory() -> None:
    """Let the C library keep freed memory instead of returning it to the kernel at every step (glibc, Linux).

    On a CPU this makes training about a tenth faster, with large batches more. It holds for the whole process, so it is
    for commands that do nothing else.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt, never, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, 2**31 - 1, -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, never)
