"""The index of the decision records."""

from tests.house.source import ROOT

DECISIONS = ROOT / "docs" / "decisions"


def test_every_decision_is_in_the_index() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [record for record in records if f"({record})" not in index] == []


def test_decisions_are_numbered_in_order_without_gaps() -> None:
    numbers = sorted(path.name.partition("-")[0] for path in DECISIONS.glob("[0-9]*.md"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
