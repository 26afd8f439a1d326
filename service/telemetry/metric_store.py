"""Counters in memory that the processes of a server share.

Each process counts in its own pages, which are memory-mapped files of one folder. Counting writes a
number to memory in a tenth of a microsecond, and every other process can read it at once. A page
has the number of its series, then their numbers, then a line of JSON per series: its name, how many
numbers it has, its label values.
"""

import fcntl
import json
import logging
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from perceptd.service.telemetry.families import COUNTED, Family

PAGE_BYTES = 65_536
NUMBERS = 2048  # per page; the rest of it is for names
NAMES = 8 * (1 + NUMBERS)
EXITED_PID = 0  # reserved: totals of processes that have exited
LOCK = "lock"

Series: TypeAlias = "memoryview[float]"  # `series[0] += 1`

log = logging.getLogger("perceptd")


class ProcessSeries(NamedTuple):
    """What one process has counted for one label set of a family."""

    pid: int
    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...]


class Page:
    """Numbers and their names, in a file or only in memory."""

    def __init__(self, path: Path | None) -> None:
        self.is_shared = path is not None
        if path is None:
            self._memory = mmap.mmap(-1, PAGE_BYTES)
        else:
            with path.open("x+b") as file:
                file.write(bytes(PAGE_BYTES))
                file.flush()  # fails here if the disk is full
                self._memory = mmap.mmap(file.fileno(), PAGE_BYTES)
        self._numbers = memoryview(self._memory)[8:NAMES].cast("d")
        self._used = 0
        self._end = NAMES
        self._count = 0

    def add(self, name: str, labels: tuple[str, ...], cells: int) -> "Series | None":
        """Add a series of `cells` numbers; None if the page has no room for it."""
        line = json.dumps([name, cells, *labels]).encode() + b"\n"
        if self._used + cells > NUMBERS or self._end + len(line) > PAGE_BYTES:
            return None
        self._memory[self._end : self._end + len(line)] = line
        self._end += len(line)
        series = self._numbers[self._used : self._used + cells]
        self._used += cells
        self._count += 1
        self._memory[:8] = struct.pack("q", self._count)  # last: only complete series are counted
        return series

    def read(self) -> bytes:
        return bytes(self._memory)


class MetricStore:
    """The series of one process, and of all processes that count in the same folder."""

    def __init__(self, folder: Path | None, pid: int | None = None) -> None:
        self._folder = folder
        self.pid = os.getpid() if pid is None else pid
        self._name = f"{self.pid}-{secrets.token_hex(4)}"
        self._pages: list[Page] = []
        self._series: dict[tuple[str, tuple[str, ...]], Series] = {}
        self._adding = threading.Lock()

    def series(self, family: Family, *labels: str) -> Series:
        """The numbers of one label set, to be changed in place: `Family.cells` many."""
        key = (family.name, labels)
        found = self._series.get(key)
        if found is None:
            with self._adding:
                found = self._series.get(key) or self._add(family, labels)
                self._series[key] = found
        return found

    def read(self) -> Iterator[ProcessSeries]:
        """The series of all processes."""
        for page in self._pages:
            if not page.is_shared:
                yield from parsed(self.pid, page.read())
        if self._folder is None:
            return
        with locked(self._folder, fcntl.LOCK_SH):
            yield from [
                series
                for path in self._folder.glob("*.page")
                for series in parsed(pid_of(path), path.read_bytes())
            ]

    def pids(self) -> set[int]:
        """The running processes that count."""
        if self._folder is None:
            return {self.pid}
        return {self.pid} | {pid_of(path) for path in self._folder.glob("*.page")} - {EXITED_PID}

    def absorb(self, pid: int) -> None:
        """Add the counters of a process that has exited to this one's, and drop its gauges."""
        assert self._folder  # noqa: S101 - several processes share a folder
        with locked(self._folder, fcntl.LOCK_EX):
            for path in sorted(self._folder.glob(f"{pid}-*.page")):
                for _, name, labels, numbers in parsed(pid, path.read_bytes()):
                    family = COUNTED[name]
                    if family.kind != "gauge":
                        series = self.series(family, *labels)
                        for index, number in enumerate(numbers):
                            series[index] += number
                path.unlink()

    def _add(self, family: Family, labels: tuple[str, ...]) -> Series:
        if self._pages:
            series = self._pages[-1].add(family.name, labels, family.cells)
            if series is not None:
                return series
        self._pages.append(self._new_page())
        series = self._pages[-1].add(family.name, labels, family.cells)
        assert series is not None  # noqa: S101 - labels are far shorter than a page
        return series

    def _new_page(self) -> Page:
        if self._folder is None:
            return Page(None)
        path = self._folder / f"{self._name}-{len(self._pages)}.page"
        try:
            return Page(path)
        except OSError as error:
            log.warning("other processes do not see the metrics of this one: %s", error)
            with suppress(OSError):
                path.unlink()
            return Page(None)


def parsed(pid: int, content: bytes) -> Iterator[ProcessSeries]:
    """The series of a page; none if another process is still creating it."""
    if len(content) < PAGE_BYTES:
        return
    (count,) = struct.unpack_from("q", content)
    at = 8
    for line in content[NAMES:].split(b"\n", count)[:count]:
        name, cells, *labels = json.loads(line)
        yield ProcessSeries(pid, name, tuple(labels), struct.unpack_from(f"{cells}d", content, at))
        at += 8 * cells


def pid_of(path: Path) -> int:
    return int(path.name.partition("-")[0])


@contextmanager
def locked(folder: Path, mode: int) -> Iterator[None]:
    """Keeps `read` and `absorb` apart, so that no series is read twice or not at all."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, mode)
        yield
