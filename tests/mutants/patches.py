"""The planted bugs: what each patch says of itself, and how it comes into a copy of the project.

Above its diff a patch says in its first line what it breaks, and then, each on a line of its own, its `Name:`, which
several patches may share, the `Tool:` that must catch it, and the `Suites:` where a test that does is likely to be.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from attrs import field, frozen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_HEADER = re.compile(r"^(Name|Tool|Suites): (.+)$", re.MULTILINE)


class Tool(StrEnum):
    """What must catch a bug."""

    SIMULATOR = "simulator"
    STATE_MACHINE = "state machine"
    DIRECTED = "directed"


@frozen
class Patch:
    path: Path
    does: str
    name: str
    tool: Tool
    suites: tuple[str, ...] = field(converter=tuple)

    @property
    def stem(self) -> str:
        return self.path.stem

    def apply(self, folder: Path, how: str = "--unidiff-zero") -> str:
        """Apply this to the copy in `folder`; return what git has against it, nothing if it fits.

        Args:
            how: an option of `git apply` that says how well it must fit.
        """
        command = ["git", "apply", how, str(self.path)]
        # Not to be taken for a part of the repository around it.
        environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return run.stderr.strip() if run.returncode else ""


def read(path: Path) -> Patch:
    """Read a patch.

    Raises:
        KeyError, ValueError: it has no name, or no tool that there is.
    """
    head, _, _ = path.read_text(encoding="utf-8").partition("\n--- ")
    said = dict(_HEADER.findall(head))
    return Patch(path, head.splitlines()[0], said["Name"], Tool(said["Tool"]), said.get("Suites", "").split())


def patches(chosen: Sequence[str] = ()) -> list[Patch]:
    """Return the patches in whose file name or name one of `chosen` is; all of them when nothing is chosen."""
    found = [read(path) for path in sorted(HERE.glob("*.patch"))]
    return [one for one in found if not chosen or any(word in one.stem or word in one.name for word in chosen)]


def copy_project(folder: Path) -> None:
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.patch"))
    shutil.copy(ROOT / "pyproject.toml", folder)
