"""The rules of the house that a machine can check."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "training", "service")

MAY_IMPORT = {
    "models": {"models"},
    "training": {"models", "training"},
    "service": {"models", "service"},
}
TORCH_FREE = {
    "spec",
    "preprocessing",
    "picture",
    "ink",
    "digit",
    "drift",
    "features",
    "graph",
    "checkpoint",
    "registry",
    "mnist",
    "trainable",
    "terminal",
    "tracing",
}
WEB = {"fastapi", "starlette", "uvicorn"}
MAY_KNOW_THE_WEB = {
    "perceptd.service.app",
    "perceptd.service.api.compression",
    "perceptd.service.wire.connections",
    "perceptd.service.api.deps",
    "perceptd.service.wire.hot_path",
    "perceptd.service.api.middleware",
    "perceptd.service.api.openapi",
    "perceptd.service.api.page",
    "perceptd.service.api.problems",
    "perceptd.service.api.routes.drift",
    "perceptd.service.api.routes.feedback",
    "perceptd.service.api.routes.health",
    "perceptd.service.api.routes.imports",
    "perceptd.service.api.oip.infer",
    "perceptd.service.api.routes.jobs",
    "perceptd.service.api.oip.metadata",
    "perceptd.service.api.routes.metrics",
    "perceptd.service.api.routes.models",
    "perceptd.service.api.routes.predict",
    "perceptd.service.api.oip.repository",
    "perceptd.service.server",
    "perceptd.service.wire.upgrades",
}

TREE = re.compile(r"^```text\n(models/.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"(?<![\w./-])\w+(?:\.py|\.yml|/)(?!\w)")
RELATIVE = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def modules(package: str) -> Iterator[tuple[str, Path]]:
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


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below_them(package: str) -> None:
    for name, path in modules(package):
        foreign = roots(imports(path)) & {*PACKAGES, "tests", "benchmarks", "scripts"}
        assert foreign <= MAY_IMPORT[package], name


def test_only_the_edge_of_the_service_knows_the_web() -> None:
    knowing = {name for name, path in modules("service") if roots(imports(path)) & WEB}
    assert knowing == MAY_KNOW_THE_WEB


def test_routes_know_neither_sql_nor_tensors() -> None:
    for name, path in modules("service"):
        if name.startswith("perceptd.service.routes."):
            assert not roots(imports(path)) & {"sqlalchemy", "torch", "numpy", "onnxruntime"}, name


def test_what_serving_needs_of_models_is_free_of_torch() -> None:
    for name, path in modules("models"):
        if name.rpartition(".")[2] in TORCH_FREE:
            assert "torch" not in roots(imports(path, at_top=True)), name


@pytest.mark.parametrize(
    "module",
    [
        "perceptd.service.app",
        "perceptd.service.__main__",
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


def tree_of_the_readme() -> Iterator[tuple[str, Path | None]]:
    """Each name in the README's tree of files, and the path that it stands for."""
    readme = (ROOT / "README.md").read_text()
    top = inner = ROOT
    for line in TREE.findall(readme)[0].splitlines():
        first = line.split()[0]
        if not line.startswith(" "):
            top = inner = ROOT / first
        elif not line.startswith("   ") and first.endswith("/"):
            inner = top / first
        elif not line.startswith("   "):
            inner = top
        for name in NAMED.findall(line):
            paths = (folder / name for folder in (inner, top, ROOT))
            yield name, next((path for path in paths if path.exists()), None)


def test_the_readme_has_every_file_of_the_house_and_no_other() -> None:
    named = dict.fromkeys(tree_of_the_readme())
    assert [name for name, path in named if path is None] == []
    paths = {path for _, path in named}
    for package in PACKAGES:
        for name, path in modules(package):
            if path.name != "__init__.py" and "migrations" not in path.parts:
                assert path in paths, name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_page_outside_the_manual_links_to_is_there(page: str) -> None:
    links = RELATIVE.findall((ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tests_that_the_security_page_names_are_there() -> None:
    named = set(re.findall(r"test_\w+\.py", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 10
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
