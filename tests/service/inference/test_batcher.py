"""The batcher on a real event loop, with networks of one line that note what they were asked."""

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from perceptd.service import logging as logs
from perceptd.service.errors import CallerGoneError, DeadlineExceededError, QueueFullError
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.batcher import Batcher, BatchResult
from perceptd.service.inference.pending import NO_CALLER, Caller

BAD = -1.0
PATIENCE_S = 10


class Network:
    """Answers each row with its own number, and cannot compute -1."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, rows: Rows) -> Answer:
        self.batches.append(rows[:, 0].tolist())
        if BAD in rows:
            raise ValueError("a bad row")
        return Answer(rows[:, 0].astype(np.intp), rows)


class SlowNetwork(Network):
    """Its first batch waits until it is told to go on; it runs in a thread, as no time is known."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, rows: Rows) -> Answer:
        answer = super().__call__(rows)
        if not self.go_on.is_set():
            self.started.set()
            assert self.go_on.wait(PATIENCE_S)
        return answer


def rows(*numbers: float) -> Rows:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def batcher(network: Network, **limits: Any) -> Batcher:
    usual = {"max_batch_size": 8, "max_batch_time_s": 0, "max_queue_size": 100}
    return Batcher(network, None, **{**usual, **limits})


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged in a test, as JSON."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.JsonFormatter("server"))
    logger = logging.getLogger("tests.batcher")
    logger.addHandler(handler)
    yield handler.stream
    logger.removeHandler(handler)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE_S))


async def busy(made: Batcher, network: SlowNetwork) -> "asyncio.Task[Answer]":
    """A request whose batch is being computed."""
    first = asyncio.create_task(made.submit(rows(0), NO_CALLER))
    await asyncio.to_thread(network.started.wait)
    return first


def submitted(made: Batcher, *numbers: float, caller: Caller = NO_CALLER) -> "asyncio.Task[Answer]":
    return asyncio.create_task(made.submit(rows(*numbers), caller))


def test_requests_of_one_turn_share_a_batch_and_each_gets_its_own_rows() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network)
        answers = await asyncio.gather(*(made.submit(rows(n, 10 + n), NO_CALLER) for n in range(4)))
        assert network.batches == [[0, 10, 1, 11, 2, 12, 3, 13]]
        assert [answer.indices.tolist() for answer in answers] == [[n, 10 + n] for n in range(4)]

    run(work())


def test_what_queues_up_while_a_batch_runs_is_the_next_batch() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        others = [submitted(made, n) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        network.go_on.set()
        await asyncio.gather(first, *others)
        assert network.batches == [[0], [1, 2, 3]]

    run(work())


def test_a_large_request_is_answered_over_several_batches_and_lets_others_in() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network)
        large, small = submitted(made, *range(20)), submitted(made, 99)
        assert (await large).indices.tolist() == list(range(20))
        assert (await small).probabilities.tolist() == [[99]]
        assert max(map(len, network.batches)) == 8
        assert network.batches[1][0] == 99  # before the rest of those who came first

    run(work())


def test_a_bad_row_fails_alone() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network)
        good, bad, other = submitted(made, 1), submitted(made, 2, BAD), submitted(made, 3)
        assert (await good).indices.tolist() == [1]
        assert (await other).indices.tolist() == [3]
        with pytest.raises(ValueError, match="a bad row"):
            await bad
        assert (await made.submit(rows(4), NO_CALLER)).indices.tolist() == [4]

    run(work())


def test_a_large_request_with_a_bad_row_is_not_computed_to_its_end() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network)
        with pytest.raises(ValueError, match="a bad row"):
            await made.submit(rows(BAD, *range(20)), NO_CALLER)
        await made.submit(rows(5), NO_CALLER)
        assert network.batches == [[BAD, *range(7)], [5]]

    run(work())


def test_a_cancelled_caller_leaves_batch_mates_answered_and_is_not_computed() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        mate, cancelled, other = submitted(made, 1), submitted(made, 2), submitted(made, 3)
        await asyncio.sleep(0)
        cancelled.cancel()
        network.go_on.set()
        await asyncio.gather(first, mate, other)
        assert network.batches == [[0], [1, 3]]
        assert cancelled.cancelled()

    run(work())


def test_a_caller_cancelled_while_its_batch_is_computed_disturbs_nobody() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first, mate = submitted(made, 1), submitted(made, 2)
        await asyncio.to_thread(network.started.wait)
        first.cancel()
        network.go_on.set()
        assert (await mate).indices.tolist() == [2]

    run(work())


def test_a_caller_who_has_gone_is_dropped_before_the_batch_is_built() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        gone = submitted(made, 1, caller=Caller(has_gone=lambda: True))
        there = submitted(made, 2)
        await asyncio.sleep(0)
        network.go_on.set()
        await asyncio.gather(first, there)
        with pytest.raises(CallerGoneError):
            await gone
        assert network.batches == [[0], [2]]

    run(work())


