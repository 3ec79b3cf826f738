"""The command `heimdex`. This module imports neither typer nor rich, so that it can say which extra is missing."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit as it ended. None takes the arguments of this process."""
    try:
        from heimdex.entrypoints.cli.app import run

        code = run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        from heimdex.entrypoints.cli.errors import BAD_INPUT, missing_extra

        missing = missing_extra(error)
        if missing is None:
            raise
        sys.stderr.write(f"heimdex: {missing}\n")
        code = BAD_INPUT
    except KeyboardInterrupt:  # while it was still loading
        from heimdex.entrypoints.cli.errors import INTERRUPTED

        code = INTERRUPTED
    sys.exit(code)
