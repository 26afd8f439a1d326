import fcntl
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from service.windows import InFile, InProcess, Shelf, Windows

BINS = 3
HEADER = b"whose counts these are"


@pytest.fixture(params=["process", "file"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "process":
        return InProcess(BINS, 100.0)
    return InFile.opened(tmp_path / "counts", HEADER, BINS, 100.0)


def add(shelf: Shelf, *counts: float, full: int = 10, now: float = 200.0) -> bool:
    def change(windows: Windows) -> None:
        windows.add(np.array(counts), int(sum(counts)), full, now)

    return shelf.update(change)


def test_what_is_older_than_two_windows_is_forgotten(shelf: Shelf) -> None:
    assert (shelf.read().rows, shelf.read().latest) == (0, 0)
    expected = [[4, 0, 0], [8, 0, 0], [12, 0, 0], [12, 4, 0], [12, 8, 0], [12, 12, 0], [0, 12, 4]]
    turns = [(4, 0, 0)] * 3 + [(0, 4, 0)] * 3 + [(0, 0, 4)]
    for turn, counts in zip(turns, expected, strict=True):
        assert add(shelf, *turn)
        assert shelf.read().counts.tolist() == counts
        assert shelf.read().rows == sum(counts)
    assert shelf.read().latest == 200


def test_a_verdict_is_dated_when_it_changes(shelf: Shelf) -> None:
    for verdict, now in ((0, 150.0), (2, 160.0), (2, 170.0)):
        assert shelf.update(lambda windows, v=verdict, n=now: windows.decide(v, n))  # type: ignore[misc]
    windows = shelf.read()
    assert (windows.verdict, windows.since.timestamp()) == (2, 160)


def test_what_was_read_does_not_change(shelf: Shelf) -> None:
    read = shelf.read()
    add(shelf, 1, 1, 1)
    assert read.rows == 0


def test_nobody_waits_for_one_who_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    shelf = InFile.opened(path, HEADER, BINS, 0.0)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not add(shelf, 1, 0, 0)
        assert shelf.read().rows == 0
    assert add(shelf, 1, 0, 0)
    assert shelf.read().rows == 1


def test_a_failed_change_leaves_the_counts_and_the_lock(tmp_path: Path) -> None:
    shelf = InFile.opened(tmp_path / "counts", HEADER, BINS, 0.0)
    with pytest.raises(ValueError, match="broadcast"):
        add(shelf, 1, 2)
    assert shelf.read().rows == 0
    assert add(shelf, 1, 0, 0)


def test_a_file_that_is_cleaned_away_counts_on(tmp_path: Path) -> None:
    shelf = InFile.opened(tmp_path / "counts", HEADER, BINS, 0.0)
    (tmp_path / "counts").unlink()
    assert add(shelf, 1, 0, 0)
    assert shelf.read().rows == 1


def count(path: Path, times: int) -> None:
    shelf = InFile.opened(path, HEADER, BINS, 0.0)
    for _ in range(times):
        while not add(shelf, 1, 2, 3, full=1_000_000):
            pass


def test_processes_that_count_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    context = multiprocessing.get_context("spawn")
    counting = [context.Process(target=count, args=(path, 500)) for _ in range(2)]
    for process in counting:
        process.start()
    for process in counting:
        process.join()
        assert process.exitcode == 0
    shelf = InFile(path)
    assert shelf.header == HEADER
    assert shelf.read().counts.tolist() == [1000, 2000, 3000]
    assert [file.name for file in tmp_path.iterdir()] == ["counts"]