def test_a_deadline_passes_while_another_batch_runs_and_the_row_is_not_computed() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        loop = asyncio.get_running_loop()
        with pytest.raises(DeadlineExceededError):
            await made.submit(rows(1), Caller(deadline=loop.time() + 0.01))
        network.go_on.set()
        await first
        await made.submit(rows(2), NO_CALLER)
        assert network.batches == [[0], [2]]

    run(work())


def test_a_deadline_that_has_passed_is_refused() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network)
        with pytest.raises(DeadlineExceededError):
            await made.submit(rows(1), Caller(deadline=asyncio.get_running_loop().time() - 1))

    run(work())
    assert network.batches == []


def test_a_full_queue_refuses_at_once_and_takes_more_when_it_has_run() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network, max_queue_size=4)
        first = await busy(made, network)
        waiting = submitted(made, 1, 2, 3)
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="at most 4 rows may wait"):
            await made.submit(rows(4, 5), NO_CALLER)
        fits = submitted(made, 6)
        await asyncio.sleep(0)
        network.go_on.set()
        await asyncio.gather(first, waiting, fits)
        assert (await made.submit(rows(4, 5), NO_CALLER)).indices.tolist() == [4, 5]

    run(work())


def test_an_empty_queue_takes_a_request_of_any_size() -> None:
    async def work() -> None:
        made = batcher(Network(), max_queue_size=4)
        assert len((await made.submit(rows(*range(30)), NO_CALLER)).indices) == 30

    run(work())


def test_max_batch_time_waits_for_company_but_not_for_more_than_a_batch() -> None:
    network = Network()

    async def work() -> None:
        made = batcher(network, max_batch_time_s=0.05)
        first = submitted(made, 1)
        for _ in range(3):
            await asyncio.sleep(0)
        second = submitted(made, 2)
        await asyncio.gather(first, second)
        assert network.batches == [[1, 2]]
        made = batcher(network, max_batch_time_s=PATIENCE_S * 2)
        await made.submit(rows(*range(8)), NO_CALLER)

    run(work())


def test_an_answer_that_cannot_be_delivered_leaves_the_others_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(outcome: object) -> None:
        raise OSError("nobody listens")

    async def work() -> None:
        made = batcher(Network())
        made.enqueue(rows(1), broken, NO_CALLER)
        assert (await made.submit(rows(2), NO_CALLER)).indices.tolist() == [2]

    run(work())
    assert "could not be delivered" in caplog.text


def test_quick_batches_run_on_the_event_loop_and_slow_ones_off_it() -> None:
    threads: list[threading.Thread] = []

    def noted(batch: Rows) -> Answer:
        threads.append(threading.current_thread())
        return Network()(batch)

    async def work() -> None:
        made = Batcher(noted, None, max_batch_size=8, max_batch_time_s=0, max_queue_size=100)
        for _ in range(3):
            await made.submit(rows(1), NO_CALLER)

    run(work())
    assert [thread is threading.main_thread() for thread in threads] == [False, True, True]


def test_observers_are_told_of_each_batch_and_cannot_break_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[BatchResult] = []
    delivered: list[float] = []

    def broken(ran: BatchResult) -> None:
        raise RuntimeError("the observer's own fault")

    async def work() -> None:
        observers = [broken, lambda ran: told.append(ran)]
        limits = {"max_batch_size": 4, "max_batch_time_s": 0, "max_queue_size": 100}
        made = Batcher(Network(), None, **limits, observers=observers)
        task = submitted(made, 1, 2, 3, 4, 5)
        other = submitted(made, BAD, 7)
        answer = await task
        delivered.extend(answer.indices.tolist())
        with pytest.raises(ValueError, match="a bad row"):
            await other

    run(work())
    assert delivered == [1, 2, 3, 4, 5]
    assert [ran.rows[:, 0].tolist() for ran in told] == [[1, 2, 3, 4], [5]]
    assert all(ran.answer.indices.tolist() == ran.rows[:, 0].tolist() for ran in told)
    assert [[len(waiting.rows) for waiting in ran.requests] for ran in told] == [[5], [5]]
    assert all(ran.requests[0].came <= ran.began <= ran.ended for ran in told)
    assert caplog.text.count("could not be observed") == 2


def test_what_a_batch_logs_is_about_none_of_its_requests(stream: io.StringIO) -> None:
    def observer(ran: BatchResult) -> None:
        logging.getLogger("tests.batcher").error("seen")

    async def work() -> None:
        limits = {"max_batch_size": 1, "max_batch_time_s": 0, "max_queue_size": 100}
        made = Batcher(Network(), None, **limits, observers=[observer])
        with logs.about(request_id="of one caller"):
            await asyncio.gather(made.submit(rows(1), NO_CALLER), made.submit(rows(2), NO_CALLER))
            logging.getLogger("tests.batcher").error("answered")

    run(work())
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in told] == ["seen", "seen", "answered"]
    assert ["request_id" in line for line in told] == [False, False, True]


