"""The bans that ruff's TID251 cannot hold in the files which are let off another of its bans."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import PACKAGE, imports, modules, name, python_files, tree

MAY_READ_THE_TIME = {PACKAGE / "adapters" / "clock.py"}


def _reads_of_the_time(path: Path) -> Iterator[int]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {
            "datetime.now",
            "datetime.utcnow",
            "datetime.today",
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.date.today",
            "date.today",
            "time.time",
        }:
            yield node.lineno


def test_no_file_uses_a_mock() -> None:
    found = [
        f"{name(path)}:{line}"
        for path in python_files()
        for line, imported in imports(path)
        if imported.split(".")[0] in {"mock", "pytest_mock"} or imported.startswith("unittest.mock")
    ]
    assert not found, "\n".join(found)


def test_only_the_clock_reads_the_time() -> None:
    found = [
        f"{name(path)}:{line}"
        for path in modules()
        if path not in MAY_READ_THE_TIME
        for line in _reads_of_the_time(path)
    ]
    assert not found, "\n".join(found)
