"""The pages of the documentation, and their code blocks as a reader would run them."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from textwrap import dedent
from threading import Timer
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
]
RETRAINING = ("README.md", "docs/retrain.md")  # tested beside the others: these take longest
WITH_WORKER = (*RETRAINING, "docs/own-model.md")
NEEDS = ("make", "mnist", "postgresql", "docker")
ADDRESS = "127.0.0.1:8000"
DATABASE = "postgresql+psycopg://perceptd:secret@db.example.com/perceptd"
SERVES = re.compile(r"perceptd serves on http://[\d.]+:(\d+)")
BLOCK = re.compile(
    r"(?:^<!-- (?P<notes>[^\n]*) -->\n)?"
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"\n]+)")?\n'
    r"(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
NOTE = re.compile(r"(needs|run in|checked by): (\S+)|(serves)")
PRINTED = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)
NUMBER = re.compile(r"\d+\.\d+(?:e[-+]\d+)?")
ANYTHING = "…"  # in an answer: whatever stands here
CURL = b"""
curl() { # fails where the answer is a refusal, but for as many as the page shows
  command curl --fail-with-body "$@" && return
  local status=$?
  (( status == 22 && refusals-- > 0 )) || return $status
}
"""
TOLERANCE = 1e-4  # of figures in JSON, which a network computed
STARTUP_S = 60
BUILD_S = 3600
COMMAND_S = 300


@dataclass(frozen=True)
class Block:
    """A code block, and what the comment before it says of it."""

    page: str
    line: int
    language: str
    title: str | None
    code: str
    needs: str | None = None
    run_in: str | None = None
    checked_by: str | None = None
    serves: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    found = []
    for match in BLOCK.finditer(text):
        notes: dict[str, str] = {}
        for note in (match["notes"] or "").split(", "):
            if said := NOTE.fullmatch(note):
                notes[said[1] or said[3]] = said[2] or "yes"
        line = text.count("\n", 0, match.start("indent")) + 1
        found.append(
            Block(
                page,
                line,
                match["language"],
                match["title"],
                dedent(match["code"]),
                needs=notes.get("needs"),
                run_in=notes.get("run in"),
                checked_by=notes.get("checked by"),
                serves="serves" in notes,
            )
        )
    return found


def file_of(page: str, title: str) -> str:
    """The block of a page that is the file of that name."""
    return next(block.code for block in blocks_of(page) if block.title == title)


class Shell:
    """A terminal: what a block sets is there in the next one; what fails ends it."""

    def __init__(
        self, folder: Path, environment: dict[str, str], seconds: float = COMMAND_S
    ) -> None:
        self._seconds = seconds  # for one block
        self._errors = folder / ".stderr"
        self._script = folder / ".block"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["bash", "-euo", "pipefail"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def run(self, code: str, refusals: int = 0) -> str:
        """What it prints to standard output; so many answers of a server may be refusals."""
        assert self._process.stdin
        assert self._process.stdout
        self._script.write_text(code)
        self._process.stdin.write(CURL + b"refusals=%d\n" % refusals)
        self._process.stdin.write(b". ./.block </dev/null; printf '\\0'\n")
        self._process.stdin.flush()
        timer = Timer(self._seconds, self._kill)
        timer.start()
        told = bytearray()
        try:
            while (byte := self._process.stdout.read(1)) not in (b"\0", b""):
                told += byte
        finally:
            timer.cancel()
        if not byte:
            pytest.fail(f"{code}\n{told.decode()}\n{self._errors.read_text()}")
        return told.decode()

    def end(self) -> None:
        self._kill()
        self._process.communicate()

    def _kill(self) -> None:
        """Bash and all it started: a child that lives would keep the pipe open."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Server:
    """A command of a page that serves until it is ended."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / ".log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def port(self) -> str:
        """The port in the log, once the server is ready."""
        eventually(self._reported_port, "the server is ready", seconds=STARTUP_S, log=self._log)
        port = self._reported_port()
        assert port
        return port

    def wait_until_ready(self, url: str) -> None:
        """Wait until the server at a known address is ready."""

        def ready() -> bool:
            self._must_run()
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/health/ready").is_success
            return False

        eventually(ready, f"{url} is ready", seconds=BUILD_S, log=self._log)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(STARTUP_S)

    def _reported_port(self) -> str | None:
        self._must_run()
        found = SERVES.search(self._log.read_text())
        return found[1] if found else None

    def _must_run(self) -> None:
        if self._process.poll() is not None:
            pytest.fail(self._log.read_text())


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
        self.url = f"http://127.0.0.1:{self._server.port()}"
        self._shell.run(f"export PERCEPTD_URL={self.url}")

    def here(self, code: str) -> str:
        """With the address of this page's server, and of a database that is there."""
        code = code.replace(DATABASE, self.database)
        return code.replace(ADDRESS, self.url.removeprefix("http://")) if self.url else code


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


