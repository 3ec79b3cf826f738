"""A store that fails when it is told to: the honest fake of a database in trouble."""

from collections import Counter, deque
from types import TracebackType
from typing import Self

from attrs import frozen

from heimdex.domain.commands import Command
from heimdex.domain.errors import DatabaseError, HeimdexError
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import (
    AssetRepository,
    JobRepository,
    MaintenanceRepository,
    QueueRepository,
    StartUnitOfWork,
    UnitOfWork,
    WorkerRepository,
)


@frozen(kw_only=True)
class Fault:
    """What one unit of work raises when its block ends cleanly, and on which side of its commit."""

    error: HeimdexError
    committed: bool


class FaultyUnitOfWork(UnitOfWork):
    def __init__(self, inner: UnitOfWork, fault: Fault | None) -> None:
        self._inner = inner
        self._fault = fault

    @property
    def jobs(self) -> JobRepository:
        return self._inner.jobs

    @property
    def assets(self) -> AssetRepository:
        return self._inner.assets

    @property
    def workers(self) -> WorkerRepository:
        return self._inner.workers

    @property
    def queues(self) -> QueueRepository:
        return self._inner.queues

    @property
    def maintenance(self) -> MaintenanceRepository:
        return self._inner.maintenance

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fault = self._fault if exc_type is None else None
        if fault is not None and not fault.committed:
            self._inner.__exit__(type(fault.error), fault.error, None)
        else:
            self._inner.__exit__(exc_type, exc, traceback)
        if fault is not None:
            raise fault.error

    def rollback(self) -> None:
        self._inner.rollback()


class Faults:
    """Which units of work fail. Those of one command can be told apart from the others."""

    def __init__(self, start_uow: StartUnitOfWork) -> None:
        self.down: DatabaseError | None = None
        self.begun: Counter[type[Command[object]]] = Counter()
        self._start_uow = start_uow
        self._planned: dict[type[Command[object]], deque[Fault | None]] = {}

    def plan(self, command: type[Command[object]], *faults: Fault | None) -> None:
        """Let the next units of work of a command fail, one for each fault; None lets one through."""
        self._planned.setdefault(command, deque()).extend(faults)

    def start_for(self, command: type[Command[object]]) -> StartUnitOfWork:
        def start(scope: Scope) -> UnitOfWork:
            self.begun[command] += 1
            if self.down is not None:
                raise self.down
            planned = self._planned.get(command)
            return FaultyUnitOfWork(self._start_uow(scope), planned.popleft() if planned else None)

        return start


def before_commit(error: HeimdexError) -> Fault:
    return Fault(error=error, committed=False)


def after_commit(error: HeimdexError) -> Fault:
    return Fault(error=error, committed=True)
