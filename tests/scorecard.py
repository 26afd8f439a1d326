"""What a test counted, for the scorecard that `python -m tests.reliability.scorecard` prints.

Each call adds a line of JSON to the file that PERCEPTD_TEST_SCORECARD names, if it names one.
"""

import json
import os
from pathlib import Path

SCORECARD = "PERCEPTD_TEST_SCORECARD"


def note(**counts: int) -> None:
    """Add what the test that runs now has counted: inputs tried, requests meanwhile, those lost."""
    if path := os.environ.get(SCORECARD):
        file = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
        with Path(path).open("a") as lines:  # in one write, as several processes may
            lines.write(json.dumps({"file": file, **counts}) + "\n")
