"""CPU time and memory of whole process trees, and what the machine is."""

import os
import platform
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process and everything under it has used, ended children included."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory(pid: int) -> list[float]:
    """Megabytes resident in each server process under a parent."""
    under = [process for process in _tree(pid)[1:] if "resource_tracker" not in " ".join(process.cmdline())]
    return [process.memory_info().rss / 1e6 for process in under]


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def machine() -> dict[str, str]:
    """What the figures belong to."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load of others before the run": f"{os.getloadavg()[0]:.1f}",
    }
