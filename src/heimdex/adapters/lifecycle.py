"""The life of a unit of work, the same for every store: entered once, open inside the block, closed after it."""

from abc import abstractmethod
from collections.abc import Callable, Collection
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from heimdex.adapters import nesting
from heimdex.domain.errors import DatabaseError, UnitOfWorkNotOpen, UnscopedStatement
from heimdex.domain.scope import Scope, System
from heimdex.service_layer.ports import UnitOfWork, Wakeups

Transaction = TypeVar("Transaction")


class LivingUnitOfWork(UnitOfWork, Generic[Transaction]):
    """Commits on a clean exit, rolls back on an exception, and wakes workers only after the commit."""

    def __init__(self, scope: Scope, wakeups: Wakeups) -> None:
        self._scope = scope
        self._wakeups = wakeups
        self._queues: set[str] = set()
        self._leave: Callable[[], None] | None = None
        self._transaction: Transaction | None = None

    @abstractmethod
    def _begin(self) -> Transaction: ...

    @abstractmethod
    def _commit(self, transaction: Transaction) -> None: ...

    @abstractmethod
    def _undo(self, transaction: Transaction) -> None: ...

    @abstractmethod
    def _close(self, transaction: Transaction) -> None: ...

    @property
    def is_open(self) -> bool:
        """Whether its block has been entered and not yet left."""
        return self._transaction is not None

    def open_transaction(self) -> Transaction:
        """Return the transaction, for the repositories.

        Raises:
            UnitOfWorkNotOpen: before the block or after it.
        """
        return self._entered()

    def _entered(self) -> Transaction:
        if self._transaction is None:
            raise UnitOfWorkNotOpen
        return self._transaction

    def transaction_of_system(self) -> Transaction:
        """Return the transaction, for what belongs to no organisation.

        Raises:
            UnscopedStatement: this is an organisation's unit of work.
        """
        transaction = self.open_transaction()
        if not isinstance(self._scope, System):
            raise UnscopedStatement("workers belong to no organisation; open the unit of work as System(...)")
        return transaction

    def __enter__(self) -> Self:
        if self._leave is not None:
            raise UnitOfWorkNotOpen
        leave = nesting.enter()
        try:
            self._transaction = self._begin()
        except BaseException:
            leave()
            raise
        self._leave = leave
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transaction = self._entered()
        try:
            if exc_type is None:
                self._commit(transaction)
            else:
                # The error that ended the block says more; a database that cannot be told has lost the transaction.
                with suppress(DatabaseError):
                    self._undo(transaction)
        finally:
            self._transaction = None
            if self._leave is not None:
                self._leave()
            self._close(transaction)
        if exc_type is None and self._queues:
            self._wake(self._queues)

    def rollback(self) -> None:
        self._undo(self.open_transaction())
        self._queues.clear()

    def _wake(self, queues: Collection[str]) -> None:
        """Wake the workers of queues, now that what was written is kept."""
        self._wakeups.wake(queues)

    def wake_after_commit(self, queue: str) -> None:
        self._queues.add(queue)