def test_deadlines_that_pass_under_load_leave_everybody_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller is cancelled one turn of the loop before it can say so."""

    def slow(batch: Rows) -> Answer:
        time.sleep(0.004)  # the network computes
        return Network()(batch)

    async def work(seed: int) -> None:
        made = Batcher(slow, None, max_batch_size=2, max_batch_time_s=0, max_queue_size=1000)
        loop, random = asyncio.get_running_loop(), np.random.default_rng(seed)
        callers = [
            Caller(loop.time() + random.uniform(0.005, 0.06)) if n % 2 else NO_CALLER
            for n in range(40)
        ]
        outcomes = await asyncio.gather(
            *(made.submit(rows(n), caller) for n, caller in enumerate(callers)),
            return_exceptions=True,
        )
        for n, outcome in enumerate(outcomes):
            if isinstance(outcome, Answer):
                assert outcome.indices.tolist() == [n]
            else:
                assert isinstance(outcome, DeadlineExceededError | QueueFullError)
                assert callers[n].deadline is not None
        assert (await made.submit(rows(7), NO_CALLER)).indices.tolist() == [7]

    for seed in range(5):
        run(work(seed))
    assert caplog.records == []


def test_a_full_batch_in_the_moment_in_which_the_time_is_up_is_answered_whole() -> None:
    async def work() -> None:
        made = batcher(Network(), max_batch_time_s=0.01)
        first = submitted(made, 100)
        await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - the timer is due, and fires in the turn of what follows
        large = submitted(made, *range(14))
        assert (await large).indices.tolist() == list(range(14))
        assert (await first).indices.tolist() == [100]

    for _ in range(20):
        run(work())


def test_without_a_thread_for_it_a_batch_fails_and_the_next_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none_left(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    async def work() -> None:
        made = batcher(Network())
        with monkeypatch.context() as patched:
            patched.setattr("perceptd.service.inference.batcher.to_thread.run_sync", none_left)
            with pytest.raises(RuntimeError, match="new thread"):
                await made.submit(rows(1), NO_CALLER)
        assert (await made.submit(rows(2), NO_CALLER)).indices.tolist() == [2]

    run(work())


def test_a_caller_who_cannot_be_asked_is_taken_to_be_there() -> None:
    def broken() -> bool:
        raise OSError("no such connection")

    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        second = submitted(made, 1, caller=Caller(has_gone=broken))
        await asyncio.sleep(0)
        network.go_on.set()
        await asyncio.gather(first, second)

    run(work())


def drains_at(made: Batcher, row_s: float) -> None:
    """Have it know how fast it is."""
    made._drain_rate.row_s = row_s


def test_who_would_wait_too_long_is_refused_at_once_with_when_to_come_again() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network, max_queue_wait_s=2.0)
        drains_at(made, 1.0)
        first = await busy(made, network)
        waiting = submitted(made, 1)
        await asyncio.sleep(0)
        fits = submitted(made, 2, 3)  # behind a second or two
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="waits 2000 ms at most") as refused:
            await made.submit(rows(4), NO_CALLER)
        assert refused.value.retry_after_s in (3, 4)
        network.go_on.set()
        await asyncio.gather(first, waiting, fits)

    run(work())


def test_who_could_be_answered_only_after_its_deadline_is_refused_at_once() -> None:
    network = SlowNetwork()

    async def work() -> None:
        made = batcher(network)
        first = await busy(made, network)
        waiting = submitted(made, 1)
        await asyncio.sleep(0)
        drains_at(made, 60.0)
        soon = Caller(deadline=asyncio.get_running_loop().time() + 30)
        with pytest.raises(QueueFullError, match="within the time"):
            await made.submit(rows(2), soon)
        network.go_on.set()
        await asyncio.gather(first, waiting)

    run(work())


def test_an_estimate_from_worse_days_does_not_refuse_for_ever() -> None:
    async def work() -> None:
        made = batcher(Network(), max_queue_wait_s=1.0)
        drains_at(made, 3600.0)
        assert (await made.submit(rows(1), NO_CALLER)).indices.tolist() == [1]
        answers = await asyncio.gather(*(made.submit(rows(n), NO_CALLER) for n in range(20)))
        assert len(answers) == 20

    run(work())


def test_how_fast_a_queue_is_worked_off_is_seen_while_there_is_one() -> None:
    async def work() -> None:
        made = batcher(Network())
        assert made._drain_rate.row_s == 0
        await asyncio.gather(*(made.submit(rows(n), NO_CALLER) for n in range(40)))
        assert 0 < made._drain_rate.row_s < 1

    run(work())
