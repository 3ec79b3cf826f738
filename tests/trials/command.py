"""A trial as a command: its options, how long it may take, and what it prints. It exits 1 when a promise is broken."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import getdoc
from random import SystemRandom
from time import monotonic, sleep
from types import FrameType
from typing import TypeVar

import attrs
from attrs import define, field, frozen
from rich.progress import Progress

from heimdex.entrypoints.cli.output import print_json, print_line
from heimdex.entrypoints.cli.tables import print_pairs, progress
from tests.postgres_server import PostgresUnavailable
from tests.trials.ledger import Ledger, scratch_ledger
from tests.trials.processes import EndedByItself

PASSED, BROKEN, INTERRUPTED = 0, 1, 130
_PAUSE_SECONDS = 0.02

Plan = TypeVar("Plan", bound=attrs.AttrsInstance)


@frozen
class Report:
    """What a trial measured, and which promises it found broken."""

    figures: Mapping[str, object]
    violations: Sequence[str]


class OutOfTime(Exception):
    """The trial has used up its time; the text says where it stood."""


@define(eq=False)
class Watch:
    """How far a trial is, and how long it may still take."""

    seconds: float
    bars: Progress = field(factory=progress)
    began: float = field(factory=monotonic)
    problems: list[str] = field(factory=list, init=False)
    _stands: str = field(default="at the start", init=False)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Leave the block when the time is over, and keep that as a problem: what was measured is still told."""
        try:
            yield
        except OutOfTime as over:
            self.problems.append(str(over))

    def wait_until(self, holds: Callable[[], object], what: str, *, pause: float = _PAUSE_SECONDS) -> None:
        """Raise OutOfTime when the trial's time is over before something holds."""
        while not holds():
            if monotonic() > self.began + self.seconds:
                raise OutOfTime(f"gave up after {self.seconds:,.0f} s, {self._stands}, waiting for {what}")
            sleep(pause)

    def advance(self, done: int, total: int, unit: str) -> None:
        """Show how far it is."""
        self._stands = f"{done:,} of {total:,} {unit}"
        if not self.bars.tasks:
            self.bars.add_task(unit, total=total)
        self.bars.update(self.bars.task_ids[0], completed=done, total=total)

    @property
    def elapsed(self) -> float:
        return round(monotonic() - self.began, 1)


def seed() -> int:
    """Draw a seed, to be printed: with it the same things are drawn again."""
    return SystemRandom().randrange(1_000_000)


def main(plan: type[Plan], run: Callable[[Plan, Ledger, Watch], Report], *, stores: Sequence[str], seconds: int) -> int:
    """Run a trial as its command line says, and return its exit code.

    Args:
        plan: its attributes are options, each with a default of its own.
        seconds: how long it may take unless told otherwise.
    """
    asked = vars(_parser(plan, stores, seconds).parse_args())
    store, url, limit, as_json = (asked.pop(name) for name in ("store", "url", "limit", "json"))
    signal.signal(signal.SIGTERM, _interrupt)
    # A scratch database has no roles, and a warning of that is no news.
    logging.getLogger("heimdex").setLevel(logging.ERROR)
    chosen = plan(**asked)
    try:
        with scratch_ledger(store, url) as ledger, progress() as bars:
            report = run(chosen, ledger, Watch(limit, bars))
    except (OutOfTime, EndedByItself, PostgresUnavailable) as error:
        report = Report({}, [str(error)])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    _show(Report({"store": store} | attrs.asdict(chosen) | dict(report.figures), report.violations), as_json=as_json)
    return BROKEN if report.violations else PASSED


def _parser(plan: type[Plan], stores: Sequence[str], seconds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=getdoc(plan), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=stores, default=stores[0])
    parser.add_argument("--url", help="a PostgreSQL server to make a database on, instead of one of its own")
    parser.add_argument("--limit", type=float, default=seconds, metavar="SECONDS", help="gives up after so long")
    parser.add_argument("--json", action="store_true", help="answer with one JSON document")
    for attribute in attrs.fields(plan):
        option = f"--{attribute.name.replace('_', '-')}"
        parser.add_argument(option, type=attribute.type, default=argparse.SUPPRESS, metavar="N")
    return parser


def _interrupt(number: int, _: FrameType | None) -> None:
    # So that every block is left as after Ctrl-C.
    raise KeyboardInterrupt


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json({"passed": not report.violations} | attrs.asdict(report))
        return
    print_pairs({name.replace("_", " "): value for name, value in report.figures.items()})
    for line in report.violations:
        print_line(f"BROKEN  {line}")
    print_line("passed" if not report.violations else f"{len(report.violations)} promises broken")
