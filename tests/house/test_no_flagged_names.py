"""Names that say nothing about a module, and files that outgrew their room."""

from tests.house.source import modules, name

FLAGGED = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
MOST_LINES = 500


def test_no_module_has_a_name_that_says_nothing() -> None:
    found = [name(path) for path in modules() if FLAGGED & set(path.stem.split("_")) or path.parent.name in FLAGGED]
    assert not found, "\n".join(found)


def test_no_file_of_the_package_is_over_500_lines() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
