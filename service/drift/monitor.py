"""Counts what a version is asked, as its answers leave.

Rows are copied, and counted many at a time into the bins of the checkpoint's reference
(`benchmarks/drift.py` measures what that costs).
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from perceptd.models.drift import Bins, Measurement
from perceptd.models.spec import InputSpec
from perceptd.service.drift.windows import Shelf, Windows
from perceptd.service.inference.batcher import BatchResult

BLOCK = 224  # rows that are counted together: what that costs hardly depends on how many they are
ALL_ROWS = 32  # of a batch are counted; of a larger one
SHARE = 4  # every so many
FLUSH_S = 1.0  # after which fewer are counted, too
MIN_ROWS = 200  # before which nothing is said

Verdict = Literal["collecting", "stable", "drifted"]
VERDICTS: Sequence[Verdict] = get_args(Verdict)
Key = tuple[str, int]  # model and version

log = logging.getLogger("perceptd.drift")


class Report(NamedTuple):
    """What is known of the latest rows of a version."""

    verdict: Verdict
    windows: Windows
    measured: list[Measurement]  # the inputs, then the predictions


@dataclass(frozen=True)
class Watched:
    """A version with a reference, and the windows that its rows are counted in."""

    key: Key
    bins: Bins
    shelf: Shelf

    def report(self) -> Report:
        windows = self.shelf.read()
        verdict = VERDICTS[windows.verdict]
        lasting = verdict == "drifted"
        measured = self.bins.measure(windows.counts, windows.rows, lasting=lasting)
        return Report(verdict, windows, measured)


class Monitor:
    """Counts the rows of one version in one process, on its event loop.

    Under load, of a batch of more than `ALL_ROWS`, it takes every fourth row, and at most a `BLOCK`
    evenly. Rows that no answer could be computed for are left out.
    """

    def __init__(self, watched: Watched, spec: InputSpec, full: int) -> None:
        self._watched = watched
        self._spec = spec
        self._full = full
        self._indices = np.empty(BLOCK, dtype=np.intp)
        self._filled = 0
        self._first = 0  # of the rows of a large batch that is counted
        self._counts = np.zeros(watched.bins.size)  # that are not on the shelf yet
        self._counted = 0
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def _rows(self) -> NDArray[np.float32]:
        """That wait to be counted: no memory for a version that nobody asks."""
        return np.empty((BLOCK, *self._spec.shape), dtype=np.float32)

    def __call__(self, ran: BatchResult) -> None:
        rows, indices = ran.rows, ran.answer.indices
        if not ran.answer.finite:
            usable = np.isfinite(ran.answer.probabilities).all(axis=1)
            rows, indices = rows[usable], indices[usable]
        count = len(indices)
        if count > ALL_ROWS:
            step = max(SHARE, -(-count // BLOCK))
            self._first = (self._first + 1) % step  # or rows that come in a rhythm would hide some
            rows, indices = rows[self._first :: step], indices[self._first :: step]
            count = len(indices)
        end = self._filled + count
        if end > BLOCK:
            self._count()
            end = count
        self._rows[end - count : end] = rows
        self._indices[end - count : end] = indices
        self._filled = end
        if end == BLOCK:
            self._count()
        elif self._timer is None and end:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._count()
        if self._counted:  # another process was at the shelf, or nothing can be written
            again = WeakMethod(self._flush)  # which may last: a version that is gone waits no more
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_S, lambda: (flush := again()) and flush())

    def _count(self) -> None:
        filled, self._filled = self._filled, 0
        rows, indices = self._rows[:filled], self._indices[:filled]
        counts, counted = self._watched.bins.count(self._spec, rows, indices)
        self._counts += counts
        self._counted += counted
        if self._counted and self._is_shelved():
            self._counts[:] = 0
            self._counted = 0

    def _is_shelved(self) -> bool:
        try:
            return self._watched.shelf.update(self._add)
        except OSError:  # as long as this lasts, what was counted waits
            log.debug("%s version %d: counts cannot be kept", *self._watched.key, exc_info=True)
            return False

    def _add(self, windows: Windows) -> None:
        bins, now, before = self._watched.bins, time.time(), VERDICTS[windows.verdict]
        windows.add(self._counts, self._counted, self._full, now)
        counts, rows = windows.counts, windows.rows
        verdict: Verdict = "collecting"
        if rows >= MIN_ROWS:
            lasting = before == "drifted"
            verdict = "drifted" if bins.drifted(counts, rows, lasting=lasting) else "stable"
        windows.decide(VERDICTS.index(verdict), now)
        if verdict == before:
            return
        if verdict == "drifted":
            measured = bins.measure(counts, rows)
            figures = ", ".join(f"{one.name} {one.psi:.2f}" for one in measured if one.name)
            log.warning("inputs of %s version %d have drifted: PSI %s", *self._watched.key, figures)
        elif before == "drifted":
            log.info("inputs of %s version %d are as in training again", *self._watched.key)
