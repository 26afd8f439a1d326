"""The clock of the machine jumps while a job runs and predictions are asked for."""

import threading

import pytest

from perceptd.service.api.callers import TIMEOUT_HEADER
from tests.reliability.faults.clock import Clock
from tests.reliability.load import BODY, fault
from tests.service.site import Site, assert_one_whole_version, kill
from tests.service.staged import SELF

pytestmark = pytest.mark.faults


@pytest.fixture
def clock(site: Site) -> Clock:
    return Clock(site.folder)


@pytest.mark.parametrize("offset", ["+1h", "-1h", "+1d", "-1d"])
def test_a_job_ends_once_and_deadlines_and_streams_are_kept(
    site: Site, clock: Clock, offset: str, undisturbed: str
) -> None:
    site.serve(0, **clock.variables)
    site.start(*SELF, "worker", stage="mid-epoch", **clock.variables)
    number = site.post()
    site.reached()
    site.start(*SELF, "worker", **clock.variables)
    streamed: list[str] = []
    stream = threading.Thread(
        target=lambda: streamed.append(site.ask("GET", f"/jobs/{number}/events").text)
    )

    with fault(site.url):
        stream.start()
        clock.jump(offset)
        for _ in range(20):
            answer = site.ask("POST", "/predict", BODY, {TIMEOUT_HEADER: "5000"})
            assert answer.status_code == 200, answer.text
        site.go_on()
        assert_one_whole_version(site, number, undisturbed)
        stream.join()
        assert site.ask("GET", "/models/dnn").json()["version"] == 2

    assert streamed[0].count('"succeeded"') == 1


def test_a_lost_job_is_resumed_after_the_clock_is_set_back(
    site: Site, clock: Clock, undisturbed: str
) -> None:
    site.serve(0, **clock.variables)
    worker = site.start(*SELF, "worker", stage="mid-epoch", **clock.variables)
    number = site.post()
    site.reached()
    kill(worker.pid)
    worker.wait()

    with fault(site.url):
        clock.jump("-1d")
        site.start(*SELF, "worker", **clock.variables)
        assert_one_whole_version(site, number, undisturbed)
