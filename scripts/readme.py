"""Write the parts of README.md made from code, checkpoints and benchmark results.

python -m scripts.readme          rewrite README.md
python -m scripts.readme --check  exit 1 where README.md is out of date
"""

import sys
from pathlib import Path
from typing import Any

from models import checkpoint
from service.repository import shipped
from service.settings import Settings

README = Path(__file__).parent.parent / "README.md"
RESULTS = README.parent / "benchmarks" / "results"


def settings_table() -> str:
    """Every PERCEPTD_* variable with its default and what it does."""
    lines = ["| variable | default | what it does |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{shown(field.default)}`"
        text = " ".join((field.description or "").split())
        lines.append(f"| `PERCEPTD_{name.upper()}` | {default} | {text} |")
    return "\n".join(lines)


def models_table() -> str:
    """The shipped models with the figures in their checkpoints."""
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
    """The table that a benchmark wrote, and the machine it ran on."""
    lines = (RESULTS / f"{name}.md").read_text().splitlines()
    machine = next(line for line in lines if line and not line.startswith("#"))
    return "\n".join([machine, "", *(line for line in lines if line.startswith("|"))])


def shown(default: Any) -> str:
    return str(int(default)) if isinstance(default, bool) else str(default)


def filled(text: str) -> str:
    tables = {
        "settings": settings_table(),
        "models": models_table(),
        "keys": keys_table(),
        "footprint": results("footprint"),
        "training": results("training"),
        "serving": results("serving"),
        "serving-long": results("serving-long"),
        "profile": results("profile"),
        "processes": results("processes"),
        "endurance": results("endurance"),
        "retraining": results("retraining"),
        "corrections": results("corrections"),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(
                f"README.md has no place for {name}: {begin.strip()} and {end.strip()}"
            )
        text = before + begin + table + end + after
    return text


def main() -> None:
    old = README.read_text()
    new = filled(old)
    if "--check" in sys.argv and new != old:
        raise SystemExit("README.md is out of date: python -m scripts.readme")
    README.write_text(new)


if __name__ == "__main__":
    main()
