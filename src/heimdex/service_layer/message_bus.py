"""The one door to the service layer: a command goes to its handler, and its answer comes back."""

from collections.abc import Callable, Mapping
from typing import Never, Protocol, TypeAlias, TypeVar, cast

from heimdex.domain.commands import Command, DraftedCommand
from heimdex.domain.errors import CommitOutcomeUnknown, DatabaseError
from heimdex.service_layer.ports import Ids
from heimdex.service_layer.retry import Retry

Answer = TypeVar("Answer")

Handlers: TypeAlias = Mapping[type[Command[object]], Callable[[Never], object]]
"""Each command's class with what takes it; whatever else a handler needs is bound to it already.

What takes a command that is done in steps takes `retry`, too, and calls each step through it.
"""


class _InSteps(Protocol[Answer]):
    def __call__(self, command: Command[Answer], /, *, retry: Retry) -> Answer: ...


class MessageBus:
    """Holds nothing of a command, so that any number of threads may use one."""

    def __init__(self, handlers: Handlers, *, ids: Ids, retry: Retry) -> None:
        self._handlers = handlers
        self._ids = ids
        self._retry = retry

    def handle(self, command: Command[Answer]) -> Answer:
        """Run a command and return its answer. After a transient failure of the database it is run again.

        As a whole, or from the step on that failed: what earlier steps did is committed, and part of the answer.

        Raises:
            CommitOutcomeUnknown: it may be done. Every other DatabaseError says that it, or its last step, is not; of
                CreateChildren it says nothing, since children have keys and are safe to create again.
        """
        handler = self._handlers[type(command)]
        settled = command.settled(self._ids)
        if command.in_steps:
            return cast("_InSteps[Answer]", handler)(settled, retry=self._retry)
        whole = cast("Callable[[Command[Answer]], Answer]", handler)
        try:
            return self._retry(lambda: whole(settled))
        except CommitOutcomeUnknown:
            raise
        except DatabaseError as error:
            if isinstance(settled, DraftedCommand) and settled.draft.unknown:
                # It was not there when it was looked for, and its commit may have come since.
                raise CommitOutcomeUnknown(f"a try may have been committed; the last one: {error}") from error
            raise
