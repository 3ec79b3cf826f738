"""The operators' table of what `verify` looks for names the rules that there are."""

import ast
import re

from heimdex.domain.verification_rules import EVERY, OF_TRIGGER
from heimdex.service_layer.verifying import UNREADABLE_ROW
from tests.house.source import PACKAGE, ROOT, tree

_ROW = re.compile(r"^\| `(\w+)` \| \S.* \|$", re.MULTILINE)


def _rules_of_rows() -> set[str]:
    """Return the rules that `check` names itself: what it yields or makes a Finding of, under a name in quotes."""
    named = set()
    for node in ast.walk(tree(PACKAGE / "domain" / "verification.py")):
        match node:
            case ast.Yield(value=ast.Tuple(elts=[ast.Constant(value=str(rule)), *_])):
                named.add(rule)
            case ast.Call(func=ast.Name(id="Finding"), args=[ast.Constant(value=str(rule)), *_]):
                named.add(rule)
    return named


def test_each_rule_of_verify_is_explained_once_and_no_other() -> None:
    text = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
    explained = _ROW.findall(text.partition("## Verify the ledger")[2].partition("\n## ")[0])

    of_events = {rule.__name__ for rules in (EVERY, *OF_TRIGGER.values()) for rule in rules}
    assert sorted(explained) == sorted(of_events | _rules_of_rows() | {UNREADABLE_ROW})
