"""The batcher on a real event loop, with small functions as networks."""

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import pytest

from perceptd.service import logging as logs
from perceptd.service.errors import CallerGoneError, DeadlineExceededError, QueueFullError
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.batcher import Batcher, BatchResult, DrainRate
from perceptd.service.inference.pending import NO_CALLER, Caller

BAD = -1.0
TIMEOUT_S = 10
Parameters = ParamSpec("Parameters")
Submitted = asyncio.Future[Answer]


def on_a_loop(test: Callable[Parameters, Coroutine[Any, Any, None]]) -> Callable[Parameters, None]:
    """Runs a test on an event loop, for `TIMEOUT_S` at most."""

    @wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TIMEOUT_S))

    return run


class Network:
    """Answers each row with its own number; fails at -1."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, rows: Rows) -> Answer:
        self.batches.append(rows[:, 0].tolist())
        if BAD in rows:
            raise ValueError("a bad row")
        return Answer(rows[:, 0].astype(np.intp), rows)


class SlowNetwork(Network):
    """Its first batch runs until `go_on` is set. It runs in a thread, as no time is known yet."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, rows: Rows) -> Answer:
        answer = super().__call__(rows)
        if not self.go_on.is_set():
            self.started.set()
            assert self.go_on.wait(TIMEOUT_S)
        return answer


def rows(*numbers: float) -> Rows:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def batcher_of(network: Callable[[Rows], Answer], **limits: Any) -> Batcher:
    usual = {"max_batch_size": 8, "max_batch_time_s": 0, "max_queue_size": 100}
    return Batcher(network, None, **{**usual, **limits})


async def submit(batcher: Batcher, *numbers: float, caller: Caller = NO_CALLER) -> Submitted:
    """A request that waits in the queue."""
    waiting = batcher.submit(rows(*numbers), caller)
    await asyncio.sleep(0)
    return waiting


async def submit_running(batcher: Batcher, network: SlowNetwork) -> Submitted:
    """A request whose batch runs."""
    waiting = await submit(batcher, 0)
    await asyncio.to_thread(network.started.wait)
    return waiting


@pytest.fixture
def log_stream() -> Iterator[io.StringIO]:
    """What a test logs, as JSON."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.JsonFormatter("server"))
    logger = logging.getLogger("tests.batcher")
    logger.addHandler(handler)
    yield handler.stream
    logger.removeHandler(handler)


@on_a_loop
async def test_requests_of_one_turn_share_a_batch_and_each_gets_its_own_rows() -> None:
    network = Network()
    batcher = batcher_of(network)
    answers = await asyncio.gather(*(batcher.submit(rows(n, 10 + n), NO_CALLER) for n in range(4)))
    assert network.batches == [[0, 10, 1, 11, 2, 12, 3, 13]]
    assert [answer.indices.tolist() for answer in answers] == [[n, 10 + n] for n in range(4)]


@on_a_loop
async def test_requests_that_arrive_while_a_batch_runs_are_the_next_batch() -> None:
    network = SlowNetwork()
    batcher = batcher_of(network)
    first = await submit_running(batcher, network)
    others = [await submit(batcher, n) for n in (1, 2, 3)]
    network.go_on.set()
    await asyncio.gather(first, *others)
    assert network.batches == [[0], [1, 2, 3]]


@on_a_loop
async def test_a_large_request_is_answered_over_several_batches_with_others_in_between() -> None:
    network = Network()
    batcher = batcher_of(network)
    large, small = (batcher.submit(rows(*numbers), NO_CALLER) for numbers in (range(20), [99]))
    assert (await large).indices.tolist() == list(range(20))
    assert (await small).probabilities.tolist() == [[99]]
    assert max(map(len, network.batches)) == 8
    assert network.batches[1][0] == 99


@on_a_loop
async def test_a_bad_row_fails_its_own_request_only() -> None:
    batcher = batcher_of(Network())
    good, bad, other, later = await asyncio.gather(
        *(batcher.submit(rows(*numbers), NO_CALLER) for numbers in ([1], [2, BAD], [3], [4])),
        return_exceptions=True,
    )
    assert isinstance(bad, ValueError)
    answers = [one.indices.tolist() for one in (good, other, later) if isinstance(one, Answer)]
    assert answers == [[1], [3], [4]]


@on_a_loop
async def test_the_rest_of_a_large_request_with_a_bad_row_is_not_computed() -> None:
    network = Network()
    batcher = batcher_of(network)
    with pytest.raises(ValueError, match="a bad row"):
        await batcher.submit(rows(BAD, *range(20)), NO_CALLER)
    await batcher.submit(rows(5), NO_CALLER)
    assert network.batches == [[BAD, *range(7)], [5]]


@on_a_loop
async def test_rows_of_callers_that_left_the_queue_are_not_computed() -> None:
    network = SlowNetwork()
    batcher = batcher_of(network)
    first = await submit_running(batcher, network)
    cancelled = await submit(batcher, 1)
    gone = await submit(batcher, 2, caller=Caller(has_gone=lambda: True))
    waiting = await submit(batcher, 3)
    cancelled.cancel()
    soon = Caller(deadline=asyncio.get_running_loop().time() + 0.01)
    with pytest.raises(DeadlineExceededError):
        await batcher.submit(rows(4), soon)
    network.go_on.set()
    await asyncio.gather(first, waiting)
    with pytest.raises(CallerGoneError):
        await gone
    assert cancelled.cancelled()
    assert network.batches == [[0], [3]]


@on_a_loop
async def test_a_caller_that_cannot_be_checked_is_answered() -> None:
    def broken() -> bool:
        raise OSError("no such connection")

    network = SlowNetwork()
    batcher = batcher_of(network)
    first = await submit_running(batcher, network)
    second = await submit(batcher, 1, caller=Caller(has_gone=broken))
    network.go_on.set()
    await asyncio.gather(first, second)


@on_a_loop
async def test_a_caller_that_is_cancelled_while_its_batch_runs_leaves_the_others_answered() -> None:
    network = SlowNetwork()
    batcher = batcher_of(network)
    first, other = (batcher.submit(rows(n), NO_CALLER) for n in (1, 2))
    await asyncio.to_thread(network.started.wait)
    first.cancel()
    network.go_on.set()
    assert (await other).indices.tolist() == [2]


@on_a_loop
async def test_a_request_whose_deadline_has_passed_is_not_computed() -> None:
    network = Network()
    passed = Caller(deadline=asyncio.get_running_loop().time() - 1)
    with pytest.raises(DeadlineExceededError):
        await batcher_of(network).submit(rows(1), passed)
    assert network.batches == []


def test_callers_with_and_without_deadlines_are_all_answered_under_load(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller is cancelled one turn of the loop before its task runs again."""

    def slow(batch: Rows) -> Answer:
        time.sleep(0.004)  # the network computes
        return Network()(batch)

    @on_a_loop
    async def ask(seed: int) -> None:
        batcher = batcher_of(slow, max_batch_size=2, max_queue_size=1000)
        loop, random = asyncio.get_running_loop(), np.random.default_rng(seed)
        callers = [
            Caller(loop.time() + random.uniform(0.005, 0.06)) if n % 2 else NO_CALLER
            for n in range(40)
        ]
        outcomes = await asyncio.gather(
            *(batcher.submit(rows(n), caller) for n, caller in enumerate(callers)),
            return_exceptions=True,
        )
        for n, outcome in enumerate(outcomes):
            if isinstance(outcome, Answer):
                assert outcome.indices.tolist() == [n]
            else:
                assert isinstance(outcome, DeadlineExceededError | QueueFullError)
                assert callers[n].deadline is not None
        assert (await batcher.submit(rows(7), NO_CALLER)).indices.tolist() == [7]

    for seed in range(5):
        ask(seed)
    assert caplog.records == []


