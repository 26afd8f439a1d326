"""A worker is stopped for longer than its lease, another takes its job, and the first goes on."""

import signal

import pytest

from tests.reliability.load import fault
from tests.service.site import Site, assert_one_whole_version, is_gone, kill, opened
from tests.service.staged import SELF
from tests.waiting import eventually

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("stage", ["mid-epoch", "gated"])
def test_a_worker_that_lost_its_job_changes_nothing_and_takes_the_next(
    site: Site, stage: str, undisturbed: str
) -> None:
    site.serve()
    first = site.start(*SELF, "worker", stage=stage)
    number = site.post()
    process, _ = site.reached()

    with fault(site.url):
        first.send_signal(signal.SIGSTOP)
        second = site.start(*SELF, "worker")
        assert_one_whole_version(site, number, undisturbed)
        site.go_on()  # it tries to write, which must fail
        first.send_signal(signal.SIGCONT)
        lost = f"job {number} is no longer held by"
        eventually(lambda: site.said(lost) > 0, "the first worker loses its job", log=site.log)
        if stage == "mid-epoch":
            eventually(lambda: is_gone(process), "its training ends", log=site.log)
        assert_one_whole_version(site, number, undisturbed)
        with opened(site.settings) as (jobs, _):
            assert jobs.get(number).attempts >= 2
        kill(second.pid)
        second.wait()
        next_one = site.ended(site.post(seed=4))

    assert (next_one.status, next_one.version) == ("succeeded", 3)
