"""The command line put together: its parts, how it is started and how it ends. What is heavy loads with its command."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from heimdex.entrypoints.cli import (
    bench,
    database,
    demo,
    ingest,
    jobs,
    organisations,
    prune,
    queues,
    serve_api,
    settings,
    verify,
    worker,
)
from heimdex.entrypoints.cli.errors import INTERRUPTED, OK, READER_LEFT
from heimdex.entrypoints.cli.options import Misuse, api_url
from heimdex.entrypoints.cli.reporting import Reporter

_OVER_HTTP = frozenset({jobs.app.info.name, queues.app.info.name})

app = typer.Typer(add_completion=False, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
for part in (demo, ingest, worker, jobs, queues, organisations, prune, verify, bench, database, serve_api, settings):
    app.add_typer(part.app)


def _print_version(*, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"heimdex {version('heimdex')}")
        raise typer.Exit


@app.callback()
def heimdex(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback is all that it is for
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    api: Annotated[
        str | None,
        typer.Option(
            help="Let `job` and `queue` work through the HTTP API at this URL, instead of HEIMDEX_API_URL.",
            metavar="URL",
        ),
    ] = None,
) -> None:
    """A durable job ledger and job queue.

    Every command takes --json: its answer is then one JSON document on stdout,
    and whatever else it says is one JSON object a line on stderr.

    Exit codes: 0 done; 1 refused, not found, or a check found something;
    2 bad input; 3 the database; 70 a bug of Heimdex; 130 interrupted;
    141 nobody reads the answer any more.
    """
    if api is not None and context.invoked_subcommand not in _OVER_HTTP:
        raise Misuse("--api goes with `job` and `queue`; the other commands work on the database itself.")
    api_url.set(api)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    # Looked for among the words themselves: a command line that cannot be parsed has no options.
    reporter = Reporter(as_json="--json" in arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.getLogger().addHandler(reporter)
    try:
        return _run(arguments, reporter)
    finally:
        logging.getLogger().removeHandler(reporter)


def _run(arguments: Sequence[str], reporter: Reporter) -> int:
    try:
        with get_command(app).make_context("heimdex", list(arguments)) as context:
            context.command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as ending:
        return ending.exit_code
    except typer.TyperException as error:
        return reporter.usage(error)
    except KeyboardInterrupt:
        reporter.interrupted()
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # rich ends the process where a reader has left
        # The interpreter writes what is left when it ends; nobody reads that either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    except Exception as error:  # noqa: BLE001 - whatever it is, it gets a line and an exit code
        return reporter.error(error, debug=_debugging(arguments))
    return OK


def _debugging(arguments: Sequence[str]) -> bool:
    from heimdex.config import load
    from heimdex.domain.errors import InvalidSetting

    try:
        return "--debug" in arguments or load().debug
    except InvalidSetting:
        return False
