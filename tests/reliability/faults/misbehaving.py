"""A real worker whose trainings misbehave.

`python -m tests.reliability.faults.misbehaving worker` runs it; MISBEHAVIOUR names what its
trainings do. What they are asked for otherwise, as a measurement, the real program does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from perceptd.models import checkpoint
from perceptd.service.store.repository import PRETRAINED

SELF = (sys.executable, "-m", "tests.reliability.faults.misbehaving")
EPOCH = {"event": "epoch", "epochs": 9, "loss": 0.5, "test_loss": 0.6, "test_accuracy": 0.7}
EPOCH |= {"seconds": 0.1, "seconds_left": 0.2}
LINES = 200_000


def hang() -> None:
    print(json.dumps({**EPOCH, "epoch": 1}), flush=True)
    os.kill(os.getpid(), 19)  # SIGSTOP


def close_stdout() -> None:
    os.close(1)
    os.close(2)
    time.sleep(600)


def leave_nothing() -> None:
    pass


def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**24)


def make_another() -> None:
    """A whole checkpoint of another network with the same input and labels."""
    checkpoint.copy(PRETRAINED / "perceptron", Path("checkpoint"))


def make_other_labels() -> None:
    checkpoint.copy(PRETRAINED / "dnn", Path("checkpoint"))
    meta = json.loads((Path("checkpoint") / checkpoint.META).read_text())
    meta["spec"]["labels"] = ["ring", "disc"]
    (Path("checkpoint") / checkpoint.META).write_text(json.dumps(meta))


def make_half() -> None:
    make_right()
    weights = Path("checkpoint") / checkpoint.WEIGHTS
    os.truncate(weights, weights.stat().st_size // 2)


def make_right() -> None:
    checkpoint.copy(PRETRAINED / "dnn", Path("checkpoint"))


def print_garbage() -> None:
    """Bytes that are no text, lines without an end, events that are none, and a flood of those."""
    out = sys.stdout.buffer
    out.write(b"\xff\xfe\0" * 1000 + b"\n")
    out.write(b'{"event": "epoch", "epoch": 1,\n')
    out.write(b'{"event": ' + b"[" * 60_000 + b"\n")
    out.write(b'{"event": "epoch", "epoch": "' + b"9" * 5000 + b'"}\n')
    out.write(b"x" * 50_000_000 + b"\n")
    for number in range(LINES):
        out.write(json.dumps({**EPOCH, "epoch": number + 1}).encode() + b"\n")
        out.write(b'{"event": "metrics", "x": 1}\n{"event": "nonsense"}\nline\n')
    out.flush()
    make_right()


def leave_children() -> None:
    """One in its own group, and one out of reach that holds its output open."""
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    near = subprocess.Popen(program)
    far = subprocess.Popen(program, start_new_session=True)
    (Path(os.environ["STAGE_DIR"]) / "children").write_text(f"{near.pid} {far.pid}")
    make_right()


MISBEHAVIOURS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        hang,
        close_stdout,
        leave_nothing,
        eat_memory,
        make_another,
        make_other_labels,
        make_half,
        print_garbage,
        leave_children,
    )
}


def worker() -> None:
    from perceptd.__main__ import main
    from perceptd.service.worker.worker import Worker

    Worker.__init__.__defaults__ = ((*SELF, "training", "--stop-on-eof"),)
    sys.argv = ["perceptd", "worker"]
    main()


def training() -> None:
    from perceptd.__main__ import main

    sys.argv = ["perceptd", *sys.argv[2:]]
    if "evaluate" in sys.argv:
        main()
    else:
        MISBEHAVIOURS[os.environ["MISBEHAVIOUR"]]()


if __name__ == "__main__":
    {"worker": worker, "training": training}[sys.argv[1]]()
