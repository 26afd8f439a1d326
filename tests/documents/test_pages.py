"""Every code block of README.md and docs/ is run, and the answers shown are those that come."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.conftest import POSTGRES
from tests.documents.answers import line_alike
from tests.documents.pages import NEEDS, PAGES, ROOT, blocks_of, fences, needing
from tests.documents.reader import RETRAINING, Reader, read
from tests.documents.terminal import Shell
from tests.server import free_port
from tests.test_containers import compose_command

COMMENT = re.compile(r"\s+# .*")
ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
IN_CSS = re.compile(r"url\([\"']?(?:https?:)?//[^)]*\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_known(page: str) -> None:
    blocks = blocks_of(page)
    assert len(blocks) == fences(page)
    assert {block.needs for block in blocks} <= {None, *NEEDS}


@pytest.mark.parametrize(
    ("shown", "got", "alike"),
    [
        ("loss 0.1062", "loss 0.1064", True),
        ("loss 0.1062", "loss 0.1065", False),
        ("5  99.96%", "5  99.94%", True),
        ("5  99.96%", "5  99.93%", False),
        ("… 1.5e-05", "rate 1.7e-05", True),
        ("… 1.5e-05", "rate 1.8e-05", False),
        ("epoch 1", "epoch 2", False),
    ],
)
def test_a_figure_may_differ_by_two_of_its_last_digit(shown: str, got: str, alike: bool) -> None:
    assert line_alike(shown, got) == alike


def test_a_block_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    shell = Shell(tmp_path, dict(os.environ), seconds=1)
    since = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match="sleep 60"):
        shell.run("sleep 60")
    shell.end()
    assert time.monotonic() - since < 30


@pytest.mark.parametrize(("refusals", "fails"), [(0, True), (1, False)])
def test_a_refusal_ends_a_page_that_shows_none(
    client: httpx.Client, tmp_path: Path, refusals: int, fails: bool
) -> None:
    shell = Shell(tmp_path, dict(os.environ))
    block = f"curl -s {client.base_url}/models/xor\ncurl -s {client.base_url}/models/nobody"
    if fails:
        with pytest.raises(pytest.fail.Exception, match="model_not_found"):
            shell.run(block, refusals)
    else:
        assert "model_not_found" in shell.run(block, refusals)
    shell.end()


@pytest.mark.documents
@pytest.mark.parametrize("page", [page for page in PAGES if page not in RETRAINING])
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    read(page, tmp_path)


@pytest.mark.mnist
@pytest.mark.parametrize("page", needing("mnist"))
def test_a_page_does_what_it_says_with_mnist(page: str, tmp_path: Path) -> None:
    if not (folder := os.environ.get("PERCEPTD_MNIST_DIR")):
        pytest.skip("PERCEPTD_MNIST_DIR names no folder with MNIST")
    variables = {"PERCEPTD_MNIST_DIR": folder, "PERCEPTD_WORKERS": "0"}
    with Reader(tmp_path, besides=("mnist",), variables=variables) as reader:
        reader.read(blocks_of(page))
    assert [block for block in reader.done if block.needs] == [
        block for block in blocks_of(page) if block.needs == "mnist"
    ]


@pytest.mark.database
@pytest.mark.parametrize("page", needing("postgresql"))
def test_a_page_does_what_it_says_with_postgresql(page: str, tmp_path: Path, schema: str) -> None:
    with Reader(tmp_path, only="postgresql", database=schema) as reader:
        reader.read(blocks_of(page))
        answer = httpx.get(f"{reader.url}/health/ready").raise_for_status()
    assert answer.json()["models"]["xor"] == 1
    assert reader.done
    assert not list((tmp_path / "data").glob("*.db"))


@pytest.fixture
def schema() -> Iterator[str]:
    """The address of a new schema of a real PostgreSQL."""
    if not (url := os.environ.get(POSTGRES)):
        pytest.skip(f"{POSTGRES} names no PostgreSQL server")
    name = f"test_{uuid4().hex}"
    admin = db.connect(Settings(database_url=url))
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield f"'{url}?options=-csearch_path%3D{name}'"
    with admin.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    admin.dispose()


@pytest.mark.containers
@pytest.mark.parametrize("page", needing("docker"))
def test_a_page_does_what_it_says_with_docker(page: str, tmp_path: Path) -> None:
    if os.environ.get("PERCEPTD_TEST_CONTAINERS") != "1":
        pytest.skip("builds images for minutes: PERCEPTD_TEST_CONTAINERS=1 asks for it")
    if not compose_command():
        pytest.skip("no Docker engine answers, or docker-compose is absent")
    port = free_port()
    variables = {
        "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
        "COMPOSE_PROJECT_NAME": f"perceptd-docs-{uuid4().hex[:8]}",
        "PERCEPTD_PORT": str(port),
    }
    reader = Reader(tmp_path, only="docker", url=f"http://127.0.0.1:{port}", variables=variables)
    try:
        with reader:
            reader.read(blocks_of(page))
    finally:
        down = ["docker-compose", "down", "--volumes", "--remove-orphans"]
        subprocess.run(down, env={**os.environ, **variables}, check=True)
    assert reader.done


def test_what_make_does_is_a_step_of_the_checks() -> None:
    steps = (ROOT / ".ci/run").read_text() + (ROOT / ".ci/check-run").read_text()
    for page in needing("make"):
        for block in (block for block in blocks_of(page) if block.needs == "make"):
            for line in block.code.splitlines():
                command = re.escape(COMMENT.sub("", line))
                assert re.search(rf"^(  |COMMAND = \"){command}\"?$", steps, re.MULTILINE), block


def test_the_site_asks_no_other_host_for_anything(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(build, cwd=ROOT, env=quiet, check=True)
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        assert not ELSEWHERE.findall(page.read_text()), page
    for sheet in tmp_path.rglob("*.css"):
        assert not IN_CSS.findall(sheet.read_text()), sheet
