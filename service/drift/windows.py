"""Counts of a version's latest rows, in this process or in a file that several share.

Several parts take turns: the one that fills, and those before it. What is older is forgotten, so
that old rows do not hide new ones; and as that is little at a time, about as many rows are known
whenever one looks.
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

LENGTH_BYTES = 8  # that say how long the header is which a file begins with
PARTS = 8  # of a window
VERDICT, SINCE, LATEST, HEAD = range(4)


class Windows:
    """Numbers as they lie in a file: those named above, then the parts, the one that fills first.
    Each is how many rows it has and, of these, how many are in each bin.
    """

    def __init__(self, numbers: NDArray[np.float64]) -> None:
        self.numbers = numbers  # (HEAD + PARTS (1 + B),)
        self._parts = numbers[HEAD:].reshape(PARTS, -1)

    @classmethod
    def empty(cls, bins: int, now: float) -> Self:
        windows = cls(np.zeros(HEAD + PARTS * (1 + bins)))
        windows.numbers[SINCE] = now
        return windows

    @property
    def rows(self) -> int:
        return int(self._parts[:, 0].sum())

    @property
    def counts(self) -> NDArray[np.float64]:
        """Of all parts, (B,)."""
        total: NDArray[np.float64] = self._parts[:, 1:].sum(axis=0)
        return total

    @property
    def verdict(self) -> int:
        return int(self.numbers[VERDICT])

    @property
    def since(self) -> datetime:
        """When the verdict became what it is."""
        return datetime.fromtimestamp(self.numbers[SINCE], UTC)

    @property
    def latest(self) -> float:
        """When rows were added last, in seconds since 1970; 0 before any."""
        return float(self.numbers[LATEST])

    def add(self, counts: NDArray[np.float64], rows: int, full: int, now: float) -> None:
        """Add the counts (B,) of so many rows. A part is to have about a `PARTS`th of `full` rows;
        once it has, another begins, and the oldest is forgotten.
        """
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


class Shelf(Protocol):
    """Where the windows of a version lie."""

    def read(self) -> Windows: ...

    def update(self, change: Callable[[Windows], None]) -> bool:
        """Change them; False where somebody else does at this moment."""


class InProcess:
    """For a server that is one process."""

    def __init__(self, bins: int, now: float) -> None:
        self._windows = Windows.empty(bins, now)

    def read(self) -> Windows:
        return Windows(self._windows.numbers.copy())

    def update(self, change: Callable[[Windows], None]) -> bool:
        changed = self.read()
        change(changed)
        self._windows = changed
        return True


class InFile:
    """For the processes of one server. A process that dies leaves what it has counted.

    A file is a header, which says whose counts these are, and the numbers. Nobody waits for a lock
    on it: whoever holds it may have been stopped, and those who count answer requests besides.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)  # stays, should the name be cleaned away
        weakref.finalize(self, os.close, self._descriptor)
        length = int.from_bytes(os.pread(self._descriptor, LENGTH_BYTES, 0), "little")
        self.header = os.pread(self._descriptor, length, LENGTH_BYTES)
        self._start = LENGTH_BYTES + length
        self._size = os.fstat(self._descriptor).st_size - self._start

    @classmethod
    def opened(cls, path: Path, header: bytes, bins: int, now: float) -> Self:
        """The file of that name, written unless another process already has."""
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:
            file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
            file.write(Windows.empty(bins, now).numbers.tobytes())
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)  # whole or not at all
        return cls(path)

    def read(self) -> Windows:
        """As they are, or as they are becoming: at most a few rows are then in some bins alone."""
        return Windows(
            np.frombuffer(bytearray(os.pread(self._descriptor, self._size, self._start)))
        )

    def update(self, change: Callable[[Windows], None]) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            windows = self.read()
            change(windows)
            os.pwrite(self._descriptor, windows.numbers.tobytes(), self._start)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True
