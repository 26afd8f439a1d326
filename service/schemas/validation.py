"""pydantic's errors in our words: where, what was expected there, what came."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from perceptd.service.errors import FieldError
from perceptd.service.schemas.requests import MAX_ERRORS, NOTHING, shown

TAGS = ("value", "word")  # what a discriminated union adds to the place of an error
PHRASES = {
    "missing": "a value",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "json_invalid": "JSON",
    "extra_forbidden": "no field of this name",
    "bool_parsing": "true or false",
}

BOUNDS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


def field_errors(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """The first few errors. A body is not named in their place: its fields are."""
    found = []
    for item in islice(errors, MAX_ERRORS):
        kind = item["type"]
        loc = [part for part in item["loc"] if part not in TAGS]
        if loc[:1] == ["body"]:
            loc = [] if kind == "json_invalid" else loc[1:]
        expected = PHRASES.get(kind) or bound(item) or item["msg"].removeprefix("Input should be ")
        got = item["ctx"]["error"] if kind == "json_invalid" else None
        value = NOTHING if kind == "missing" else item["input"]
        found.append(FieldError(loc=loc, expected=expected, got=got or shown(value)))
    return found


def bound(item: Mapping[str, Any]) -> str | None:
    """The bound that a number does not keep; None where the error is another."""
    for kind, words in BOUNDS.items():
        if kind in item.get("ctx", {}):
            return f"{words} {item['ctx'][kind]}"
    return None
