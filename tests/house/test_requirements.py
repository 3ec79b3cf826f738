"""The file of exact versions: whole, hashed, and the same wherever it is installed from."""

import re
import tomllib
from collections.abc import Iterator

from tests.house.source import ROOT

_PINS = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def _asked_for() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    yield from project["project"]["dependencies"]
    yield from project["build-system"]["requires"]
    for group in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        yield from (requirement for requirement in group if not requirement.startswith("heimdex["))


def test_every_line_is_one_version_with_hashes_and_no_address() -> None:
    pin = re.compile(r"[a-z0-9._-]+==[\w.]+(?: ; [^:/@]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in _PINS if not pin.fullmatch(line.strip())] == []


def test_everything_that_the_project_asks_for_is_pinned() -> None:
    pinned = {line.partition("==")[0] for line in _PINS}
    asked_for = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in _asked_for()}
    assert asked_for - pinned == set()
