"""Two transactions at once, one step at a time: each actor is a thread that does what it is told."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import UnitOfWork
from tests.stores import StoreHarness

Answer = TypeVar("Answer")

# Long enough for a machine under load; a step that should have ended by then is a failure.
PATIENCE = 20.0


class Actor:
    """Holds one unit of work open in a thread of its own until it is told to commit or to roll back."""

    def __init__(self, store: StoreHarness, scope: Scope) -> None:
        self._orders: SimpleQueue[tuple[Callable[[UnitOfWork], Any], Future[Any]] | None] = SimpleQueue()
        self._ended: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(store, scope), daemon=True)
        self._thread.start()

    def begins(self, act: Callable[[UnitOfWork], Answer]) -> "Future[Answer]":
        """Start a step and return at once; the step may be waiting for a lock."""
        answer: Future[Answer] = Future()
        self._orders.put((act, answer))
        return answer

    def does(self, act: Callable[[UnitOfWork], Answer]) -> Answer:
        return self.begins(act).result(PATIENCE)

    def commits(self) -> None:
        self._orders.put(None)
        self._ended.result(PATIENCE)

    def rolls_back(self) -> None:
        self.does(lambda uow: uow.rollback())
        self.commits()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.put(None)
        self._thread.join(PATIENCE)

    def _run(self, store: StoreHarness, scope: Scope) -> None:
        try:
            with store.unit_of_work(scope) as uow:
                while order := self._orders.get():
                    act, answer = order
                    try:
                        answer.set_result(act(uow))
                    except Exception as error:  # noqa: BLE001 - handed to whoever asked
                        answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - handed to whoever commits
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
