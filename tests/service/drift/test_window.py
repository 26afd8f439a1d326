"""Counts of the latest rows, in memory and in a file."""

import fcntl
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from perceptd.service.drift.window import PARTS, FileStore, MemoryStore, Window, WindowStore

BINS = 3
HEADER = b"a header"


@pytest.fixture(params=["process", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WindowStore:
    if request.param == "process":
        return MemoryStore(BINS, 100.0)
    return FileStore.opened(tmp_path / "counts", HEADER, BINS, 100.0)


def add(store: WindowStore, *counts: float, full: int = 10, now: float = 200.0) -> bool:
    def change(window: Window) -> None:
        window.add(np.array(counts), int(sum(counts)), full, now)

    return store.update(change)


def test_the_oldest_eighth_is_dropped_when_the_window_is_full(store: WindowStore) -> None:
    assert (store.read().rows, store.read().latest) == (0, 0)
    full = PARTS * 8
    for turn in range(2 * PARTS):
        assert add(store, 4, 0, 0, full=full)
        assert store.read().counts.tolist() == [4 * (turn + 1), 0, 0]
    for turn in range(2 * PARTS):
        assert add(store, 0, 3, 1, full=full)
        left = full - 8 * (turn // 2 + 1)
        assert store.read().counts.tolist() == [left, 3 * (turn + 1), turn + 1]
        assert full - 8 < store.read().rows <= full
    assert store.read().latest == 200


def test_many_rows_added_at_once_are_one_part(store: WindowStore) -> None:
    assert add(store, 500, 0, 0, full=80)
    for turn in range(1, PARTS + 1):
        assert store.read().rows == 500 + 10 * (turn - 1)
        assert add(store, 0, 10, 0, full=80)
    assert store.read().counts.tolist() == [0, 80, 0]


def test_a_verdict_is_dated_when_it_changes(store: WindowStore) -> None:
    for verdict, now in ((0, 150.0), (2, 160.0), (2, 170.0)):
        assert store.update(partial(Window.decide, verdict=verdict, now=now))
    window = store.read()
    assert (window.verdict, window.since.timestamp()) == (2, 160)


def test_a_window_that_was_read_does_not_change(store: WindowStore) -> None:
    read = store.read()
    add(store, 1, 1, 1)
    assert read.rows == 0


def test_a_locked_file_is_read_but_not_updated(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    store = FileStore.opened(path, HEADER, BINS, 0.0)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not add(store, 1, 0, 0)
        assert store.read().rows == 0
    assert add(store, 1, 0, 0)
    assert store.read().rows == 1


def test_a_failed_change_leaves_the_counts_and_releases_the_lock(tmp_path: Path) -> None:
    store = FileStore.opened(tmp_path / "counts", HEADER, BINS, 0.0)
    with pytest.raises(ValueError, match="broadcast"):
        add(store, 1, 2)
    assert store.read().rows == 0
    assert add(store, 1, 0, 0)


def test_a_deleted_file_can_still_be_updated(tmp_path: Path) -> None:
    store = FileStore.opened(tmp_path / "counts", HEADER, BINS, 0.0)
    (tmp_path / "counts").unlink()
    assert add(store, 1, 0, 0)
    assert store.read().rows == 1


def count(path: Path, times: int) -> None:
    store = FileStore.opened(path, HEADER, BINS, 0.0)
    for _ in range(times):
        while not add(store, 1, 2, 3, full=1_000_000):
            pass


def test_concurrent_processes_lose_no_counts(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    context = multiprocessing.get_context("spawn")
    counting = [context.Process(target=count, args=(path, 500)) for _ in range(2)]
    for process in counting:
        process.start()
    for process in counting:
        process.join()
        assert process.exitcode == 0
    store = FileStore(path)
    assert store.header == HEADER
    assert store.read().counts.tolist() == [1000, 2000, 3000]
    assert [file.name for file in tmp_path.iterdir()] == ["counts"]
