"""Several stores that count in one folder, as the processes of a server do."""

import resource
from pathlib import Path

import pytest

from perceptd.service.telemetry.families import (
    ANSWERED_ROWS,
    BATCH_ROWS,
    CLOSED_CONNECTIONS,
    COLLECTED,
    COUNTED,
    READY,
    ROWS,
)
from perceptd.service.telemetry.metric_store import (
    EXITED_PID,
    PAGE_BYTES,
    MetricStore,
    ProcessSeries,
)


def read(store: MetricStore) -> dict[tuple[int, str, tuple[str, ...]], tuple[float, ...]]:
    return {(pid, name, labels): numbers for pid, name, labels, numbers in store.read()}


def test_every_process_sees_the_counts_of_the_others_at_once(tmp_path: Path) -> None:
    one, other = MetricStore(tmp_path, 1), MetricStore(tmp_path, 2)
    mine, theirs = one.series(ANSWERED_ROWS, "dnn", "1"), other.series(ANSWERED_ROWS, "dnn", "1")
    mine[0] += 3
    theirs[0] += 4
    name = ANSWERED_ROWS.name
    expected = {(1, name, ("dnn", "1")): (3.0,), (2, name, ("dnn", "1")): (4.0,)}
    assert read(one) == read(other) == expected
    assert one.pids() == {1, 2}


def test_the_same_labels_are_the_same_series() -> None:
    store = MetricStore(None)
    store.series(CLOSED_CONNECTIONS, "slow")[0] += 1
    store.series(CLOSED_CONNECTIONS, "slow")[0] += 1
    store.series(CLOSED_CONNECTIONS, 'a "word"\n')[0] += 1
    assert [(labels, numbers) for _, _, labels, numbers in store.read()] == [
        (("slow",), (2.0,)),
        (('a "word"\n',), (1.0,)),
    ]


def test_when_a_page_is_full_another_one_begins(tmp_path: Path) -> None:
    store = MetricStore(tmp_path, 1)
    for number in range(1000):
        store.series(BATCH_ROWS, f"model-{number}")[len(ROWS)] += number
    found = read(MetricStore(tmp_path, 2))
    assert len(found) == 1000
    assert all(
        numbers == (*[0.0] * len(ROWS), float(labels[0].partition("-")[2]), 0.0)
        for (_, _, labels), numbers in found.items()
    )
    assert len(list(tmp_path.glob("1-*.page"))) > 5


def test_of_a_process_that_exited_only_the_counters_are_kept(tmp_path: Path) -> None:
    parent = MetricStore(tmp_path, EXITED_PID)
    for pid in (1, 2):
        child = MetricStore(tmp_path, pid)
        child.series(ANSWERED_ROWS, "dnn", "1")[0] += 5
        child.series(BATCH_ROWS, "dnn")[2] += 1
        child.series(READY, str(pid))[0] = 1
    parent.absorb(1)
    parent.absorb(2)
    parent.absorb(3)  # it never counted
    numbers = [0.0] * (len(ROWS) + 2)
    numbers[2] = 2.0
    assert read(MetricStore(tmp_path, 4)) == {
        (EXITED_PID, ANSWERED_ROWS.name, ("dnn", "1")): (10.0,),
        (EXITED_PID, BATCH_ROWS.name, ("dnn",)): tuple(numbers),
    }
    assert parent.pids() == {EXITED_PID}
    assert not list(tmp_path.glob("[12]-*"))


def test_on_a_full_disk_a_process_counts_in_its_own_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE_BYTES // 2, limits[1]))
    try:
        store = MetricStore(tmp_path, 1)
        store.series(ANSWERED_ROWS, "dnn", "1")[0] += 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(store.read()) == [ProcessSeries(1, ANSWERED_ROWS.name, ("dnn", "1"), (5.0,))]
    assert list(MetricStore(tmp_path, 2).read()) == []
    assert not list(tmp_path.glob("*.page"))
    assert "File too large" in caplog.text


def test_a_page_that_is_not_complete_has_no_series(tmp_path: Path) -> None:
    one, parent = MetricStore(tmp_path, 1), MetricStore(tmp_path, EXITED_PID)
    one.series(ANSWERED_ROWS, "dnn", "1")[0] += 5
    for name, content in (("2-a-0", b""), ("3-a-0", bytes(PAGE_BYTES // 2))):
        (tmp_path / f"{name}.page").write_bytes(content)
    assert read(one) == {(1, ANSWERED_ROWS.name, ("dnn", "1")): (5.0,)}
    parent.absorb(2)
    parent.absorb(3)
    assert one.pids() == {1}


def test_names_end_with_their_unit_and_counters_with_total() -> None:
    for name, family in {**COUNTED, **COLLECTED}.items():
        assert name.startswith("perceptd_")
        assert name.endswith("_total") == (family.kind == "counter")
        assert bool(family.buckets) == (family.kind == "histogram")
        assert list(family.buckets) == sorted(family.buckets)
        if family.kind == "histogram":
            assert name.endswith(("_seconds", "_rows"))
