"""What goes to stderr: a line of text for people, or one JSON object a line for programs. Loads no rich."""

import json
import logging
import sys
import traceback

import typer

from heimdex.entrypoints.cli.errors import exit_code, message


def plain(text: str) -> str:
    """Return text that cannot move the cursor, colour the screen or hide: anything else is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


class Reporter(logging.Handler):
    """Says what is not an answer. As a logging handler it takes what workers and job functions log, too."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def error(self, error: Exception, *, debug: bool) -> int:
        """Say what failed and return the exit code for it."""
        trace = "".join(traceback.format_exception(error)) if debug else None
        self._write(trace or message(error), error=type(error).__name__, message=message(error), traceback=trace)
        return exit_code(error)

    def usage(self, error: typer.TyperException) -> int:
        """Say what is wrong with a command line and return the exit code for it."""
        problem = error.format_message()
        if problem:
            context: typer.Context | None = getattr(error, "ctx", None)
            command = "heimdex" if context is None else context.command_path
            self._write(f"{problem} Try: {command} --help", error="UsageError", message=problem)
        return error.exit_code

    def interrupted(self) -> None:
        self._write("interrupted", error="Interrupted", message="interrupted")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        raised = record.exc_info[1] if record.exc_info else None
        trace = None if raised is None else "".join(traceback.format_exception(raised))
        level = record.levelname.lower()
        self._write(f"{text}\n{trace or ''}", level=level, logger=record.name, message=text, traceback=trace)

    def _write(self, text: str, **line: str | None) -> None:
        if self._as_json:
            said = json.dumps({name: value for name, value in line.items() if value is not None})
        else:
            said = "\n".join(map(plain, f"heimdex: {text}".rstrip().split("\n")))
        # Looked up at each call: a progress bar puts something else in its place.
        sys.stderr.write(f"{said}\n")
