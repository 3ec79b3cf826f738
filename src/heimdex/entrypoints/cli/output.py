"""How answers look to programs: one JSON document. Loads no rich, which workers would keep."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.cli.reporting import plain
from heimdex.service_layer.documents import as_json, document, readable, text_of

__all__ = ["as_json", "document", "kept_apart", "print_json", "print_line", "readable"]


def print_json(answer: object) -> None:
    sys.stdout.write(text_of(answer, indent=2) + "\n")


def kept_apart(asked: Asked) -> AbstractContextManager[object]:
    """Send what job functions print to stderr where stdout has to be one JSON document."""
    return redirect_stdout(sys.stderr) if asked.json else nullcontext()


def print_line(text: str) -> None:
    sys.stdout.write(f"{plain(text)}\n")
