"""The command line as a whole: what it imports, lists and refuses."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from perceptd.__main__ import SERVICE, TRAINING, main

HEAVY = {"pydantic", "fastapi", "sqlalchemy", "torch", "numpy"}
WATCHED = f"""
import json, sys
from perceptd.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted({HEAVY!r} & set(sys.modules))), file=sys.stderr)
"""
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # find_spec and import fail, as where it is not installed
from perceptd.__main__ import main
main(sys.argv[1:])
"""


def run(*arguments: str, code: str = WATCHED) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="perceptd")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["serv"]])
def test_no_command_is_imported_before_one_is_chosen(arguments: list[str]) -> None:
    assert json.loads(run(*arguments).stderr.splitlines()[-1]) == []


def test_help_lists_every_command_and_each_has_a_help_of_its_own() -> None:
    listed = invoke("--help").output
    for name in (*TRAINING, *SERVICE):
        assert f"  {name} " in listed
        assert f"Usage: perceptd {name} " in invoke(name, "--help").output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["serv"], "Did you mean 'serve'?"),
        (["jobs", "sumbit"], "Did you mean 'submit'?"),
        (["train", "dn"], "no model is called 'dn'; did you mean dnn?"),
        (["import", "mnist-cn", "w.pt"], "no model is called 'mnist-cn'; did you mean mnist-cnn?"),
        (["train", "dnn", "--epoch", "3"], "Did you mean '--epochs'?"),
        (["train", "dnn", "--recipe", "fats"], "dnn has no recipe 'fats'; did you mean fast?"),
        (["train", "dnn", "--set", "hiden=8"], "no such setting; did you mean hidden?"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(arguments: list[str], hint: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert hint in result.output


def test_a_shell_completes_the_commands_without_importing_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("_PERCEPTD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "perceptd t")
    monkeypatch.setenv("COMP_CWORD", "1")
    code = WATCHED.replace("main(sys.argv[1:])", "main(prog_name='perceptd')")

    ended = run(code=code)

    assert ended.stdout.splitlines() == ["plain,train", "plain,token"]
    assert json.loads(ended.stderr.splitlines()[-1]) == []


@pytest.mark.parametrize("name", [*TRAINING, "worker"])
def test_without_torch_a_command_that_needs_it_says_what_to_install(name: str) -> None:
    ended = run(name, code=WITHOUT_TORCH)
    assert ended.returncode == 2
    message = f"Error: perceptd {name} needs torch: pip install 'perceptd[train]'"
    assert ended.stderr.splitlines()[-1] == message
