"""Asking whoever is at the terminal before much is changed."""

import sys

from heimdex.entrypoints.cli.options import Asked, Misuse


def check_can_ask(asked: Asked) -> None:
    """Refuse to go on where nobody can be asked.

    Raises:
        Misuse: there is no terminal, or the answer is for a program.
    """
    if asked.json or not sys.stdin.isatty():
        raise Misuse("nobody can be asked here whether this is meant; add --yes if it is.")


def agrees(question: str) -> bool:
    """Ask a question whose answer is no unless somebody types yes."""
    return _answer(f"{question} [y/N] ").lower() in {"y", "yes"}


def types_again(question: str, text: str) -> bool:
    """Ask for a text to be typed once more."""
    return _answer(f"{question} ") == text


def _answer(question: str) -> str:
    # On stderr: stdout has the answer of the command, and nothing else.
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
