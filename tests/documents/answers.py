"""Answers that a page shows, compared with those that come."""

import json
import math
import re
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from tests.documents.pages import Block

NUMBER = re.compile(r"\d+\.\d+(?:e[-+]\d+)?")
ANYTHING = "…"  # in an answer: whatever stands here
TOLERANCE = 1e-4  # of figures in JSON, which a network computed


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
