"""What the machine has, and how much of it work may take."""

from __future__ import annotations

import os
import resource
import sys

CORES_FOR_ONE = 4
"""Threads beyond which one segment gains little, so that a second one beside it gains more."""

MEGABYTES_FOR_ONE = 1500.0
"""Memory that one segment may take with libraries and references."""


def count_workers(asked: int, cores: int, memory_mb: float) -> int:
    """How many segments to calibrate side by side; 0 asks for as many as fit."""
    if asked:
        return asked
    return max(1, min(cores // CORES_FOR_ONE, int(memory_mb / MEGABYTES_FOR_ONE)))


def count_threads(asked: int, cores: int, workers: int) -> int:
    """How many threads work on one segment; 0 shares the cores among the workers."""
    return asked or max(1, cores // workers)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> float:
    """Memory of the machine, MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def peak_mb() -> float:
    """Peak resident memory of this process, MB."""
    scale = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
