"""The page on testing: its files are saved, and the tests in them pass."""

import re
from pathlib import Path

from tests.house.source import ROOT
from tests.testing.test_plugin import pytest_in

PAGE = (ROOT / "docs" / "how-to" / "test-your-jobs.md").read_text(encoding="utf-8")
# No other block may begin between the name of a file and its text.
_FILE = re.compile(r"Save this as\s+`(?P<name>[\w.]+)`:\n\n```python\n(?P<text>.*?)```", re.DOTALL)


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    for found in _FILE.finditer(PAGE):
        (tmp_path / found["name"]).write_text(found["text"], encoding="utf-8")

    run = pytest_in(tmp_path)

    assert f" {PAGE.count('def test_')} passed" in run.stdout, run.stdout


def test_every_python_block_of_the_page_is_saved_and_run() -> None:
    assert PAGE.count("```python") == len(_FILE.findall(PAGE))
