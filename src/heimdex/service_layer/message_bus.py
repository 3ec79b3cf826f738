"""The one door to the service layer: a command goes to its handler, and its answer comes back."""

from collections.abc import Callable, Mapping
from typing import Never, Protocol, TypeAlias, TypeVar, cast

from heimdex.domain.commands import Command
from heimdex.service_layer.ports import Ids

Answer = TypeVar("Answer")

Handlers: TypeAlias = Mapping[type[Command[object]], Callable[[Never], object]]
"""Each command's class with what takes it; whatever else a handler needs is bound to it already."""


class Retry(Protocol):
    def __call__(self, act: Callable[[], Answer]) -> Answer: ...


class MessageBus:
    """Holds nothing of a command, so that any number of threads may use one."""

    def __init__(self, handlers: Handlers, *, ids: Ids, retry: Retry) -> None:
        self._handlers = handlers
        self._ids = ids
        self._retry = retry

    def handle(self, command: Command[Answer]) -> Answer:
        """Run a command, again as a whole after a transient failure of the database, and return its answer."""
        handler = cast("Callable[[Command[Answer]], Answer]", self._handlers[type(command)])
        settled = command.settled(self._ids)
        return self._retry(lambda: handler(settled))