def refuses(block: Block) -> bool:
    """Whether it shows an answer that is an error."""
    if block.language != "json":
        return False
    shown = json.loads(block.code)
    return isinstance(shown, dict) and {"status", "code"} <= shown.keys()


def compare(block: Block, answer: str) -> None:
    """Raise where the answer shown is not the one that came; figures may differ a little."""
    if block.language == "json":
        same = alike(json.loads(block.code), json.loads(answer))
    else:
        same = lines_alike(block.code.splitlines(), answer.splitlines())
    assert same, f"{block} shows\n{block.code}\nbut the answer is\n{answer}"


def alike(shown: Any, got: Any) -> bool:
    match shown:
        case str() if shown == ANYTHING:
            return True
        case dict():
            shown = dict(shown)
            more = shown.pop(ANYTHING, None) is not None
            known = isinstance(got, dict) and shown.keys() <= got.keys()
            whole = known and (more or shown.keys() == got.keys())
            return whole and all(alike(value, got[name]) for name, value in shown.items())
        case list():
            return (
                isinstance(got, list)
                and len(shown) == len(got)
                and all(alike(*pair) for pair in zip(shown, got, strict=True))
            )
        case float():
            return isinstance(got, float) and math.isclose(shown, got, abs_tol=TOLERANCE)
    return type(shown) is type(got) and bool(shown == got)


def lines_alike(shown: list[str], got: list[str]) -> bool:
    """A line of `…` alone stands for any number of lines."""
    if ANYTHING in shown:
        at = shown.index(ANYTHING)
        rest = shown[at + 1 :]
        if not lines_alike(shown[:at], got[:at]):
            return False
        return any(lines_alike(rest, got[skip:]) for skip in range(at, len(got) + 1))
    return all(
        one is not None and other is not None and line_alike(one, other)
        for one, other in zip_longest(shown, got)
    )


def line_alike(shown: str, got: str) -> bool:
    """`…` stands for anything; a figure with a point may differ by two of its last digit."""
    pattern = ""
    figures: list[Decimal] = []
    for part in re.split(rf"({NUMBER.pattern}|{ANYTHING})", shown):
        if part == ANYTHING:
            pattern += ".*"
        elif NUMBER.fullmatch(part):
            figures.append(Decimal(part))
            pattern += f"({NUMBER.pattern})"
        else:
            pattern += re.escape(part)
    found = re.fullmatch(pattern, got)
    return found is not None and all(
        abs(figure - Decimal(came)) <= Decimal((0, (2,), int(figure.as_tuple().exponent)))
        for figure, came in zip(figures, found.groups(), strict=True)
    )


def scrape(config: dict[str, Any]) -> None:
    """Ask for metrics as Prometheus would with this configuration."""
    for job in config["scrape_configs"]:
        headers = {"Authorization": f"Bearer {job['authorization']['credentials']}"}
        for target in (target for group in job["static_configs"] for target in group["targets"]):
            assert httpx.get(f"http://{target}/metrics").status_code == 401
            answer = httpx.get(f"http://{target}/metrics", headers=headers).raise_for_status()
            assert "perceptd_http_requests_total" in answer.text


def fences(page: str) -> int:
    """How many blocks a page has, counted by its fences alone."""
    lines = (ROOT / page).read_text().splitlines()
    return sum(line.lstrip().startswith("```") for line in lines) // 2


def needing(what: str) -> list[str]:
    """The pages with a block that needs it."""
    return [page for page in PAGES if any(block.needs == what for block in blocks_of(page))]


def read(page: str, folder: Path) -> None:
    """Run every block of a page that needs nothing."""
    blocks = blocks_of(page)
    variables = {} if page in WITH_WORKER else {"PERCEPTD_WORKERS": "0"}
    with Reader(folder, variables=variables) as reader:
        reader.read(blocks)
    assert reader.done == [block for block in blocks if block.needs is None]
