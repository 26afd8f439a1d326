"""`perceptd` as a shell runs it, but in this process: starting one takes seconds."""

import io
import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from perceptd.__main__ import main


@dataclass(frozen=True)
class Outcome:
    """How a `perceptd` command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it printed as JSON, one object per line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def perceptd(*arguments: str | Path, data_dir: Path | None = None, **environment: str) -> Outcome:
    """Run `perceptd` with these arguments and environment variables, on the store in `data_dir`."""
    if data_dir:
        environment["PERCEPTD_DATA_DIR"] = str(data_dir)
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    exit_code = 0
    try:
        with (
            mock.patch.dict(os.environ, environment),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            main([*map(str, arguments)], prog_name="perceptd")
    except SystemExit as end:
        exit_code = int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())
