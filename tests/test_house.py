"""The rules of the house that a machine can check."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter as CycleFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "training", "service")

MAY_IMPORT = {
    "models": {"models"},
    "training": {"models", "training"},
    "service": {"models", "service"},
}

# What a room of `service` may import besides itself and the ground. A room that is not named here,
# such as `app` or `commands`, puts the others together and may import any.
GROUND = ("errors", "settings", "logging", "request_lines")
ROOMS: dict[str, set[str]] = {
    **{module: set(GROUND) for module in GROUND},
    "schemas": set(),
    "store": set(),
    "auth": {"store"},
    "inference": {"store", "schemas"},
    "jobs": {"store", "schemas"},
    "telemetry": {"inference", "jobs", "store"},
    "drift": {"inference", "telemetry", "schemas"},
    "worker": {"jobs", "inference", "store"},
    "api": {"schemas", "store", "auth", "inference", "jobs", "telemetry", "drift"},
    "wire": {"api", "inference"},
    "front": {"api", "auth", "inference", "telemetry", "wire"},
}
WEB = {"fastapi", "starlette", "uvicorn"}
KNOW_THE_WEB = {"api", "front", "app", "server"}
LEARN_TORCH = {"models.networks", "models.export"}  # the rest of `models` is imported by the server

TREE = re.compile(r"^```text\n(models/.*?)^```$", re.DOTALL | re.MULTILINE)
RELATIVE = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Each module of a package, by its name below `perceptd`."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """Modules that a file imports; only those it imports at once if `at_top`."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_top else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def parts(names: set[str], below: str) -> set[str]:
    """What follows `below` in each name that begins with it: its package or room."""
    return {name.removeprefix(below).partition(".")[0] for name in names if name.startswith(below)}


def graph(package: str) -> dict[str, set[str]]:
    """Each module of a package, with the modules of it that it imports."""
    known = {name: imports(path) for name, path in modules(package)}
    return {
        name: {found for found in known if f"perceptd.{found}" in imported} - {name}
        for name, imported in known.items()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below_them(package: str) -> None:
    for name, path in modules(package):
        found = imports(path)
        assert parts(found, "perceptd.") - {"__version__"} <= MAY_IMPORT[package], name
        assert not roots(found) & {*PACKAGES, "tests", "benchmarks", "scripts"}, name


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_those_below_them(room: str) -> None:
    allowed = {room, *GROUND, *ROOMS[room]}
    for name, path in modules("service"):
        if name.split(".")[1:2] == [room]:
            assert parts(imports(path), "perceptd.service.") <= allowed, name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_through_others(package: str) -> None:
    CycleFinder(graph(package)).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_has_more_than_14_files(package: str) -> None:
    counted = Counter(path.parent for _, path in modules(package) if path.name != "__init__.py")
    assert {folder: files for folder, files in counted.items() if files > 14} == {}


def test_only_the_edge_of_the_service_knows_the_web() -> None:
    knowing = {name for name, path in modules("service") if roots(imports(path)) & WEB}
    assert {name.split(".")[1] for name in knowing} == KNOW_THE_WEB


def test_routes_know_neither_sql_nor_tensors() -> None:
    routes = [path for name, path in modules("service") if name.startswith("service.api.routes.")]
    assert routes
    for path in routes:
        assert not roots(imports(path)) & {"sqlalchemy", "torch", "numpy", "onnxruntime"}, path


def test_what_serving_needs_of_models_is_free_of_torch() -> None:
    for name, path in modules("models"):
        if not name.startswith(tuple(LEARN_TORCH)):
            assert "torch" not in roots(imports(path, at_top=True)), name


@pytest.mark.parametrize(
    "module",
    [
        "perceptd.service.app",
        "perceptd.__main__",
        "perceptd.models.registry",
        "perceptd.models.pictures.digit",
    ],
)
def test_importing_does_nothing_and_needs_no_torch(module: str, tmp_path: Path) -> None:
    script = f"import sys, {module}; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},  # where a library might keep notes on its user
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "False"
    assert list(tmp_path.iterdir()) == []


def test_the_documents_say_what_the_code_says() -> None:
    subprocess.run([sys.executable, "-m", "scripts.documents", "--check"], cwd=ROOT, check=True)


def test_the_readme_names_every_room() -> None:
    lines = TREE.findall((ROOT / "README.md").read_text())[0].splitlines()
    assert len(lines) <= 25
    named = {line.split()[0] for line in lines}
    for package in PACKAGES:
        rooms = {path.parent for _, path in modules(package)} - {ROOT / package}
        wanted = {f"{room.name}/" for room in rooms if room.parent == ROOT / package}
        assert wanted <= named
    assert [name for name in named if not list(ROOT.glob(f"**/{name}"))] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_page_outside_the_manual_links_to_is_there(page: str) -> None:
    links = RELATIVE.findall((ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tests_that_the_security_page_names_are_there() -> None:
    named = set(re.findall(r"test_\w+\.py", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 10
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
