"""The workers on record, over SQLAlchemy."""

from collections.abc import Callable, Collection
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.orm import worker_table
from heimdex.adapters.scoping import carrying
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import WORKER_KEPT_FOR, WorkerRepository


class SqlAlchemyWorkerRepository(WorkerRepository):
    def __init__(self, database: Database, session: Callable[[], Session], scope: Scope) -> None:
        self._database = database
        self._session = session
        self._scope = scope

    def seen(self, worker_id: UUID, *, name: str, types: Collection[str], queues: Collection[str]) -> None:
        connection = self._session().connection()
        now = self._database.read_now(self._session())
        values = {"name": name, "types": tuple(sorted(types)), "queues": tuple(sorted(queues)), "seen_at": now}
        again = update(worker_table).where(worker_table.c.id == worker_id).values(values)
        if not connection.execute(carrying(again, self._scope)).rowcount:
            first = insert(worker_table).values(id=worker_id, started_at=now, **values)
            connection.execute(carrying(first, self._scope))
            self._forget_lost()

    def gone(self, worker_id: UUID) -> None:
        statement = delete(worker_table).where(worker_table.c.id == worker_id)
        self._session().connection().execute(carrying(statement, self._scope))

    def _forget_lost(self) -> None:
        """Delete the rows of workers that died long ago. Each start does it, and adds only one."""
        lost = (
            select(worker_table.c.id)
            .where(worker_table.c.seen_at <= self._database.later(-WORKER_KEPT_FOR))
            .with_for_update(skip_locked=True)
        )
        statement = delete(worker_table).where(worker_table.c.id.in_(lost))
        self._session().connection().execute(carrying(statement, self._scope))
