"""What a request does not fit -> `FieldError`s, whichever library has found it."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from perceptd.service.errors import FieldError, InvalidInputError

MAX_ERRORS = 10  # of one request that are answered
MAX_SHOWN = 60  # characters of a wrong value that are repeated to its sender
NOTHING = object()  # stands for a field that is absent

Loc = list[str | int]

TAGS = ("value", "word", "flat row", "nested row")  # what tagged unions add to an error's place
PHRASES = {
    "missing": "a value",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "an array",
    "json_invalid": "JSON",
    "extra_forbidden": "no field of this name",
    "bool_parsing": "true or false",
}
BOUNDS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}

MSGSPEC_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
}


def invalid(
    loc: Sequence[str | int], expected: str, got: str, example: Any = None
) -> InvalidInputError:
    """An error with one wrong field."""
    return InvalidInputError.of([FieldError(loc=[*loc], expected=expected, got=got)], example)


def field_errors(
    errors: Iterable[Mapping[str, Any]],
    describe: Callable[[Loc, Mapping[str, Any]], str | None] = lambda loc, error: None,
) -> list[FieldError]:
    """The first of pydantic's errors; `describe` may say what was expected at a place."""
    found = []
    for item in islice(errors, MAX_ERRORS):
        kind = item["type"]
        loc = [part for part in item["loc"] if part not in TAGS]
        if loc[:1] == ["body"]:
            loc = [] if kind == "json_invalid" else loc[1:]
        expected = describe(loc, item) or PHRASES.get(kind) or _bound(item)
        expected = expected or item["msg"].removeprefix("Input should be ")
        got = item["ctx"]["error"] if kind == "json_invalid" else None
        value = NOTHING if kind == "missing" else item["input"]
        found.append(FieldError(loc=loc, expected=expected, got=got or shown(value)))
    return found


def _bound(item: Mapping[str, Any]) -> str | None:
    for kind, words in BOUNDS.items():
        if kind in item.get("ctx", {}):
            return f"{words} {item['ctx'][kind]}"
    return None


def msgspec_error(message: str, place: Sequence[str | int]) -> FieldError:
    """msgspec's error about JSON that stands at `place` of the request."""
    what, _, where = message.partition(" - at `$")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", where)
    loc = [*place, *(name or int(index) for name, index in steps)]
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return FieldError(loc=[*loc, missing[1]], expected="a value", got="nothing")
    if wrong := re.fullmatch(r"Expected `(\w+)(?: \| null)?`(.*?)(?:, got `(.+)`)?", what):
        kind, bound, got = wrong.groups()
        expected = MSGSPEC_TYPES.get(kind, kind) + bound
        return FieldError(loc=loc, expected=expected, got=MSGSPEC_TYPES.get(got, got) or "another")
    return FieldError(loc=loc, expected="a number that a float can hold", got=what.lower())


def shown(value: Any) -> str:
    """A wrong value for its sender: shortened, arrays and objects by their size."""
    if value is NOTHING:
        return "nothing"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    try:
        text = json.dumps(value[: MAX_SHOWN + 1] if isinstance(value, str) else value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
