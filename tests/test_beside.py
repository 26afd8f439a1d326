"""perceptd beside a user's project that has modules called `models`, `training` and `service`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from perceptd.service.commands.common import existing_store
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.settings import Settings
from tests.documents.pages import file_of
from tests.waiting import eventually

SPIRAL = file_of("docs/own-model.md", "spiral/spiral.py")
NOT_OURS = "raise ImportError('perceptd imported a module of the user')\n"
FLAT = {"models.py": SPIRAL}
PACKAGES = {
    "models/__init__.py": "",
    "models/spiral.py": SPIRAL,
    "training/__init__.py": NOT_OURS,
    "service/__init__.py": NOT_OURS,
}
MODULE = (sys.executable, "-m", "perceptd")
SCRIPT = (shutil.which("perceptd", path=str(Path(sys.executable).parent)) or "",)
SERVES = re.compile(r"perceptd serves on (http://[\d.:]+)")


def make_project(folder: Path, files: dict[str, str], module: str) -> None:
    """A project whose entry points name an architecture and recipes of `module` in it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    info = folder / "mine-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[perceptd.models]\nspiral = {module}:ARCHITECTURE\n"
        f"[perceptd.recipes]\nspiral = {module}:RECIPES\n"
    )


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "PERCEPTD_PROCESSES": "1"}


def run(command: Sequence[str], *arguments: str, folder: Path) -> str:
    ended = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def serving(command: Sequence[str], folder: Path) -> Iterator[str]:
    """The address of a server whose worker can train the project's plug-in."""
    log = folder / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [*command, "serve", "--port", "0"],
            cwd=folder,
            env={**environment(folder), "PERCEPTD_WORKERS": "1"},
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            eventually(lambda: SERVES.search(log.read_text()), "the server starts", log=log)
            with existing_store(Settings(data_dir=folder / "data")) as database:
                trainables = Trainables(database)
                eventually(lambda: trainables.find("spiral"), "the worker knows spiral", log=log)
            yield SERVES.findall(log.read_text())[0]
        finally:
            process.terminate()


def test_a_project_with_modules_of_the_same_names_trains_serves_and_retrains_its_plug_in(
    tmp_path: Path,
) -> None:
    if not SCRIPT[0]:
        pytest.skip("the command perceptd is not installed")

    make_project(tmp_path, FLAT, "models")
    run(MODULE, "train", "spiral", "--epochs", "20", "--out", "mine", folder=tmp_path)
    added = run(MODULE, "models", "add", "mine", folder=tmp_path)
    assert added == "spiral version 1, production, in data\n"
    assert "(spiral version 1)" in run(MODULE, "predict", "spiral", "0.5,0.5", folder=tmp_path)

    (tmp_path / "models.py").unlink()
    make_project(tmp_path, PACKAGES, "models.spiral")
    with serving(SCRIPT, tmp_path) as url:
        body = {"model": "spiral", "inputs": [[0.5, 0.5]]}
        answer = httpx.post(f"{url}/predict", json=body, trust_env=False).json()
        assert (answer["model"], answer["version"]) == ("spiral", 1)
        options = ["--epochs", "20", "--gate", "never", "--follow", "--url", url]
        printed = run(SCRIPT, "jobs", "submit", "spiral", *options, folder=tmp_path)
    assert printed.endswith("succeeded, version 2, skipped: the job asks for no promotion\n")
