"""`make mutants`: plants one bug at a time in a copy of the project and tells what catches it.

Each `*.patch` beside this file is one bug, and names the tool that must catch it. A bug that its tool does not catch,
or a patch that no longer fits the source, makes this exit 1. `make mutants ARGS="fence rescue"` plants some of them.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen

from tests.mutants import tools
from tests.mutants.patches import Patch, Tool, copy_project, patches
from tests.mutants.tools import Answer

# Each is a process of its own.
AT_ONCE = 2
SEEDS = 2_000
SEEDS_OF_MATRIX = 300


@frozen
class Result:
    patch: Patch
    caught_by: str | None
    problem: str
    seconds: float

    def __str__(self) -> str:
        caught = self.caught_by or f"SURVIVED: {self.problem}"
        return f"{self.patch.stem:32} {self.patch.name:24} {self.patch.tool:13} {self.seconds:5.0f} s  {caught}"


def planted(patch: Patch, look: Callable[[Path], Answer]) -> Result:
    """Return what `look` finds in a copy with this bug."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        problem = patch.apply(folder)
        answer = Answer(None, f"does not fit: {problem}") if problem else look(folder)
    return Result(patch, answer.caught_by, answer.problem, time.monotonic() - began)


def attack(patch: Patch, seeds: int) -> Result:
    """Let the tool of a bug look for it; where it does not catch it, say which other one would have."""

    def look(folder: Path) -> Answer:
        answer = the_tool_of(patch, seeds)(folder)
        if answer.caught_by is not None or patch.tool is Tool.DIRECTED:
            return answer
        other = tools.run_tests(folder, tools.SUITES).caught_by or "nothing"
        return Answer(None, f"the {patch.tool} missed it: {answer.problem}; caught by {other}")

    return planted(patch, look)


def the_tool_of(patch: Patch, seeds: int) -> Callable[[Path], Answer]:
    match patch.tool:
        case Tool.SIMULATOR:
            return lambda folder: simulated(folder, seeds)
        case Tool.STATE_MACHINE:
            return lambda folder: tools.run_tests(folder, tools.STATE_MACHINE)
        case Tool.DIRECTED:
            return lambda folder: tools.run_tests(folder, ordered(patch))


def ordered(patch: Patch) -> list[str]:
    """Return the suites, the likely ones first."""
    return sorted(tools.SUITES, key=lambda suite: suite not in patch.suites)


def simulated(folder: Path, seeds: int) -> Answer:
    """Simulate; the seed that catches a bug must be a good one without it."""
    answer = tools.run_simulator(folder, seeds)
    if answer.seed is None:
        return answer
    with tempfile.TemporaryDirectory() as name:
        copy_project(Path(name))
        problem = tools.check_seed(Path(name), answer.seed)
    return Answer(None, problem) if problem else answer


def matrix(chosen: Sequence[Patch], seeds: int) -> int:
    """Let the simulator and the state machine look for each bug, whatever its tool is."""

    def both(patch: Patch) -> tuple[Result, Result]:
        return (
            planted(patch, lambda folder: simulated(folder, seeds)),
            planted(patch, lambda folder: tools.run_tests(folder, tools.STATE_MACHINE)),
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for simulator, machine in pool.map(both, chosen):
            found = [answer.caught_by or "-" for answer in (simulator, machine)]
            say(f"{simulator.patch.stem:32} simulator: {found[0]:36} state machine: {found[1].rpartition('::')[2]}")
    return 0


def attacks(chosen: Sequence[Patch], seeds: int) -> int:
    if any(patch.tool is not Tool.SIMULATOR for patch in chosen):
        with tempfile.TemporaryDirectory() as name:
            copy_project(Path(name))
            if problem := tools.check_tests(Path(name)):
                say(f"the tests fail without any bug planted:\n{problem}")
                return 1
    results = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(lambda patch: attack(patch, seeds), chosen):
            results.append(result)
            say(str(result))
    survivors = [result for result in results if result.caught_by is None]
    say(f"{len(results) - len(survivors)} killed by the tool they name, {len(survivors)} survived it")
    return 1 if survivors else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names: only these")
    parser.add_argument("--tool", type=Tool, choices=list(Tool), help="only those that this one must catch")
    parser.add_argument("--seeds", type=int, help="how many runs the simulator has to catch one")
    parser.add_argument("--all-tools", action="store_true", help="which of simulator and state machine catches which")
    asked = parser.parse_args(arguments)
    chosen = [patch for patch in patches(asked.names) if asked.tool in {None, patch.tool}]
    if asked.all_tools:
        return matrix(chosen, asked.seeds or SEEDS_OF_MATRIX)
    return attacks(chosen, asked.seeds or SEEDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
