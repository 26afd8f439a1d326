"""Describe the machine of a measurement: processor, memory, library versions, date."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """One line: processor, cores, memory, system, Python, the versions of `packages`, the day."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
    return "; ".join(
        (
            f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB",
            platform.system(),
            ", ".join(versions),
            f"{datetime.now(UTC):%Y-%m-%d}",
        )
    )


def processor() -> str:
    """The processor's name, as the operating system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
