"""A training that runs out of memory ends with one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perceptd.training.errors import memory_shortage

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux applies RLIMIT_DATA to all memory"
)

# The limit is the memory in use after the imports, plus the given number of MB.
PROGRAM = """
import re, resource, sys
from pathlib import Path
import sklearn.datasets, sklearn.model_selection
import perceptd.training.commands, perceptd.training.importing, perceptd.training.run
from perceptd.__main__ import main
taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
limit = taken + (int(sys.argv.pop(1)) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
main()
"""
WIDE = ["train", "mnist-cnn", "--set", "channels=[1024,1024]"]
WIDE += ["--dataset", "digits", "--epochs", "1"]


def limited(megabytes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(megabytes), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [2, 30, 300])
def test_shortage_is_one_sentence_and_nothing_is_left(megabytes: int, tmp_path: Path) -> None:
    outcome = limited(megabytes, *WIDE, "--out", tmp_path / "out")

    assert outcome.returncode == 1, outcome.stderr
    assert outcome.stderr.startswith("Error: not enough memory")
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), ""),
        (
            MemoryError("Unable to allocate 3.5 GiB for an array"),
            "Unable to allocate 3.5 GiB for an array",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "CUDA out of memory",
        ),
        (ImportError("libtorch.so: failed to map segment"), "libtorch.so: failed to map segment"),
        (RuntimeError("the weights do not fit"), None),
    ],
)
def test_shortage_is_distinguished_from_other_failures(
    error: Exception, message: str | None
) -> None:
    assert memory_shortage(error) == message


def test_shortage_that_was_wrapped_is_found() -> None:
    wrapped = ValueError("the module cannot be exported")
    wrapped.__cause__ = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4615831552 bytes. Error code 12 (Cannot allocate memory)"
    )

    assert memory_shortage(wrapped) == "you tried to allocate 4615831552 bytes"