@on_a_loop
async def test_a_full_queue_refuses_requests_until_there_is_room() -> None:
    network = SlowNetwork()
    batcher = batcher_of(network, max_queue_size=4)
    first = await submit_running(batcher, network)
    waiting = await submit(batcher, 1, 2, 3)
    with pytest.raises(QueueFullError, match="at most 4 rows may wait"):
        await batcher.submit(rows(4, 5), NO_CALLER)
    fits = await submit(batcher, 6)
    network.go_on.set()
    await asyncio.gather(first, waiting, fits)
    assert (await batcher.submit(rows(4, 5), NO_CALLER)).indices.tolist() == [4, 5]


@on_a_loop
async def test_an_empty_queue_takes_a_request_of_any_size() -> None:
    batcher = batcher_of(Network(), max_queue_size=4)
    assert len((await batcher.submit(rows(*range(30)), NO_CALLER)).indices) == 30


@on_a_loop
async def test_a_request_that_would_wait_too_long_is_refused_with_a_time_to_retry() -> None:
    network = SlowNetwork()
    batcher = batcher_of(
        network, max_batch_size=1, max_queue_wait_s=2.0, drain_rate=DrainRate(row_s=1.0)
    )
    first = await submit_running(batcher, network)
    waiting = await submit(batcher, 1)
    fits = await submit(batcher, 2, 3)  # waits for one or two rows of a second each
    with pytest.raises(QueueFullError, match="estimated wait exceeds 2000 ms") as refused:
        await batcher.submit(rows(4), NO_CALLER)
    assert refused.value.retry_after_s in (3, 4)
    network.go_on.set()
    await asyncio.gather(first, waiting, fits)


@on_a_loop
async def test_what_fits_into_the_next_batch_is_not_refused_for_its_wait() -> None:
    network = SlowNetwork()
    batcher = batcher_of(
        network, max_batch_size=2, max_queue_wait_s=1.0, drain_rate=DrainRate(row_s=60.0)
    )
    first = await submit_running(batcher, network)
    waiting = [await submit(batcher, 1), await submit(batcher, 2)]
    with pytest.raises(QueueFullError, match="estimated wait"):
        await batcher.submit(rows(3), NO_CALLER)
    network.go_on.set()
    await asyncio.gather(first, *waiting)


