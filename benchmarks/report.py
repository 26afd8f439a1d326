"""What a benchmark prints: the machine, the versions, a table. `RESULTS` keeps it."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def publish(name: str, *parts: str) -> None:
    """Print the parts of a report, and write them to its file of results."""
    text = "\n\n".join(parts) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def machine(*packages: str) -> str:
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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """A table whose first `texts` columns are texts and whose others are numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """The median, and in brackets the least and the greatest value."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"
