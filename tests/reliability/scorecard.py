"""The scorecard: faults and hostile inputs, and the requests that were lost to them.

    pg_virtualenv -t python -m tests.reliability.scorecard [--amount 1]

Runs the tests that kill, fill, freeze, flood and fuzz real processes, on SQLite and on the
PostgreSQL that the environment names. It adds up their counts: requests sent meanwhile, requests
lost, inputs tried. A case holds if its test passes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.report import machine, publish, table
from tests.scorecard import SCORECARD

ROOT = Path(__file__).parent.parent.parent
MARKERS = "faults or reliability or fuzz"
LIBPQ = ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT")
DATABASE = "perceptd"


@dataclass
class Row:
    """One test file: its cases, and the sums of their counts."""

    title: str
    cases: int = 0
    held: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def environment(amount: float, counts: Path) -> dict[str, str]:
    """This environment with all tests switched on, and a database if PostgreSQL is named."""
    variables = {
        **os.environ,
        "PERCEPTD_TEST_FAULTS": "1",
        "PERCEPTD_TEST_FUZZ": str(amount),
        "PERCEPTD_TEST_RELIABILITY": "1",
        SCORECARD: str(counts),
    }
    if all(name in os.environ for name in LIBPQ):
        user, password, host, port = (os.environ[name] for name in LIBPQ)
        subprocess.run(["createdb", DATABASE], check=True)
        url = f"postgresql+psycopg://{user}:{password}@{host}:{port}/{DATABASE}"
        variables["PERCEPTD_TEST_DATABASE_URL"] = url
    return variables


def run(amount: float, report: Path, counts: Path) -> None:
    """Run the tests, two at a time, and write their outcomes to `report`."""
    command = [sys.executable, "-m", "pytest", "-m", MARKERS, "--numprocesses", "2", "-q"]
    options = ["--dist", "loadfile", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    ran = [*command, *options]
    subprocess.run(ran, env=environment(amount, counts), cwd=ROOT, check=False)


def read(report: Path, counts: Path) -> list[Row]:
    """A row per test file, by name. Skipped tests are not counted."""
    rows: dict[str, Row] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            name = case.attrib["file"]
            row = rows.setdefault(name, Row(title_of(ROOT / name)))
            row.cases += 1
            row.held += case.find("failure") is None and case.find("error") is None
    for line in counts.read_text().splitlines():
        noted = json.loads(line)
        rows[noted.pop("file")].counts.update(noted)
    return [rows[name] for name in sorted(rows)]


def title_of(file: Path) -> str:
    """The first line of a test file's docstring."""
    return file.read_text().partition('"""')[2].partition("\n")[0].strip('".')


def total(rows: list[Row]) -> Row:
    whole = Row("**together**")
    for row in rows:
        whole.cases, whole.held = whole.cases + row.cases, whole.held + row.held
        whole.counts.update(row.counts)
    return whole


def cells(row: Row) -> list[str]:
    inputs, requests = row.counts["inputs"], row.counts["requests"]
    tried = f"{inputs:,}" if inputs else ""
    asked, lost = (f"{requests:,}", str(row.counts["lost"])) if requests else ("", "")
    return [row.title, str(row.cases), str(row.held), tried, asked, lost]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--amount", type=float, default=1, help="Times as many inputs as usual.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report, counts = Path(folder, "report.xml"), Path(folder, "counts.jsonl")
        run(given.amount, report, counts)
        rows = read(report, counts)
    head = ["what was done", "cases", "held", "inputs tried", "requests meanwhile", "lost"]
    lines = table(head, map(cells, [*rows, total(rows)]))
    publish("reliability", f"{machine('fastapi', 'uvicorn')}.", lines)


if __name__ == "__main__":
    main()
