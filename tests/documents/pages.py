"""The pages of the documentation and their code blocks."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
]
NEEDS = ("make", "mnist", "postgresql", "docker")
BLOCK = re.compile(
    r"(?:^<!-- (?P<notes>[^\n]*) -->\n)?"
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"\n]+)")?\n'
    r"(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
NOTE = re.compile(r"(needs|run in|checked by): (\S+)|(serves)")


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


def refuses(block: Block) -> bool:
    """Whether it shows an answer that is an error."""
    if block.language != "json":
        return False
    shown = json.loads(block.code)
    return isinstance(shown, dict) and {"status", "code"} <= shown.keys()


def fences(page: str) -> int:
    """How many blocks a page has, counted by its fences alone."""
    lines = (ROOT / page).read_text().splitlines()
    return sum(line.lstrip().startswith("```") for line in lines) // 2


def needing(what: str) -> list[str]:
    """The pages with a block that needs it."""
    return [page for page in PAGES if any(block.needs == what for block in blocks_of(page))]
