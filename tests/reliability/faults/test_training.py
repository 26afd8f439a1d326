"""A training process hangs, eats memory, prints garbage, forks, or makes something else."""

import os
import signal
from pathlib import Path

import pytest

from perceptd.service.jobs.queue import Job
from perceptd.service.worker.recorder import MAX_EVENTS
from tests.reliability.faults.misbehaving import MISBEHAVIOURS, SELF
from tests.reliability.load import fault
from tests.service.site import Site, is_gone, opened
from tests.waiting import eventually

pytestmark = pytest.mark.faults

MEMORY_MB = 1024  # that a training may take
WORKER_MB = 400  # that its worker takes at most, whatever the training says

FAILS = {
    "hang": ("training_stalled", "its training stalled: no output for 2 s"),
    "close_stdout": ("training_stalled", "its training stalled: no output for 2 s"),
    "leave_nothing": ("registration_failed", "left no checkpoint"),
    "eat_memory": ("training_failed", "MemoryError"),
    "make_another": ("registration_failed", "its training made a perceptron, expected a dnn"),
    "make_other_labels": ("registration_failed", "the checkpoint has ('ring', 'disc')"),
    "make_half": ("registration_failed", "model.safetensors was altered"),
}


def misbehave(site: Site, how: str) -> tuple[Job, int]:
    """A job whose training misbehaves, once it has ended, and its worker."""
    worker = site.start(
        *SELF,
        "worker",
        MISBEHAVIOUR=how,
        PERCEPTD_LEASE_S="60",
        PERCEPTD_MAX_ATTEMPTS="2",
        PERCEPTD_MAX_SILENCE_S="2" if FAILS.get(how, ("",))[0] == "training_stalled" else "600",
        PERCEPTD_TRAIN_MEMORY_MB=str(MEMORY_MB),
    )
    number = site.post(gate="always")
    return site.ended(number), worker.pid


@pytest.mark.parametrize("how", FAILS)
def test_a_misbehaving_training_fails_with_its_reason_and_production_stays(
    site: Site, how: str
) -> None:
    site.serve()
    with fault(site.url):
        job, worker = misbehave(site, how)

    code, reason = FAILS[how]
    assert (job.status, job.code, job.version) == ("failed", code, None)
    assert reason in str(job.reason)
    assert str(site.settings.data_dir) not in str(job)
    assert job.attempts == (2 if code == "training_stalled" else 1)
    assert site.ask("GET", "/models/dnn").json()["version"] == 1
    folder = site.settings.data_dir / "jobs"
    eventually(lambda: not [*folder.iterdir()], "the job's folder is removed", log=site.log)
    assert children_of(worker) == []
    assert {path.name for path in (site.settings.data_dir / "checkpoints/dnn").iterdir()} == {"1"}


def test_garbage_fills_neither_memory_nor_store(site: Site) -> None:
    site.serve()
    with fault(site.url):
        job, worker = misbehave(site, "print_garbage")

    assert (job.status, job.promotion) == ("succeeded", "promoted"), job.reason
    with opened(site.settings) as (jobs, _):
        kinds = [event.kind for event in jobs.events(job.id)]
    assert {kind: kinds.count(kind) for kind in ("log", "epoch")} == {
        kind: MAX_EVENTS[kind] for kind in ("log", "epoch")
    }
    peak = Path(f"/proc/{worker}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) / 1024 < WORKER_MB


def test_children_neither_outlive_their_training_nor_delay_its_job(site: Site) -> None:
    site.serve()
    with fault(site.url):
        job, _ = misbehave(site, "leave_children")

    near, far = map(int, (site.folder / "children").read_text().split())
    assert (job.status, job.promotion) == ("succeeded", "promoted"), job.reason
    try:
        assert is_gone(near)
    finally:
        os.kill(far, signal.SIGKILL)  # in a session of its own it is out of reach


def test_every_misbehaviour_is_tried() -> None:
    assert {*FAILS, "print_garbage", "leave_children"} == {*MISBEHAVIOURS}


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()
