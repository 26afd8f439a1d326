"""Write the parts of README.md and docs/ that are generated from code, checkpoints and results.

python -m scripts.documents          rewrite the pages
python -m scripts.documents --check  exit 1 where one is out of date

A part is between <!-- NAME --> and <!-- /NAME -->, on exactly one page.
"""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi.params import Depends
from fastapi.routing import iter_route_contexts

from perceptd.models import checkpoint
from perceptd.service.api import deps
from perceptd.service.app import create_app
from perceptd.service.errors import HTTP_PROBLEMS, PROBLEMS
from perceptd.service.settings import Settings
from perceptd.service.store.repository import shipped
from perceptd.service.telemetry import families

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "benchmarks" / "results"
TOKENS = {
    deps.require_predict_token: "predict",
    deps.require_any_token: "predict or admin",
    deps.require_admin_token: "admin",
}
PART = re.compile(
    r"^<!-- (?P<name>[a-z-]+) -->\n(.*?)^<!-- /(?P=name) -->$", re.DOTALL | re.MULTILINE
)


def settings_table() -> str:
    """Every PERCEPTD_* variable with its default and what it does."""
    lines = ["| variable | default | what it does |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{shown(field.default)}`"
        text = " ".join((field.description or "").split())
        lines.append(f"| `PERCEPTD_{name.upper()}` | {default} | {text} |")
    return "\n".join(lines)


def models_table() -> str:
    """The shipped models with the metrics in their checkpoints."""
    lines = [
        "| model | answers | input | recipe | held-out rows | held-out loss | held-out accuracy |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for folder in shipped():
        meta = checkpoint.read(folder)
        test = meta.metrics["test"]
        shape = " x ".join(map(str, meta.spec.input.picture or meta.spec.input.shape))
        rows = meta.dataset.rows["test"] if meta.dataset else 0
        recipe = meta.recipe or {}
        trained = f"{recipe['dataset']}, {recipe['epochs']:,} epochs, seed {recipe['seed']}"
        lines.append(
            f"| `{folder.name}` | {meta.spec.description} | {shape} | {trained} | {rows:,} "
            f"| {test['loss']:.4f} | {test['accuracy']:.4f} |"
        )
    return "\n".join(lines)


def keys_table() -> str:
    """The keys and shapes of each shipped model's state_dict."""
    lines = ["| model | keys and shapes of its `state_dict` |", "| --- | --- |"]
    for folder in shipped():
        tensors = checkpoint.read(folder).tensors
        keys = ", ".join(f"`{key}` {tuple(shape)}" for key, shape in tensors.items())
        lines.append(f"| `{folder.name}` | {keys.replace(',)', ')')} |")
    return "\n".join(lines)


def results(name: str) -> str:
    """The table that a benchmark wrote, below the machine it ran on."""
    lines = (RESULTS / f"{name}.md").read_text().splitlines()
    machine = next(line for line in lines if line and not line.startswith("#"))
    return "\n".join([machine, "", *(line for line in lines if line.startswith("|"))])


def shown(default: Any) -> str:
    return str(int(default)) if isinstance(default, bool) else str(default)


def routes_table() -> str:
    """Every route of the OpenAPI document, and the token it needs."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        paths = app.openapi()["paths"]
    token = {
        (method, route.path): name_of_token(getattr(route, "dependencies", []))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    }
    lines = ["| method | path | what it does | token |", "| --- | --- | --- | --- |"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            does = operation["description"].partition("\n\n")[0].replace("\n", " ")
            needed = token[method.upper(), path]
            lines.append(f"| `{method.upper()}` | `{path}` | {does} | {needed} |")
    return "\n".join(lines)


def name_of_token(dependencies: Sequence[Depends]) -> str:
    asked = [TOKENS[one.dependency] for one in dependencies if one.dependency in TOKENS]
    return asked[-1] if asked else "none"


def errors_table() -> str:
    """Every code of a problem body, by status."""
    problems = dict.fromkeys((*PROBLEMS.values(), *HTTP_PROBLEMS.values()))  # each once
    lines = ["| code | status | meaning |", "| --- | ---: | --- |"]
    lines += [
        f"| `{problem.code}` | {problem.status} | {problem.title} |"
        for problem in sorted(problems, key=lambda problem: problem.status)
    ]
    return "\n".join(lines)


def metrics_table() -> str:
    """Every Prometheus metric, with its kind and labels."""
    lines = ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |"]
    for family in (*families.COUNTED.values(), *families.COLLECTED.values()):
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "models": models_table,
    "keys": keys_table,
    "routes": routes_table,
    "errors": errors_table,
    **{
        name: partial(results, name)
        for name in (
            "footprint",
            "training",
            "serving",
            "serving-long",
            "profile",
            "processes",
            "overload",
            "reliability",
        )
    },
}


def filled(text: str) -> str:
    """A page with all its parts generated again."""
    return PART.sub(lambda part: whole(part["name"]), text)


def whole(name: str) -> str:
    if name not in PARTS:
        raise SystemExit(f"no part is called {name}; known: {', '.join(PARTS)}")
    return f"<!-- {name} -->\n{PARTS[name]()}\n<!-- /{name} -->"


def check_places() -> None:
    """Raise `SystemExit` unless each part has exactly one place."""
    places = Counter(part["name"] for page in PAGES for part in PART.finditer(page.read_text()))
    for name in PARTS:
        if places[name] != 1:
            raise SystemExit(f"expected the part {name} in one place, found it in {places[name]}")


def main() -> None:
    check_places()
    for page in PAGES:
        old = page.read_text()
        new = filled(old)
        if new == old:
            continue
        if "--check" in sys.argv:
            raise SystemExit(
                f"{page.relative_to(ROOT)} is out of date: python -m scripts.documents"
            )
        page.write_text(new)


if __name__ == "__main__":
    main()
