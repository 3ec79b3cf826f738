"""The ports of the ledger as simulated processes see them: every call lets others go on first, and may go wrong."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from heimdex.adapters.memory import MemoryUnitOfWork
from heimdex.domain.errors import ConnectionLost, DatabaseError
from heimdex.domain.results import Created
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import (
    AssetRepository,
    JobRepository,
    MaintenanceRepository,
    QueueRepository,
    UnitOfWork,
    Views,
    WorkerRepository,
)

Answer = TypeVar("Answer")
Port = TypeVar("Port")


class Calls(Protocol):
    """What the simulation does at each call of a port."""

    def call(self, name: str, act: Callable[[], Answer], unit: "SimulatedUnitOfWork | None") -> Answer: ...

    def commit(self, unit: "SimulatedUnitOfWork") -> None: ...

    @property
    def outages(self) -> int:
        """How often the database has gone away so far."""


class SimulatedUnitOfWork(UnitOfWork):
    """A unit of work on a connection that may be lost."""

    def __init__(self, inner: MemoryUnitOfWork, scope: Scope, calls: Calls) -> None:
        self.inner = inner
        self.scope = scope
        self.verbs: list[str] = []
        self.created: list[Created] = []
        # Whether the client has lost it, and the server will end it.
        self.given_up = False
        self._calls = calls
        self._outages = calls.outages
        # What the transaction was lost to.
        self._broken: DatabaseError | None = None

    @property
    def jobs(self) -> JobRepository:
        return self._port("jobs", _JOBS, self.inner.jobs)

    @property
    def assets(self) -> AssetRepository:
        return self._port("assets", _ASSETS, self.inner.assets)

    @property
    def workers(self) -> WorkerRepository:
        return self._port("workers", _WORKERS, self.inner.workers)

    @property
    def queues(self) -> QueueRepository:
        return self._port("queues", _QUEUES, self.inner.queues)

    @property
    def maintenance(self) -> MaintenanceRepository:
        return self._port("maintenance", _MAINTENANCE, self.inner.maintenance)

    def __enter__(self) -> Self:
        try:
            self._calls.call("begin", self.inner.__enter__, None)
        except BaseException as error:
            self._end(error)
            raise
        self._outages = self._calls.outages
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            self._end(exc)
            return
        try:
            self._calls.commit(self)
        except BaseException as error:
            self._end(error)
            raise

    def give_up(self) -> None:
        """Let the client be done with it, while the server still has it."""
        self.given_up = True
        leave = self.inner._leave  # noqa: SLF001 - no client of a real database could do this
        if leave is not None:
            leave()

    def _end(self, error: BaseException) -> None:
        """Let the server undo what it still has of this."""
        if self.inner.is_open and not self.given_up:
            self.inner.__exit__(type(error), error, None)

    def rollback(self) -> None:
        self.check_usable()
        self.inner.rollback()

    def check_usable(self) -> None:
        """Refuse to go on in a transaction that the server has given up.

        Raises:
            DatabaseError: what PostgreSQL would say.
        """
        if self._broken is None and self._outages != self._calls.outages:
            self._broken = ConnectionLost("simulated: the server went away")
        if isinstance(self._broken, ConnectionLost):
            raise ConnectionLost(self._broken.detail)
        if self._broken is not None:
            raise DatabaseError("simulated: a statement of this transaction had failed")

    def lose(self, error: DatabaseError) -> None:
        """Let the server give up the transaction."""
        self._broken = error
        self.inner.rollback()

    def _port(self, name: str, watched: Callable[..., Port], inner: object) -> Port:
        return watched(name, inner, self._call)

    def _call(self, name: str, act: Callable[[], Answer]) -> Answer:
        self.verbs.append(name.rpartition(".")[2])
        answer = self._calls.call(name, act, self)
        if isinstance(answer, Created):
            self.created.append(answer)
        elif isinstance(answer, list):
            self.created += [one for one in answer if isinstance(one, Created)]
        return answer


@contextmanager
def simulated_views(views: Views, calls: Calls) -> Iterator[Views]:
    yield _VIEWS("views", views, lambda name, act: calls.call(name, act, None))


def _watched(port: Any) -> Any:  # noqa: ANN401 - a class of ports, which mypy takes for none that can be given
    """Return a class in which each abstract method of a port is a call that the simulation sees."""

    def method(name: str) -> Callable[..., Any]:
        def call(self: Any, /, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the port's method takes
            act = partial(getattr(self.inner, name), *arguments, **named)
            return self.through(f"{self.port}.{name}", act)

        return call

    def build(self: Any, port: str, inner: object, through: Callable[..., object]) -> None:  # noqa: ANN401 - of the class made here
        self.port, self.inner, self.through = port, inner, through

    abstract: Collection[str] = getattr(port, "__abstractmethods__", ())
    members = {name: method(name) for name in sorted(abstract)}
    return type(f"Simulated{port.__name__}", (port,), {"__init__": build, **members})


_JOBS: Callable[..., JobRepository] = _watched(JobRepository)
_ASSETS: Callable[..., AssetRepository] = _watched(AssetRepository)
_WORKERS: Callable[..., WorkerRepository] = _watched(WorkerRepository)
_QUEUES: Callable[..., QueueRepository] = _watched(QueueRepository)
_MAINTENANCE: Callable[..., MaintenanceRepository] = _watched(MaintenanceRepository)
_VIEWS: Callable[..., Views] = _watched(Views)
