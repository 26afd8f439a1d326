"""How much is tried, and where what was tried is written down."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

FACTOR = "PERCEPTD_TEST_FUZZ"
SCORECARD = "PERCEPTD_TEST_SCORECARD"
USUAL = 1.0  # the factor at which every run tries the same; a longer one looks elsewhere each time


def factor() -> float:
    """So many times the usual amount; 0 where none was asked for."""
    return float(os.environ.get(FACTOR) or 0)


def amount(usual: int) -> int:
    return max(1, round(usual * factor()))


def tries(usual: int) -> settings:
    """Settings of a property: how often it is tried."""
    return settings(
        max_examples=amount(usual),
        derandomize=factor() <= USUAL,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


class Count:
    """How many inputs a test has tried."""

    def __init__(self) -> None:
        self.inputs = 0


@contextmanager
def scored(name: str) -> Iterator[Count]:
    """A line of the scorecard: the inputs tried in the block, and whether one of them did harm."""
    count, faults = Count(), 1
    try:
        yield count
        faults = 0
    finally:
        if path := os.environ.get(SCORECARD):
            line = {"kind": "fuzz", "name": name, "inputs": count.inputs, "faults": faults}
            with Path(path).open("a") as file:
                file.write(json.dumps(line) + "\n")
