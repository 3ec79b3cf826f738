"""Trying a command, or a step of one, again when the database rolled it back for no fault of its own."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol, TypeVar

from attrs import frozen
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from heimdex.domain.errors import TransientDatabaseError
from heimdex.service_layer.ports import Random, Sleep

Answer = TypeVar("Answer")


class Retry(Protocol):
    """Calls a whole unit of work, or more, and decides how often."""

    def __call__(self, act: Callable[[], Answer]) -> Answer: ...


@frozen(kw_only=True)
class RetryPolicy:
    """How often a command is tried, and how long it waits in between: from `shortest` on, doubled, up to `longest`.

    Up to as much again is left to chance, so that those who failed in one moment do not come back in one moment.
    """

    tries: int = 3
    shortest: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(seconds=10)

    def wait(self, tries_made: int, random: float) -> timedelta:
        full = min(self.shortest * (1 << tries_made), self.longest)
        return min(max(full * (0.5 + random / 2), self.shortest), self.longest)


def once(act: Callable[[], Answer]) -> Answer:
    """Call something and let every error through."""
    return act()


class RetryTransient:
    """Calls something again after a TransientDatabaseError; the last error is raised as it is.

    What is called must be a whole unit of work or more: inside one, what was rolled back cannot be repeated.
    """

    def __init__(self, policy: RetryPolicy, *, sleep: Sleep, random: Random) -> None:
        self._policy = policy
        self._sleep = sleep
        self._random = random
        self._later_tries = Retrying(
            stop=stop_after_attempt(max(policy.tries - 1, 1)),
            wait=lambda state: self._wait(state.attempt_number + 1).total_seconds(),
            retry=retry_if_exception_type(TransientDatabaseError),
            sleep=lambda seconds: sleep(timedelta(seconds=seconds)),
            reraise=True,
        )

    def __call__(self, act: Callable[[], Answer]) -> Answer:
        # The first try goes past tenacity, which takes longer over it than all else that is between caller and handler.
        if self._policy.tries > 1:
            with suppress(TransientDatabaseError):
                return act()
            self._sleep(self._wait(1))
        return self._later_tries(act)

    def _wait(self, tries_made: int) -> timedelta:
        return self._policy.wait(tries_made, self._random())
