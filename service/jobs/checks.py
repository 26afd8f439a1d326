"""Checks of a job's request against what its architecture allows."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from perceptd.models.trainable import Trainable
from perceptd.service.errors import InvalidInputError
from perceptd.service.jobs.gate import Gate, GateChoice
from perceptd.service.schemas.validation import invalid, shown


@dataclass(frozen=True)
class RequestCheck:
    """Makes errors about fields of a request; `example` is a body that works, if there is one."""

    example: Any

    def refuse(self, field: str, expected: str, got: object) -> InvalidInputError:
        return self._refused([field], expected, "nothing" if got is None else shown(got))

    def config(self, trainable: Trainable, config: dict[str, Any]) -> None:
        """Raise `InvalidInputError` unless the architecture accepts these settings."""
        validator = _Validator(trainable.config)
        for error in sorted(validator.iter_errors(config), key=lambda error: list(error.path)):
            loc = ["config", *error.absolute_path]
            if error.validator == "additionalProperties":
                known = error.schema.get("properties", {})
                name = next(name for name in error.instance if name not in known)
                expected = f"a known setting ({', '.join(known) or 'there are none'})"
                raise self._refused([*loc, name], expected, shown(error.instance[name]))
            raise self._refused(loc, _expected(error), shown(error.instance))

    def gate(self, trainable: Trainable, gate: GateChoice) -> bool:
        """Whether a greater value of the gate's metric is better."""
        if not isinstance(gate, Gate):
            return True
        if gate.metric not in trainable.metrics:
            raise self._refused(["gate", "metric"], one_of(trainable.metrics), shown(gate.metric))
        if gate.greater_is_better is not None:
            return gate.greater_is_better
        return trainable.metrics[gate.metric]

    def _refused(self, loc: list[str | int], expected: str, got: str) -> InvalidInputError:
        return invalid(loc, expected, got, self.example)


def one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"


def _is_number(checker: TypeChecker, value: object) -> bool:
    """JSON has neither NaN nor infinities, but Python's parser accepts them."""
    known = Draft202012Validator.TYPE_CHECKER
    finite = not isinstance(value, float) or math.isfinite(value)
    return finite and known.is_type(value, "number")


_Validator = extend(  # type: ignore[no-untyped-call] # jsonschema leaves it untyped
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)
_PHRASES = {
    "maximum": "at most {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "exclusiveMinimum": "more than {}",
    "minItems": "at least {} values",
    "maxItems": "at most {} values",
    "enum": "one of {}",
    "const": "{}",
    "type": "{}",
}


def _expected(error: ValidationError) -> str:
    """What the JSON Schema expects, in a few words."""
    phrase = _PHRASES.get(str(error.validator))
    if phrase is None:
        return error.message
    value = error.validator_value
    if isinstance(value, list):
        value = ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return phrase.format(value)
