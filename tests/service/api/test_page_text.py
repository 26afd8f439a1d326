"""The page's texts and the references between its files, checked without a browser."""

import json
import re
from collections import Counter
from graphlib import TopologicalSorter as CycleFinder
from html.parser import HTMLParser

import pytest

from perceptd.service.api.page import FOLDER

LANGUAGES = ("en", "ko")
JS = FOLDER / "js"
SCRIPTS = {str(path.relative_to(JS)): path.read_text() for path in sorted(JS.rglob("*.js"))}
INDEX = (FOLDER / "index.html").read_text()
FIRST_VIEW = "views/draw.js"
# `main` and `router`, in no room, put the rooms together and may import any.
MAY_IMPORT = {"core": {"core"}, "parts": {"core", "parts"}, "views": {"core", "parts", "views"}}

IMPORT = re.compile(r'^(?:import|export)\b[^;]*?"(\.[\w./]+\.js)";', re.MULTILINE)
ANY_IMPORT = re.compile(r"""(?:\bfrom |\bimport\()"(\.[\w./]+\.js)\"""")
QUOTED = re.compile(r'"([\w.]+)"')
BUILT = re.compile(r"`(\w+\.[\w.]*)\$\{[^}]*\}(?:\$\{[^}]*\})*(\w*)`")  # as `status.${word}`
SHOWN = re.compile(r"""\.(?:textContent|title|placeholder|alt)\s*=\s*["'`][^"'`$]*[A-Za-z]{2}""")
CHILD = re.compile(r"""\},\s*["'`][^"'`$]*[A-Za-z]{2}[^"'`$]*["'`]\s*[,)]""")  # of h(tag, {}, ...)


def texts(language: str) -> dict[str, str]:
    pairs = json.loads((FOLDER / "text" / f"{language}.json").read_text(), object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs), "a key stands twice"
    return dict(pairs)


ENGLISH = texts("en")
NAMESPACES = {key.partition(".")[0] for key in ENGLISH if "." in key}
WORDS = {word for source in SCRIPTS.values() for word in QUOTED.findall(source)}
WORDS |= set(re.findall(r'data-t(?:-label)?="([\w.]+)"', INDEX))


def is_key(word: str) -> bool:
    """Whether a quoted word can only be meant as the key of a text."""
    namespace, dot, rest = word.partition(".")
    return bool(dot and rest) and namespace in NAMESPACES and not rest.endswith(("js", "json"))


class Tags(HTMLParser):
    """Every tag of the page with its attributes, and what stands between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def values(self, name: str) -> list[str]:
        return [value for _, given in self.found if (value := given.get(name))]


def imports(script: str, pattern: re.Pattern[str] = IMPORT) -> set[str]:
    """The scripts that a script imports, by their paths below `js`."""
    folder = (JS / script).parent
    found = [(folder / name).resolve() for name in pattern.findall(SCRIPTS[script])]
    return {str(path.relative_to(JS.resolve())) for path in found}


def reached(script: str, pattern: re.Pattern[str] = IMPORT) -> set[str]:
    """The script, and all that it imports, also through others."""
    found: set[str] = set()
    waiting = {script}
    while waiting:
        found |= waiting
        waiting = {name for one in waiting for name in imports(one, pattern)} - found
    return found


def test_every_language_has_every_text_with_the_same_values() -> None:
    def values(language: str) -> dict[str, list[str]]:
        return {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in texts(language).items()}

    assert list(texts("ko")) == list(ENGLISH)
    assert values("ko") == values("en")
    for language in LANGUAGES:
        assert [key for key, text in texts(language).items() if not text.strip()] == []


def test_every_key_that_is_used_has_a_text() -> None:
    assert {word for word in WORDS if is_key(word)} - set(ENGLISH) == set()


def test_every_text_is_used() -> None:
    parts = [part for source in SCRIPTS.values() for part in BUILT.findall(source)]
    longer = tuple(WORDS & set(ENGLISH))  # `field.number` is made longer: `field.numberFrom`

    def is_used(key: str) -> bool:
        built = any(key.startswith(before) and key.endswith(after) for before, after in parts)
        return built or key in WORDS or key.startswith(longer)

    assert [key for key in ENGLISH if not is_used(key)] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_contains_visible_words(script: str) -> None:
    assert SHOWN.findall(SCRIPTS[script]) == []
    assert CHILD.findall(SCRIPTS[script]) == []


def test_the_page_obeys_its_content_security_policy() -> None:
    tags = Tags(INDEX)
    for tag, given in tags.found:
        assert tag != "style"
        assert tag != "script" or given.get("src")
        assert not [name for name in given if name == "style" or name.startswith("on")]
    for source in SCRIPTS.values():
        assert not re.search(r"\b(?:eval|innerHTML|outerHTML|insertAdjacentHTML)\b", source)


def test_every_address_is_relative() -> None:
    for address in Tags(INDEX).values("href") + Tags(INDEX).values("src"):
        assert not address.startswith(("/", "http:", "https:"))
    for name, source in SCRIPTS.items():
        asked = re.findall(r"""(?:fetch|get|post|put|request)\(\s*["'`]/""", source)
        assert asked == [], name
        assert set(re.findall(r"https?://[^\"'`\s]+", source)) <= {"http://www.w3.org/2000/svg"}


def test_the_scripts_of_the_first_view_are_preloaded() -> None:
    needed = reached("main.js") | reached(FIRST_VIEW)
    named = re.findall(r'rel="modulepreload" href="static/js/([\w/]+\.js)"', INDEX)
    assert sorted(named) == sorted(needed - {"main.js"})


def test_every_script_is_reached_from_the_page() -> None:
    assert reached("main.js", ANY_IMPORT) == set(SCRIPTS)


def test_every_style_sheet_is_on_the_page() -> None:
    assert {path.name for path in FOLDER.glob("*.css")} == set(
        re.findall(r'rel="stylesheet" href="static/(\w+\.css)"', INDEX)
    )


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_scripts_import_only_rooms_below_theirs(room: str) -> None:
    for script in SCRIPTS:
        if script.startswith(f"{room}/"):
            rooms = {name.partition("/")[0] for name in imports(script, ANY_IMPORT)}
            assert rooms <= MAY_IMPORT[room], script


def test_no_script_imports_itself_through_others() -> None:
    CycleFinder({script: imports(script, ANY_IMPORT) for script in SCRIPTS}).prepare()


def test_no_folder_of_scripts_has_more_than_14_files() -> None:
    counts = Counter(script.rpartition("/")[0] for script in SCRIPTS)
    assert {folder: count for folder, count in counts.items() if count > 14} == {}


def test_no_script_or_style_sheet_has_more_than_300_lines() -> None:
    sheets = {path.name: path.read_text() for path in FOLDER.glob("*.css")}
    lines = {name: text.count("\n") for name, text in {**SCRIPTS, **sheets}.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}
