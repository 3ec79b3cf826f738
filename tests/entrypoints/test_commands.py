"""What every command has in common: its options, its help, how it fails."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from heimdex.entrypoints.cli import main
from heimdex.entrypoints.cli.app import app
from tests.entrypoints.conftest import ORG, Heimdex

COMMANDS = {
    "api",
    "bench",
    "config",
    "db check",
    "db current",
    "db roles",
    "db upgrade",
    "demo",
    "ingest",
    "job cancel",
    "job create",
    "job history",
    "job list",
    "job retry",
    "job show",
    "job stats",
    "job why",
    "org erase",
    "prune",
    "queue list",
    "queue pause",
    "queue resume",
    "token",
    "verify",
    "worker",
    "worker list",
}
MISSING_JOB = "018f3c6e-0000-7000-8000-0000000000ff"


def _commands(command: object, name: str = "") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield name, command
        for inner, child in command.commands.items():
            yield from _commands(child, f"{name} {inner}".strip())
    elif isinstance(command, TyperCommand):
        yield name, command


def _every_command() -> dict[str, TyperCommand | TyperGroup]:
    return dict(_commands(get_command(app)))


def test_there_are_these_commands() -> None:
    assert set(_every_command()) == COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("option", ["--json", "--org", "--database-url", "--debug"])
def test_every_command_has_the_options_of_every_command(name: str, option: str) -> None:
    assert option in {option for param in _every_command()[name].params for option in param.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_parameter_of_every_command_has_help(name: str, heimdex: Heimdex) -> None:
    command = _every_command()[name]

    assert command.help
    assert [param.name for param in command.params if not getattr(param, "help", None)] == []
    assert heimdex(*name.split(), "--help").code == 0


@pytest.mark.parametrize("arguments", [[], ["job"], ["db"], ["queue"], ["org"]])
def test_a_group_alone_shows_its_help(heimdex: Heimdex, arguments: list[str]) -> None:
    ran = heimdex(*arguments)

    assert ran.code == 2
    assert "Usage: heimdex" in ran.out
    assert ran.err == ""


def test_the_version_is_shown(heimdex: Heimdex) -> None:
    ran = heimdex("--version")

    assert ran.code == 0
    assert ran.out.startswith("heimdex 0.")


WRONG: dict[str, tuple[list[str], int, str, str]] = {
    "no such command": (["job", "shw"], 2, "UsageError", "Did you mean 'show'?"),
    "an argument is missing": (["job", "show"], 2, "UsageError", "Missing argument 'ID'"),
    "an id that is none": (["job", "show", "x"], 2, "UsageError", "not a valid UUID"),
    "a status that is none": (["job", "list", "--status", "done"], 2, "UsageError", "'dead_letter'"),
    "a limit out of range": (["job", "list", "--limit", "0"], 2, "UsageError", "range"),
    "no organisation": (["job", "list"], 2, "NoOrganisation", "no organisation: give --org or set HEIMDEX_ORG"),
    "an organisation that is none": (["job", "list", "--org", "acme"], 2, "InvalidSetting", "--org: 'acme'"),
    "a URL of another database": (
        ["job", "list", "--database-url", "mysql://u:pw@h/d"],
        2,
        "InvalidSetting",
        "--database-url: 'mysql://u:***@h/d'",
    ),
    "a URL that no database takes": (
        ["job", "list", "--org", str(ORG), "--database-url", "postgresql://u:pw@h:port/d"],
        2,
        "InvalidSetting",
        "--database-url: 'postgresql+psycopg2://h:port/d'",
    ),
    "no schema": (["job", "list", "--org", str(ORG)], 3, "SchemaMissing", "run `heimdex db upgrade`"),
    "no folder for the database": (
        ["db", "upgrade", "--database-url", "sqlite:////nowhere/at/all.db"],
        3,
        "DatabaseUnavailable",
        "check that the file and its folder exist",
    ),
    "no server": (
        ["job", "list", "--org", str(ORG), "--database-url", "postgresql://u:pw@127.0.0.1:1/d"],
        3,
        "DatabaseUnavailable",
        "check that the server runs",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_fails_says_why_on_stderr_and_nothing_on_stdout(heimdex: Heimdex, case: str) -> None:
    arguments, code, _, said = WRONG[case]

    ran = heimdex(*arguments)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("heimdex: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("case", WRONG)
def test_with_json_what_fails_is_one_object_on_stderr(heimdex: Heimdex, case: str) -> None:
    arguments, code, error, said = WRONG[case]

    ran = heimdex(*arguments, "--json")

    assert (ran.code, ran.out) == (code, "")
    line = json.loads(ran.err)
    assert line["error"] == error
    assert said in line["message"]
    assert set(line) == {"error", "message"}


def test_debug_shows_the_traceback(heimdex: Heimdex) -> None:
    assert "Traceback" in heimdex("job", "list", "--debug").err
    assert "Traceback" in json.loads(heimdex("job", "list", "--debug", "--json").err)["traceback"]
    assert "Traceback" not in heimdex("job", "list").err


def test_the_environment_can_ask_for_tracebacks_too(heimdex: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_DEBUG", "1")

    assert "Traceback" in heimdex("job", "list").err


def test_an_option_goes_before_the_environment(here: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_ORG", "not a UUID")

    assert here("job", "list", "--org", ORG).code == 0
    assert "HEIMDEX_ORG: 'not a UUID'" in here("job", "list").err


def test_a_variable_misspelt_is_warned_of_and_nothing_else_changes(
    here: Heimdex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_CONCURENCY", "8")

    ran = here("job", "list")

    assert ran.code == 0
    assert ran.err == "heimdex: HEIMDEX_CONCURENCY is not a setting; did you mean HEIMDEX_CONCURRENCY?\n"
    assert json.loads(here("job", "list", "--json").err)["level"] == "warning"


def test_interrupting_is_quiet(heimdex: Heimdex, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heimdex.entrypoints.cli.opening.load", interrupt)

    ran = heimdex("config")

    assert (ran.code, ran.out, ran.err) == (130, "", "heimdex: interrupted\n")


def test_no_handler_stays_behind(heimdex: Heimdex) -> None:
    before = list(logging.getLogger().handlers)

    heimdex("config")

    assert logging.getLogger().handlers == before


def test_main_exits_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["job", "show", MISSING_JOB])

    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from heimdex.entrypoints.cli.app import run; run(['--help']); run(['job', 'list', '--help']);"
        "print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    )
    heavy = ["sqlalchemy", "alembic", "psycopg2", "environ", "puremagic", "heimdex.bootstrap", "heimdex.config"]

    run = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines()[-1] == "[]"


def test_without_typer_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['heimdex', 'config'];"
        "from heimdex.entrypoints.cli import main; main()"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert run.returncode == 2
    assert run.stderr == "heimdex: this needs typer; install it with: pip install 'heimdex[cli]'\n"


def test_it_runs_as_a_module_too() -> None:
    run = subprocess.run([sys.executable, "-m", "heimdex", "--version"], capture_output=True, text=True, check=True)

    assert run.stdout.startswith("heimdex ")