@on_a_loop
async def test_a_request_that_would_miss_its_deadline_is_refused() -> None:
    network = SlowNetwork()
    batcher = batcher_of(network, drain_rate=DrainRate(row_s=60.0))
    first = await submit_running(batcher, network)
    waiting = await submit(batcher, 1)
    soon = Caller(deadline=asyncio.get_running_loop().time() + 30)
    with pytest.raises(QueueFullError, match="exceeds the request's deadline"):
        await batcher.submit(rows(2), soon)
    network.go_on.set()
    await asyncio.gather(first, waiting)


@on_a_loop
async def test_an_estimate_that_is_too_high_is_corrected() -> None:
    batcher = batcher_of(Network(), max_queue_wait_s=1.0, drain_rate=DrainRate(row_s=3600.0))
    assert (await batcher.submit(rows(1), NO_CALLER)).indices.tolist() == [1]
    answers = await asyncio.gather(*(batcher.submit(rows(n), NO_CALLER) for n in range(20)))
    assert len(answers) == 20


@on_a_loop
async def test_the_drain_rate_is_measured_while_requests_wait() -> None:
    rate = DrainRate()
    batcher = batcher_of(Network(), drain_rate=rate)
    await asyncio.gather(*(batcher.submit(rows(n), NO_CALLER) for n in range(40)))
    assert 0 < rate.row_s < 1


@on_a_loop
async def test_a_batch_starts_after_max_batch_time_or_when_it_is_full() -> None:
    network = Network()
    batcher = batcher_of(network, max_batch_time_s=0.05)
    first = await submit(batcher, 1)
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.gather(first, await submit(batcher, 2))
    assert network.batches == [[1, 2]]
    batcher = batcher_of(network, max_batch_time_s=2 * TIMEOUT_S)
    await batcher.submit(rows(*range(8)), NO_CALLER)


@pytest.mark.parametrize("_", range(20))
@on_a_loop
async def test_a_batch_that_is_full_when_its_time_is_up_is_answered_whole(_: int) -> None:
    batcher = batcher_of(Network(), max_batch_time_s=0.01)
    first = await submit(batcher, 100)
    time.sleep(0.02)  # noqa: ASYNC251 - the timer is due, and fires in the next turn
    large = await submit(batcher, *range(14))
    assert (await large).indices.tolist() == list(range(14))
    assert (await first).indices.tolist() == [100]


@on_a_loop
async def test_quick_batches_run_on_the_event_loop_and_slow_ones_in_a_thread() -> None:
    is_main: list[bool] = []

    def network(batch: Rows) -> Answer:
        is_main.append(threading.current_thread() is threading.main_thread())
        return Network()(batch)

    batcher = batcher_of(network)
    for _ in range(3):
        await batcher.submit(rows(1), NO_CALLER)
    assert is_main == [False, True, True]  # no time is known of the first


@on_a_loop
async def test_without_a_thread_for_it_a_batch_fails_and_the_next_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none_left(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    batcher = batcher_of(Network())
    with monkeypatch.context() as patched:
        patched.setattr("perceptd.service.inference.batcher.to_thread.run_sync", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            await batcher.submit(rows(1), NO_CALLER)
    assert (await batcher.submit(rows(2), NO_CALLER)).indices.tolist() == [2]


@on_a_loop
async def test_observers_see_each_batch_and_their_errors_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[BatchResult] = []

    def broken(batch: BatchResult) -> None:
        raise RuntimeError("the observer's own fault")

    batcher = batcher_of(Network(), max_batch_size=4, observers=[broken, seen.append])
    answer, error = await asyncio.gather(
        *(batcher.submit(rows(*numbers), NO_CALLER) for numbers in (range(1, 6), [BAD, 7])),
        return_exceptions=True,
    )
    assert isinstance(answer, Answer)
    assert answer.indices.tolist() == [1, 2, 3, 4, 5]
    assert isinstance(error, ValueError)
    assert [batch.rows[:, 0].tolist() for batch in seen] == [[1, 2, 3, 4], [5]]
    assert all(batch.answer.indices.tolist() == batch.rows[:, 0].tolist() for batch in seen)
    assert [[len(one.rows) for one in batch.requests] for batch in seen] == [[5], [5]]
    assert all(batch.requests[0].arrived <= batch.began <= batch.ended for batch in seen)
    assert caplog.text.count("an observer of batches failed") == 2


@on_a_loop
async def test_a_batch_logs_as_none_of_its_requests(log_stream: io.StringIO) -> None:
    def observer(batch: BatchResult) -> None:
        logging.getLogger("tests.batcher").error("seen")

    batcher = batcher_of(Network(), max_batch_size=1, observers=[observer])
    with logs.about(request_id="of one caller"):
        await asyncio.gather(*(batcher.submit(rows(n), NO_CALLER) for n in (1, 2)))
        logging.getLogger("tests.batcher").error("answered")
    lines = [json.loads(line) for line in log_stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["seen", "seen", "answered"]
    assert ["request_id" in line for line in lines] == [False, False, True]
