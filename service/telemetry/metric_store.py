"""Figures in memory that the processes of a server share.

Each process counts in pages of its own, files of one folder that it has mapped: adding to a figure
is writing a number to memory, a tenth of a microsecond, and is seen at once by whichever process
is asked. A page begins with the number of its figures, then come their numbers, then a line for
each: its name, the values of its labels.
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
NUMBERS = 2048  # of a page; the rest of it is for names
NAMES = 8 * (1 + NUMBERS)
ENDED = 0  # no process's id: whose pages have what those had counted that are no more
LOCK = "lock"

Series: TypeAlias = "memoryview[float]"  # `series[0] += 1`

log = logging.getLogger("perceptd")


class Figures(NamedTuple):
    """One label set of a family as one process has counted it."""

    pid: int
    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...]


class Page:
    """Numbers and their names, in a file or in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self.is_shared = path is not None
        if path is None:
            self._memory = mmap.mmap(-1, PAGE_BYTES)
        else:
            with path.open("x+b") as file:
                file.write(bytes(PAGE_BYTES))
                file.flush()  # a full disk is told of here
                self._memory = mmap.mmap(file.fileno(), PAGE_BYTES)
        self._numbers = memoryview(self._memory)[8:NAMES].cast("d")
        self._used = 0
        self._end = NAMES
        self._count = 0

    def add(self, name: str, labels: tuple[str, ...], cells: int) -> "Series | None":
        """Room for one more figure; None where there is not enough."""
        line = json.dumps([name, cells, *labels]).encode() + b"\n"
        if self._used + cells > NUMBERS or self._end + len(line) > PAGE_BYTES:
            return None
        self._memory[self._end : self._end + len(line)] = line
        self._end += len(line)
        series = self._numbers[self._used : self._used + cells]
        self._used += cells
        self._count += 1
        self._memory[:8] = struct.pack("q", self._count)  # last: what is counted is complete
        return series

    def read(self) -> bytes:
        return bytes(self._memory)


class MetricStore:
    """The figures of one process, and those of all that count in the same folder."""

    def __init__(self, folder: Path | None, pid: int | None = None) -> None:
        self._folder = folder
        self.pid = os.getpid() if pid is None else pid
        self._name = f"{self.pid}-{secrets.token_hex(4)}"
        self._pages: list[Page] = []
        self._series: dict[tuple[str, tuple[str, ...]], Series] = {}
        self._adding = threading.Lock()

    def series(self, family: Family, *labels: str) -> Series:
        """The numbers of one label set: one, or of a histogram one for each bucket, one for what
        is above them, and the sum.
        """
        key = (family.name, labels)
        found = self._series.get(key)
        if found is None:
            with self._adding:
                found = self._series.get(key) or self._added(family, labels)
                self._series[key] = found
        return found

    def read(self) -> Iterator[Figures]:
        """What all have counted."""
        for page in self._pages:
            if not page.is_shared:
                yield from parsed(self.pid, page.read())
        if self._folder is None:
            return
        with locked(self._folder, fcntl.LOCK_SH):
            yield from [
                figures
                for path in self._folder.glob("*.page")
                for figures in parsed(pid_of(path), path.read_bytes())
            ]

    def pids(self) -> set[int]:
        """The processes that count."""
        if self._folder is None:
            return {self.pid}
        return {self.pid} | {pid_of(path) for path in self._folder.glob("*.page")} - {ENDED}

    def absorb(self, pid: int) -> None:
        """Keep what a process that has ended had counted, and nothing of what it was."""
        assert self._folder  # noqa: S101 - where several processes count
        with locked(self._folder, fcntl.LOCK_EX):
            for path in sorted(self._folder.glob(f"{pid}-*.page")):
                for _, name, labels, numbers in parsed(pid, path.read_bytes()):
                    family = COUNTED[name]
                    if family.kind != "gauge":
                        series = self.series(family, *labels)
                        for index, number in enumerate(numbers):
                            series[index] += number
                path.unlink()

    def _added(self, family: Family, labels: tuple[str, ...]) -> Series:
        if self._pages:
            series = self._pages[-1].add(family.name, labels, family.cells)
            if series is not None:
                return series
        self._pages.append(self._page())
        series = self._pages[-1].add(family.name, labels, family.cells)
        assert series is not None  # noqa: S101 - labels are far shorter than a page
        return series

    def _page(self) -> Page:
        if self._folder is None:
            return Page(None)
        path = self._folder / f"{self._name}-{len(self._pages)}.page"
        try:
            return Page(path)
        except OSError as error:
            log.warning("no other process tells this one's figures: %s", error)
            with suppress(OSError):
                path.unlink()
            return Page(None)


def parsed(pid: int, content: bytes) -> Iterator[Figures]:
    """The figures of a page; none of one that is just being made."""
    if len(content) < PAGE_BYTES:
        return
    (count,) = struct.unpack_from("q", content)
    at = 8
    for line in content[NAMES:].split(b"\n", count)[:count]:
        name, cells, *labels = json.loads(line)
        yield Figures(pid, name, tuple(labels), struct.unpack_from(f"{cells}d", content, at))
        at += 8 * cells


def pid_of(path: Path) -> int:
    return int(path.name.partition("-")[0])


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """While a process is buried nobody reads: its figures are to be told once."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, how)
        yield
