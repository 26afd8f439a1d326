"""The whole OpenAPI document, tried by schemathesis: every check, and chains of operations.

What it may not expect is said, with the reason, in `schemathesis.toml`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.amounts import USUAL, amount, factor, scored
from tests.fuzz.known import undisturbed
from tests.fuzz.target import Target
from tests.service.admin import ADMIN

pytestmark = pytest.mark.fuzz

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 5  # of each operation, beside those that its limits ask for


def test_the_service_does_what_its_document_says(target: Target, tmp_path: Path) -> None:
    report = tmp_path / "report.ndjson"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "--no-color"),
        *("run", f"{target.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {ADMIN}"),
        *("--max-examples", str(amount(EXAMPLES))),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
        *(["--generation-deterministic"] if factor() <= USUAL else []),
    ]
    with scored("requests by the OpenAPI document") as count, undisturbed(target):
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        count.inputs = report.read_text().count('"status_code"')
        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
        assert "Stateful" in ran.stdout
        assert json.loads(report.read_text().splitlines()[0])
