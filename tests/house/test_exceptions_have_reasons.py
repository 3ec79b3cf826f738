"""Whoever is let off a rule says which rule, and why."""

import re
from collections.abc import Iterator

import pytest

from tests.house.source import ROOT, comments, name, python_files

_DIRECTIVE = re.compile(
    r"(?P<kind>type:\s*ignore|ruff:\s*noqa|noqa|pragma:\s*no (?:cover|branch)|mypy:|fmt:\s*(?:off|skip|on))"
    r"(?P<codes>\[[\w, -]+\]|:\s*[A-Z]+\d+(?:[, ]+[A-Z]+\d+)*)?"
)


def _problem(comment: str) -> str | None:
    """Return what is missing beside the directives of a comment; None where nothing is, or where it has none."""
    directives = list(_DIRECTIVE.finditer(comment))
    if not directives:
        return None
    if any("ignore" in found["kind"] or "noqa" in found["kind"] for found in directives if not found["codes"]):
        return "names no code"
    words = re.findall(r"[^\W\d_]{2,}", _DIRECTIVE.sub(" ", comment))
    return None if len(words) > 1 else "gives no reason"


def _problems(text: str) -> Iterator[str]:
    for line, comment in comments(text):
        if problem := _problem(comment):
            yield f"{line}: {comment} {problem}"


def test_every_exception_in_code_names_its_rule_and_its_reason() -> None:
    found = [
        f"{name(path)}:{problem}" for path in python_files() for problem in _problems(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "comment",
    [
        "# a comment",
        "# type: ignore[arg-type]  # the stub lacks it",
        "# noqa: S608 - only our own names are put in",
        "# noqa: S603, S607 - both are ours",
        "# pragma: no cover - another system only",
        "# type: ignore[misc]  # noqa: E501 - one reason for both",
    ],
)
def test_an_exception_with_code_and_reason_passes(comment: str) -> None:
    assert _problem(comment) is None


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S608",
        "# noqa - why",
        "# type: ignore",
        "# type: ignore[misc]",
        "# pragma: no cover",
        "# fmt: off",
    ],
)
def test_an_exception_without_code_or_reason_is_found(comment: str) -> None:
    assert _problem(comment) is not None


def test_every_rule_that_ruff_ignores_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ruff = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.flake8-builtins]")]
    rules = [line for line in ruff.splitlines() if re.match(r'\s+"[A-Z]+\d*",', line)]

    assert len(rules) > 1
    assert [line for line in rules if not re.search(r"# \w+,? \w+", line)] == []
