"""The processes of the service, which stop at a stage and wait to be killed.

`python -m tests.service.staged worker|serve|training ...` runs the real program. The first process
that reaches the stage in STAGE writes its id to `reached` in STAGE_DIR, and continues when there is
a file `go`.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

IN_TRAINING = ("first epoch", "mid-epoch", "writing")
IN_WORKER = ("claimed", "registered", "gated", "promoting")
SELF = (sys.executable, "-m", "tests.service.staged")


def pause(stage: str) -> None:
    folder = Path(os.environ["STAGE_DIR"])
    if os.environ["STAGE"] != stage or (folder / "reached").exists():
        return
    unfinished = folder / "unfinished"
    unfinished.write_text(f"{os.getpid()} {os.getppid()}")
    unfinished.rename(folder / "reached")
    tick = threading.Event()
    while not (folder / "go").exists():
        tick.wait(0.02)  # libfaketime refuses a sleep after its clock has jumped


def pausing(stage: str, function: Callable[..., Any], *, after: int = 0) -> Callable[..., Any]:
    """The function, pausing before each call after the first `after` ones."""
    calls = 0

    def paused(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            pause(stage)
        return function(*arguments, **named)

    return paused


def worker() -> None:
    from perceptd.__main__ import main
    from perceptd.service.jobs.claims import Claims
    from perceptd.service.worker.attempt import Attempt
    from perceptd.service.worker.publishing import Publisher
    from perceptd.service.worker.worker import Worker

    Worker.__init__.__defaults__ = ((*SELF, "training", "--stop-on-eof"),)
    for owner, name, stage in (
        (Attempt, "run", "claimed"),
        (Publisher, "register", "registering"),
        (Publisher, "publish", "registered"),
        (Publisher, "end", "gated"),
        (Claims, "succeed", "promoting"),
    ):
        setattr(owner, name, pausing(stage, getattr(owner, name)))
    sys.argv = ["perceptd", "worker", *sys.argv[2:]]
    main()


def serve() -> None:
    from importlib import import_module

    from perceptd.__main__ import main
    from perceptd.service.supervisor import Program

    command: Any = import_module("perceptd.service.commands.serve")
    command.WORKER = Program("worker", (*SELF, "worker", "--stop-on-eof"))
    sys.argv = ["perceptd", "serve"]
    main()


def training() -> None:
    import perceptd.training.train
    from perceptd.__main__ import main
    from perceptd.models import export

    loop: Any = perceptd.training.train
    loop.SAVE_S = 0.0
    loop.loss_of = pausing("first epoch", loop.loss_of)
    loop.loss_of = pausing("mid-epoch", loop.loss_of, after=35)  # of ten steps an epoch
    export.export = pausing("writing", export.export)
    sys.argv = ["perceptd", *sys.argv[2:]]
    main()


if __name__ == "__main__":
    {"worker": worker, "serve": serve, "training": training}[sys.argv[1]]()
