"""Counts of a version's latest rows, in memory or in a file that several processes share.

The rows are counted in parts. When the newest part is full another one begins and the oldest is
dropped. So old rows do not hide new ones, and the window always has about the same number of rows.
"""

import fcntl
import os
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

LENGTH_BYTES = 8  # at the start of a file: the length of its header
PARTS = 8  # of a window
VERDICT, SINCE, LATEST, HEAD = range(4)


class Window:
    """Numbers as a file has them: verdict, since, latest, then the parts, the newest first. A part
    is its number of rows, then the number of rows in each of B bins.
    """

    def __init__(self, numbers: NDArray[np.float64]) -> None:
        self.numbers = numbers  # (HEAD + PARTS (1 + B),)
        self._parts = numbers[HEAD:].reshape(PARTS, -1)

    @classmethod
    def empty(cls, bins: int, now: float) -> Self:
        window = cls(np.zeros(HEAD + PARTS * (1 + bins)))
        window.numbers[SINCE] = now
        return window

    @property
    def rows(self) -> int:
        return int(self._parts[:, 0].sum())

    @property
    def counts(self) -> NDArray[np.float64]:
        """Rows in each bin over all parts, (B,)."""
        total: NDArray[np.float64] = self._parts[:, 1:].sum(axis=0)
        return total

    @property
    def verdict(self) -> int:
        return int(self.numbers[VERDICT])

    @property
    def since(self) -> datetime:
        """When the verdict last changed."""
        return datetime.fromtimestamp(self.numbers[SINCE], UTC)

    @property
    def latest(self) -> float:
        """When rows were last added, in seconds since 1970; 0 if never."""
        return float(self.numbers[LATEST])

    def add(self, counts: NDArray[np.float64], rows: int, full: int, now: float) -> None:
        """Add the counts, (B,), of `rows` rows. A part is full with about `full / PARTS` rows."""
        parts = self._parts
        if parts[0, 0] and parts[0, 0] + rows / 2 > full / PARTS:
            parts[1:] = parts[:-1].copy()
            parts[0] = 0
        parts[0, 0] += rows
        parts[0, 1:] += counts
        self.numbers[LATEST] = now

    def decide(self, verdict: int, now: float) -> None:
        if verdict != self.verdict:
            self.numbers[VERDICT], self.numbers[SINCE] = verdict, now


class WindowStore(Protocol):
    """Where the window of a version is kept."""

    def read(self) -> Window: ...

    def update(self, change: Callable[[Window], None]) -> bool:
        """Change the window; False if another process is changing it now."""


class MemoryStore:
    """For a server of one process."""

    def __init__(self, bins: int, now: float) -> None:
        self._windows = Window.empty(bins, now)

    def read(self) -> Window:
        return Window(self._windows.numbers.copy())

    def update(self, change: Callable[[Window], None]) -> bool:
        changed = self.read()
        change(changed)
        self._windows = changed
        return True


class FileStore:
    """For the processes of one server. The counts of a process that dies are kept.

    A file has a header, which says what the numbers mean, and the numbers. No process waits for the
    lock: the one that holds it may be stopped, and those that count also answer requests.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)  # still works if the file is deleted
        weakref.finalize(self, os.close, self._descriptor)
        length = int.from_bytes(os.pread(self._descriptor, LENGTH_BYTES, 0), "little")
        self.header = os.pread(self._descriptor, length, LENGTH_BYTES)
        self._start = LENGTH_BYTES + length
        self._size = os.fstat(self._descriptor).st_size - self._start

    @classmethod
    def opened(cls, path: Path, header: bytes, bins: int, now: float) -> Self:
        """Open the file; create it if no other process has."""
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:
            file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
            file.write(Window.empty(bins, now).numbers.tobytes())
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)  # atomic
        return cls(path)

    def read(self) -> Window:
        """The window. During an update, a few rows may be missing from some bins."""
        return Window(np.frombuffer(bytearray(os.pread(self._descriptor, self._size, self._start))))

    def update(self, change: Callable[[Window], None]) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            window = self.read()
            change(window)
            os.pwrite(self._descriptor, window.numbers.tobytes(), self._start)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True
