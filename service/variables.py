"""The names of settings, as the environment and the command line have them."""

import difflib
import re
from collections.abc import Mapping

from perceptd.service.settings import Settings

PREFIX = "PERCEPTD_"
OPTIONS = ("host", "port", "data_dir", "device", "runtime", "processes")  # of `perceptd serve`
# Read by the command line, by the tests, by the processes of one server, or set by Kubernetes for a
# service of this name.
OTHERS = re.compile(
    r"PERCEPTD_(URL|TEST_.*|METRICS_DIR|SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP)(_.*)?)",
    re.DOTALL,
)


def of(field: str) -> str:
    """A setting's environment variable."""
    return PREFIX + field.upper()


def shown(field: str) -> str:
    """A setting's variable, and its option where it has one."""
    return f"--{field.replace('_', '-')} ({of(field)})" if field in OPTIONS else of(field)


def unknown(environment: Mapping[str, str]) -> str:
    """What is wrong with a variable that stands for no setting; empty where there is none."""
    known = [field.upper() for field in Settings.model_fields]
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name != name.upper():
            return f"{name[:60]} is no setting: they are in capitals, {name[:60].upper()}"
        field = name.removeprefix(PREFIX)
        if field != name and field not in known and not OTHERS.fullmatch(name):
            near = difflib.get_close_matches(field, known, 1)
            meant = f"did you mean {PREFIX}{near[0]}?" if near else "docs/operate.md lists them all"
            return f"{name[:60]} is no setting: {meant}"
    return ""
