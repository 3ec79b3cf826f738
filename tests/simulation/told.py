"""What a caller was told, to be compared with what is in the ledger in the end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

from attrs import define, field

from heimdex.domain.errors import CommitOutcomeUnknown, DatabaseError, HeimdexError
from heimdex.testing.simulator.machine import take

Answer = TypeVar("Answer")

_BETWEEN = timedelta(seconds=1)


@define(eq=False)
class Told(Generic[Answer]):
    """The answers to one question, over all starts of the process that asked it.

    `refused` is how often it was told that nothing was done, `unknown` that nobody knows, `declined` that the ledger
    says no. Who died was told nothing.
    """

    asked: int = 0
    answers: list[Answer] = field(factory=list)
    refused: int = 0
    unknown: int = 0
    declined: list[HeimdexError] = field(factory=list)

    def ask(self, act: Callable[[], Answer]) -> bool:
        """Ask once, and take no error of the ledger any further; return whether there was an answer."""
        self.asked += 1
        try:
            answer = act()
        except CommitOutcomeUnknown:
            self.unknown += 1
        except DatabaseError:
            self.refused += 1
        except HeimdexError as error:
            self.declined.append(error)
        else:
            self.answers.append(answer)
            return True
        take(_BETWEEN)
        return False

    def ask_until_answered(self, act: Callable[[], Answer]) -> None:
        while not self.ask(act):
            pass

    @property
    def open(self) -> int:
        """How often it may have been done without an answer that says so."""
        died = self.asked - len(self.answers) - self.refused - self.unknown - len(self.declined)
        return self.unknown + died

    def check_count(self, count: int) -> None:
        """Check how often it was done: once for each answer that says so, and perhaps where nobody knows."""
        least, most = len(self.answers), len(self.answers) + self.open
        assert least <= count <= most, f"done {count} times, and from {least} to {most} follow from {self}"

    def check_done(self, done: bool) -> None:  # noqa: FBT001 - it is what is compared
        """Check whether it was done, where twice is the same as once."""
        if self.answers:
            assert done, f"not done, against {self}"
        elif not self.open:
            assert not done, f"done, against {self}"

    def check_done_in_steps(self, done: bool) -> None:  # noqa: FBT001 - as above
        """Check whether something was done that takes several steps, each for itself: the first may be kept alone."""
        if not self.refused:
            self.check_done(done)
