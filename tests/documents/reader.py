"""Somebody who reads a page and does what it says."""

import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.documents.answers import compare
from tests.documents.pages import ROOT, Block, blocks_of, refuses
from tests.documents.terminal import Server, Shell

RETRAINING = ("README.md", "docs/retrain.md")  # tested beside the others: these take longest
WITH_WORKER = (*RETRAINING, "docs/own-model.md")
ADDRESS = "127.0.0.1:8000"
DATABASE = "postgresql+psycopg://perceptd:secret@db.example.com/perceptd"
PRINTED = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)


@dataclass
class Reader:
    """Somebody who does what a page says, in an empty folder.

    `only` or `besides` what needs nothing: those blocks are run that need one of these. Without
    `url` the page's own server is started, on a free port.
    """

    folder: Path
    besides: tuple[str | None, ...] = ()
    only: str | None = None
    url: str | None = None
    database: str = DATABASE
    variables: dict[str, str] = field(default_factory=dict)
    done: list[Block] = field(default_factory=list)

    def __enter__(self) -> Self:
        shutil.copytree(ROOT / "docs" / "images", self.folder / "docs" / "images")
        self._environment = environment_of(self.folder) | self.variables
        self._shell = Shell(self.folder, self._environment)
        self._server: Server | None = None
        self._answer: str | None = None  # of the last block that was run
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.end()
        if self._server:
            self._server.end()

    def read(self, blocks: list[Block]) -> None:
        for block, following in zip_longest(blocks, blocks[1:]):
            if self.wants(block):
                self.do(block, refusals=int(following is not None and refuses(following)))
                self.done.append(block)

    def wants(self, block: Block) -> bool:
        if self.only:
            return block.needs == self.only
        return block.needs is None or block.needs in self.besides

    def do(self, block: Block, refusals: int) -> None:
        if block.run_in:
            assert any(block.code in other.code for other in blocks_of(block.run_in)), block
            return
        if block.checked_by:
            assert block.page in (ROOT / block.checked_by).read_text(), block
            return
        if block.serves:
            self.serve(block.code)
            return
        if ADDRESS in block.code and self.url is None:
            self.serve("perceptd serve")
        code = self.here(block.code)
        if block.title:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        answer, self._answer = self._answer, None
        match block.language:
            case "sh":
                self._answer = self._shell.run(code, refusals)
            case "python":
                self._answer = self.execute(block, code)
            case "json" | "text":
                assert answer is not None, f"{block}: no block before it has this answer"
                compare(block, answer)
            case "toml":
                tomllib.loads(code)
            case "yaml":
                scrape(yaml.safe_load(code))
            case language:
                pytest.fail(f"{block}: nobody knows what to do with {language}")

    def execute(self, block: Block, code: str) -> str:
        file = block.title or ".block.py"
        if "/" in file:
            package = f"./{file.partition('/')[0]}"
            assert any(package in other.code for other in blocks_of(block.page)), block
            return ""  # a module of a package, run where that is installed
        (self.folder / file).write_text(code)
        answer = self._shell.run(f"python {file}")
        if printed := PRINTED.findall(code):
            assert answer.splitlines() == printed, block
        return answer

    def serve(self, command: str) -> None:
        if self._server:
            self._server.end()
        self._server = Server(self.here(command), self.folder, self._environment)
        if self.url and self.only == "docker":  # whose log tells the port inside
            self._server.wait_until_ready(self.url)
            return
        self.url = self._server.url()
        self._shell.run(f"export PERCEPTD_URL={self.url}")

    def here(self, code: str) -> str:
        """With the address of this page's server, and of a database that is there."""
        code = code.replace(DATABASE, self.database)
        return code.replace(ADDRESS, self.url.partition("://")[2]) if self.url else code


def environment_of(folder: Path) -> dict[str, str]:
    """As after `source .venv/bin/activate`, but that pip installs into the folder."""
    installed = folder / "installed"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERCEPTD_")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}",
        "PIP_TARGET": str(installed),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it: no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "1",
        "TMPDIR": str(folder),
        "PERCEPTD_PORT": "0",
        "PERCEPTD_PROCESSES": "1",
        "PERCEPTD_TRAIN_NICE": "0",  # or it would stand back for the other tests
    }


def scrape(config: dict[str, Any]) -> None:
    """Ask for metrics as Prometheus would with this configuration."""
    for job in config["scrape_configs"]:
        headers = {"Authorization": f"Bearer {job['authorization']['credentials']}"}
        for target in (target for group in job["static_configs"] for target in group["targets"]):
            assert httpx.get(f"http://{target}/metrics").status_code == 401
            answer = httpx.get(f"http://{target}/metrics", headers=headers).raise_for_status()
            assert "perceptd_http_requests_total" in answer.text


def read(page: str, folder: Path) -> None:
    """Run every block of a page that needs nothing."""
    blocks = blocks_of(page)
    variables = {} if page in WITH_WORKER else {"PERCEPTD_WORKERS": "0"}
    with Reader(folder, variables=variables) as reader:
        reader.read(blocks)
    assert reader.done == [block for block in blocks if block.needs is None]
