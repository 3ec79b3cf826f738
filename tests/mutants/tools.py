"""What is run on a copy of the project to find out whether it catches the bug in it."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

# Quick ones first: the first test that fails ends a run.
SUITES = ("domain", "service_layer", "contract", "adapters", "property", "entrypoints")
STATE_MACHINE = ("property",)
LONGEST_SECONDS = 900
# The whole of it, on the project without a bug.
LONGEST_BASELINE_SECONDS = 2_400

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_SEED = re.compile(r"^seed (\d+): (\w+)", re.MULTILINE)


@frozen
class Answer:
    """What a tool says: `caught_by` is a test, or a seed with the rule that was broken; None when it saw no bug."""

    caught_by: str | None
    problem: str = ""
    seed: int | None = None


def run_tests(folder: Path, suites: Sequence[str]) -> Answer:
    """Run suites until the first test that fails."""
    command = ["pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--hypothesis-profile=unshrunk"]
    command += [f"tests/{suite}" for suite in suites]
    run = _run(folder, command, LONGEST_SECONDS)
    if run is None:
        return Answer(f"(still running after {LONGEST_SECONDS} s)")
    if run.returncode == 0:
        return Answer(None, "no test failed")
    failed = _FAILED.search(run.stdout)
    return Answer(failed[1]) if failed else Answer(None, f"no test ran: {_end(run)}")


def run_simulator(folder: Path, seeds: int) -> Answer:
    """Run the simulator from seed 0 on until the first run in which a rule is broken."""
    command = ["tests.simulation.simulate", "--as-found", "--first", "0", "--seeds", str(seeds), "--processes", "1"]
    run = _run(folder, command, LONGEST_SECONDS)
    if run is None:
        return Answer(None, f"no violation in {LONGEST_SECONDS} s")
    if broken := _SEED.search(run.stdout):
        return Answer(f"seed {broken[1]}: {broken[2]}", seed=int(broken[1]))
    if run.returncode == 0 or "never reached" in run.stdout:
        return Answer(None, f"no violation in {seeds:,} seeds")
    return Answer(None, f"no run: {_end(run)}")


def check_seed(folder: Path, seed: int) -> str:
    """Return what is wrong with a seed on the project without a bug."""
    run = _run(folder, ["tests.simulation.simulate", "--seed", str(seed)], LONGEST_SECONDS)
    return "" if run is not None and run.returncode == 0 else f"seed {seed} fails without any bug planted"


def check_tests(folder: Path) -> str:
    """Return what is wrong with the tests on the project without a bug: one that fails would seem to kill every bug."""
    command = ["pytest", "-x", "-q", "-n", "2", "-p", "no:cacheprovider", "--no-header"]
    run = _run(folder, command + [f"tests/{suite}" for suite in SUITES], LONGEST_BASELINE_SECONDS)
    if run is None:
        return f"they still ran after {LONGEST_BASELINE_SECONDS} s"
    return "" if run.returncode == 0 else _end(run)


def _run(folder: Path, module: Sequence[str], seconds: int) -> "subprocess.CompletedProcess[str] | None":
    """Run a module in a copy; return None when it did not end in time."""
    paths = os.pathsep.join([str(folder / "src"), str(folder)])
    try:
        return subprocess.run(
            [sys.executable, "-m", *module],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths, "CI": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None


def _end(run: "subprocess.CompletedProcess[str]") -> str:
    return run.stdout[-1_000:] + run.stderr[-1_000:]
