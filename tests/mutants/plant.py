"""Plants one bug at a time in a copy of the project and tells which test catches it: `make mutants`.

Each `*.patch` beside this file is one bug; the lines above its diff say what it breaks. A bug that no test catches, or
a patch that no longer fits the source, makes this exit 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Quick ones first: the first test that fails ends a run.
SUITES = ("domain", "service_layer", "contract", "adapters", "property", "entrypoints")
# A patch may say where its killer is likely to be; those suites run first, the others after them.
_FIRST = re.compile(r"^Suites: (.+)$", re.MULTILINE)
LONGEST_SECONDS = 600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@frozen
class Result:
    patch: str
    killer: str | None
    problem: str
    seconds: float


def patches(chosen: Sequence[str]) -> list[Path]:
    found = sorted(HERE.glob("*.patch"))
    return [patch for patch in found if not chosen or any(name in patch.stem for name in chosen)]


def suites(patch: Path) -> list[str]:
    first = _FIRST.search(patch.read_text(encoding="utf-8"))
    return sorted(SUITES, key=lambda suite: first is None or suite not in first[1].split())


def apply(patch: Path, folder: Path) -> str:
    """Apply a patch to the copy in `folder`; return what git has against it, nothing if it fits."""
    command = ["git", "apply", "--unidiff-zero", str(patch)]
    # Not to be taken for a part of the repository around it.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.stderr.strip() if run.returncode else ""


def copy_project(folder: Path) -> None:
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.patch"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def run_tests(folder: Path, chosen: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run suites on the copy in `folder`, until the first test that fails."""
    if not (folder / "src").exists():
        copy_project(folder)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header"]
    command += [f"tests/{suite}" for suite in chosen]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "CI": "true"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
    )


def attack(patch: Path) -> Result:
    """Run the tests on a copy with this bug, until the first that fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        if problem := apply(patch, folder):
            return Result(patch.stem, None, f"does not fit: {problem}", time.monotonic() - began)
        try:
            run = run_tests(folder, suites(patch))
        except subprocess.TimeoutExpired:
            return Result(patch.stem, f"(still running after {LONGEST_SECONDS} s)", "", time.monotonic() - began)
    failed = _FAILED.search(run.stdout)
    if run.returncode == 0:
        return Result(patch.stem, None, "no test failed", time.monotonic() - began)
    if failed is None:
        return Result(
            patch.stem, None, f"no test ran: {run.stdout[-400:]}{run.stderr[-400:]}", time.monotonic() - began
        )
    return Result(patch.stem, failed[1], "", time.monotonic() - began)


def check_without_bug() -> str:
    """Return what is wrong with the project as it is: a test that fails anyway would seem to kill every bug."""
    with tempfile.TemporaryDirectory() as name:
        run = run_tests(Path(name), SUITES)
    return "" if run.returncode == 0 else run.stdout[-2_000:] + run.stderr[-2_000:]


def main(chosen: Sequence[str]) -> int:
    if problem := check_without_bug():
        sys.stdout.write(f"the tests fail without any bug planted:\n{problem}\n")
        return 1
    survivors = 0
    # Two at a time, each in a process of its own.
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(attack, patches(chosen)):
            survivors += result.killer is None
            answer = f"killed by {result.killer}" if result.killer else f"SURVIVED: {result.problem}"
            sys.stdout.write(f"{result.patch:32} {result.seconds:5.0f} s  {answer}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(patches(chosen)) - survivors} killed, {survivors} survived\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
