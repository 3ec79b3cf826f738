"""`python -m tests.mutants.refit`: writes the patches anew whose lines are still there but stand elsewhere now.

A patch whose own lines have changed has to be made again by hand: change the source, `git diff -U2`, put the diff under
the lines that the patch has above its own, and take the change back.
"""

import sys
import tempfile
from difflib import unified_diff
from pathlib import Path

from tests.mutants.patches import ROOT, Patch, copy_project, patches

# Lines around a change: few, so that a patch goes on fitting when something near it changes.
AROUND = 2


def refitted(patch: Patch, folder: Path) -> str | None:
    """Return the text of a patch for the source as it is now; None if one line around each change is not enough."""
    if patch.apply(folder, "-C1"):
        return None
    head, _, _ = patch.path.read_text(encoding="utf-8").partition("\n--- ")
    lines = [f"{head}\n"]
    for path in sorted(folder.glob("src/**/*.py")):
        name = path.relative_to(folder)
        before, after = (file.read_text(encoding="utf-8").splitlines(keepends=True) for file in (ROOT / name, path))
        lines += unified_diff(before, after, f"a/{name}", f"b/{name}", n=AROUND)
    return "".join(lines)


def main() -> int:
    lost = 0
    for patch in patches():
        with tempfile.TemporaryDirectory() as name:
            copy_project(Path(name))
            if not patch.apply(Path(name)):
                continue
        with tempfile.TemporaryDirectory() as name:
            copy_project(Path(name))
            text = refitted(patch, Path(name))
        if text is not None:
            patch.path.write_text(text, encoding="utf-8")
        lost += text is None
        sys.stdout.write(f"{patch.stem}: {'to be made again by hand' if text is None else 'written anew'}\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
