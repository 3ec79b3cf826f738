"""The unit of work over SQLAlchemy: one session, one transaction."""

import time
from collections.abc import Collection

from sqlalchemy.orm import Session

from heimdex.adapters.asset_repository import SqlAlchemyAssetRepository
from heimdex.adapters.claim_bounds import BoundsOfUnit
from heimdex.adapters.database import Database
from heimdex.adapters.job_repository import SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.lifecycle import LivingUnitOfWork
from heimdex.adapters.operations import SqlAlchemyMaintenanceRepository, SqlAlchemyQueueRepository
from heimdex.adapters.postgres_jobs import PostgresJobRepository
from heimdex.adapters.sqlite_jobs import SqliteJobRepository
from heimdex.adapters.worker_repository import SqlAlchemyWorkerRepository
from heimdex.domain.errors import CommitOutcomeUnknown, ConnectionLost, DatabaseError
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Wakeups


class SqlAlchemyUnitOfWork(LivingUnitOfWork[Session]):
    def __init__(
        self,
        database: Database,
        scope: Scope,
        tools: Tools,
        wakeups: Wakeups,
        *,
        repository: type[SqlAlchemyJobRepository] | None = None,
    ) -> None:
        super().__init__(scope, wakeups)
        self._database = database
        self._begins = database.begin
        self._commit_seconds = 0.0
        self._ids = tools.ids
        tools = Tools(tools.specify, tools.ids, tools.random, self.wake_after_commit)
        ours = PostgresJobRepository if database.claims_in_one_statement else SqliteJobRepository
        repository = repository or ours
        self._bounds = BoundsOfUnit(database.claim_bounds)
        self._jobs = repository(database, self.open_transaction, scope, tools, self._bounds)

    def expect_one_write(self) -> None:
        """Let the one write commit with itself, where the database can."""
        self._begins = self._database.begin_late
        self._jobs.writes_once = True

    @property
    def jobs(self) -> SqlAlchemyJobRepository:
        self.open_transaction()
        return self._jobs

    @property
    def assets(self) -> SqlAlchemyAssetRepository:
        self.open_transaction()
        return SqlAlchemyAssetRepository(self._database, self.open_transaction, self._scope, self._ids)

    @property
    def workers(self) -> SqlAlchemyWorkerRepository:
        self.open_transaction()
        return SqlAlchemyWorkerRepository(self._database, self.transaction_of_system, self._scope)

    @property
    def queues(self) -> SqlAlchemyQueueRepository:
        self.open_transaction()
        return SqlAlchemyQueueRepository(self._database, self.open_transaction, self._scope, resumed=self._resumed)

    @property
    def maintenance(self) -> SqlAlchemyMaintenanceRepository:
        self.transaction_of_system()
        return SqlAlchemyMaintenanceRepository(self._database, self.transaction_of_system, self._scope)

    def _begin(self) -> Session:
        return self._begins(self._scope)

    def _commit(self, transaction: Session) -> None:
        self._check_nothing_failed(transaction)
        began = time.monotonic()
        try:
            transaction.commit()
        except ConnectionLost as error:
            raise CommitOutcomeUnknown(
                f"the connection was lost during COMMIT ({error.detail}); look whether the rows are there"
            ) from error
        self._commit_seconds = self._jobs.write_seconds or time.monotonic() - began
        self._bounds.end(kept=True)

    def _resumed(self, queue: str) -> None:
        self._bounds.resumed()
        self.wake_after_commit(queue)

    def _wake(self, queues: Collection[str]) -> None:
        self._wakeups.wake(queues, self._commit_seconds)

    def _check_nothing_failed(self, transaction: Session) -> None:
        """Refuse to commit what the database has given up already: it would say yes and keep nothing."""
        if not transaction.in_transaction():
            return
        connection = transaction.connection()
        if connection.invalidated:
            raise ConnectionLost("nothing was committed: the connection had been lost, and the error was passed over")
        if self._database.is_undone(connection):
            raise DatabaseError("nothing was committed: a statement had failed, and its error was passed over")

    def _undo(self, transaction: Session) -> None:
        transaction.rollback()
        self._bounds.end(kept=False)

    def _close(self, transaction: Session) -> None:
        self._database.end(transaction)
        self._bounds.end(kept=False)
