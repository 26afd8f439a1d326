"""Counts the inputs and predictions of a version after each batch.

Rows are copied, and many at a time are counted into the bins of the checkpoint's reference.
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
from perceptd.service.drift.window import Window, WindowStore
from perceptd.service.inference.batcher import BatchResult

BLOCK_ROWS = 224  # counted at once, in about the time that one row takes
MAX_UNSAMPLED_ROWS = 32  # larger batches are sampled
SAMPLE_STEP = 4
FLUSH_S = 1.0  # until a block that is not full is counted
MIN_ROWS = 200  # fewer give no verdict

Verdict = Literal["collecting", "stable", "drifted"]
VERDICTS: Sequence[Verdict] = get_args(Verdict)
Key = tuple[str, int]  # model and version

log = logging.getLogger("perceptd.drift")


class Report(NamedTuple):
    """The latest rows of a version, compared with its reference."""

    verdict: Verdict
    window: Window
    measured: list[Measurement]  # the inputs, then the predictions


@dataclass(frozen=True)
class WatchedVersion:
    """A version with a reference, and the store of its counts."""

    key: Key
    bins: Bins
    store: WindowStore

    def report(self) -> Report:
        window = self.store.read()
        verdict = VERDICTS[window.verdict]
        lasting = verdict == "drifted"
        measured = self.bins.measure(window.counts, window.rows, lasting=lasting)
        return Report(verdict, window, measured)


class Monitor:
    """Counts the rows of one version in one process, on its event loop.

    Of a batch of more than `MAX_UNSAMPLED_ROWS` rows it counts every fourth one, and never more
    than `BLOCK_ROWS`. Rows whose answer is not finite are not counted.
    """

    def __init__(self, watched: WatchedVersion, spec: InputSpec, full: int) -> None:
        self._watched = watched
        self._spec = spec
        self._full = full
        self._indices = np.empty(BLOCK_ROWS, dtype=np.intp)
        self._filled = 0
        self._first = 0  # row of a large batch that is counted
        self._counts = np.zeros(watched.bins.size)  # not in the store yet
        self._counted = 0
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def _rows(self) -> NDArray[np.float32]:
        """Rows that are not counted yet. Made at the first request, to save memory."""
        return np.empty((BLOCK_ROWS, *self._spec.shape), dtype=np.float32)

    def __call__(self, batch: BatchResult) -> None:
        rows, indices = batch.rows, batch.answer.indices
        if not batch.answer.finite:
            usable = np.isfinite(batch.answer.probabilities).all(axis=1)
            rows, indices = rows[usable], indices[usable]
        count = len(indices)
        if count > MAX_UNSAMPLED_ROWS:
            step = max(SAMPLE_STEP, -(-count // BLOCK_ROWS))
            self._first = (self._first + 1) % step  # else periodic rows would hide others
            rows, indices = rows[self._first :: step], indices[self._first :: step]
            count = len(indices)
        end = self._filled + count
        if end > BLOCK_ROWS:
            self._count()
            end = count
        self._rows[end - count : end] = rows
        self._indices[end - count : end] = indices
        self._filled = end
        if end == BLOCK_ROWS:
            self._count()
        elif self._timer is None and end:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._count()
        if self._counted:  # another process updates the store, or the disk is full
            again = WeakMethod(self._flush)  # retries must not keep a dropped version alive
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_S, lambda: (flush := again()) and flush())

    def _count(self) -> None:
        filled, self._filled = self._filled, 0
        rows, indices = self._rows[:filled], self._indices[:filled]
        counts, counted = self._watched.bins.count(self._spec, rows, indices)
        self._counts += counts
        self._counted += counted
        if self._counted and self._is_stored():
            self._counts[:] = 0
            self._counted = 0

    def _is_stored(self) -> bool:
        try:
            return self._watched.store.update(self._add)
        except OSError:  # the counts are stored later
            log.debug("%s version %d: cannot store counts", *self._watched.key, exc_info=True)
            return False

    def _add(self, window: Window) -> None:
        bins, now, before = self._watched.bins, time.time(), VERDICTS[window.verdict]
        window.add(self._counts, self._counted, self._full, now)
        counts, rows = window.counts, window.rows
        verdict: Verdict = "collecting"
        if rows >= MIN_ROWS:
            lasting = before == "drifted"
            verdict = "drifted" if bins.drifted(counts, rows, lasting=lasting) else "stable"
        window.decide(VERDICTS.index(verdict), now)
        if verdict == before:
            return
        if verdict == "drifted":
            measured = bins.measure(counts, rows)
            values = ", ".join(f"{one.name} {one.psi:.2f}" for one in measured if one.name)
            log.warning("inputs of %s version %d have drifted: PSI %s", *self._watched.key, values)
        elif before == "drifted":
            log.info("inputs of %s version %d are stable again", *self._watched.key)
