"""A unit of work inside a caller's transaction: a savepoint of it, so that the caller's commit is the only one.

The caller may use another driver than ours, and its engine is its own: only SQLAlchemy's own statements are run, no
guard is put there, and what the caller's statements raise stays as it is.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import Connection, Insert, Transaction, Update, event, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from heimdex.adapters.database import Database
from heimdex.adapters.database_errors import translate_our_errors, translated
from heimdex.adapters.job_repository import SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.postgres_create import CREATE_ONE, ONE
from heimdex.adapters.postgres_jobs import PostgresJobRepository
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.errors import DatabaseError, HeimdexError, InvalidInput, UnitOfWorkMisuse
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Wakeups

_WAITING = "heimdex_waiting_wakeups"


def join(database: Database, whose: object, scope: Scope, tools: Tools, wakeups: Wakeups) -> "JoinedUnitOfWork":
    """Return a unit of work in the transaction of a caller's Session or Connection.

    Raises:
        InvalidInput: it is neither, or it is another database's.
    """
    if isinstance(whose, scoped_session):
        whose = whose()
    if not isinstance(whose, Session | Connection):
        remedy = (
            "call this inside `await session.run_sync(...)`, with the Session or Connection that it gives"
            if hasattr(whose, "run_sync")
            else "give a Session or Connection of SQLAlchemy"
        )
        raise InvalidInput("session_or_connection", type(whose).__name__, remedy)
    return JoinedUnitOfWork(database, whose, scope, tools, wakeups)


class JoinedUnitOfWork(SqlAlchemyUnitOfWork):
    def __init__(
        self, database: Database, whose: Session | Connection, scope: Scope, tools: Tools, wakeups: Wakeups
    ) -> None:
        self._whose = whose
        self._joined = _connection(whose)
        if self._joined.dialect.name != database.engine.dialect.name:
            raise InvalidInput(
                "session_or_connection", self._joined.dialect.name, "give one of the database that Heimdex works on"
            )
        super().__init__(database, scope, tools, wakeups, repository=_repository(self._joined, database))
        self._around: tuple[Transaction, ...] = ()
        self._restore: Callable[[], None] | None = None
        self._cleanup = ExitStack()

    def open_transaction(self) -> Session:
        session = super().open_transaction()
        self._check_around()
        return session

    def _begin(self) -> Session:
        # Asked again: between the call and the block the caller may have ended a transaction.
        connection = self._joined = _connection(self._whose)
        self._around = tuple(
            transaction
            for transaction in (connection.get_transaction(), connection.get_nested_transaction())
            if transaction is not None
        )
        translate_our_errors(connection.dialect)
        with _translating():
            self._restore = self._database.take_part(connection, self._scope)
            session = Session(
                connection, join_transaction_mode="create_savepoint", autoflush=False, expire_on_commit=False
            )
            session.connection()
        self._refuse_commits(connection)
        return session

    def _commit(self, transaction: Session) -> None:
        self._check_around()
        try:
            with _translating():
                self._give_back()
                transaction.commit()
        except BaseException:
            with suppress(DatabaseError):
                self._undo(transaction)
            raise

    def rollback(self) -> None:
        super().rollback()
        # A new savepoint at once: what the caller does from here on belongs to the block, too.
        with _translating():
            self.open_transaction().connection()

    def _undo(self, transaction: Session) -> None:
        # Where the transaction around it has ended, the savepoint has gone with it.
        if self._is_inside():
            with _translating():
                transaction.rollback()

    def _close(self, transaction: Session) -> None:
        self._cleanup.close()
        with suppress(DatabaseError), _translating():
            transaction.close()
            if self._is_inside():
                self._give_back()
        # What the caller's transaction will keep of it, nobody knows yet.
        self._bounds.end(kept=False)

    def _wake(self, queues: Collection[str]) -> None:
        # A Connection does not say when it has committed: polling finds what came through one.
        if isinstance(self._whose, Session):
            _wake_on_root_commit(self._whose, queues, self._wakeups)

    def _give_back(self) -> None:
        """Name the organisation that was named before, once. It fails where a statement has failed unnoticed."""
        if self._restore is not None:
            self._restore()
            self._restore = None

    def _is_inside(self) -> bool:
        return all(transaction.is_active for transaction in self._around)

    def _check_around(self) -> None:
        if not self._is_inside():
            raise UnitOfWorkMisuse("the transaction was ended inside the block that had joined it; nothing was kept")

    def _refuse_commits(self, connection: Connection) -> None:
        if isinstance(self._whose, Session):
            session, outside = self._whose, self._whose.get_nested_transaction()

            def refuse_unless_begun_inside(_: Session) -> None:
                if session.get_nested_transaction() in {None, outside}:
                    _refuse()

            _listen(self._cleanup, session, "before_commit", refuse_unless_begun_inside)

        def refuse_and_undo(_: Connection) -> None:
            # SQLAlchemy gives up a transaction whose commit event raises, and the database must not go on with it.
            connection.dialect.do_rollback(connection.connection)
            _refuse("all of it was rolled back")

        _listen(self._cleanup, connection, "commit", refuse_and_undo)
        # So the commit that most callers would write is refused before SQLAlchemy hears of it.
        vars(connection)["commit"] = _refuse
        self._cleanup.callback(vars(connection).pop, "commit")


class _CountingJobRepository(SqlAlchemyJobRepository):
    """For a driver that does not say how many rows a statement for many sets of parameters changed."""

    def _run(self, statement: Insert | Update, rows: list[dict[str, Any]]) -> int:
        if isinstance(statement, Insert):
            return super()._run(statement, rows)
        connection = self._session().connection()
        return sum(connection.execute(carrying(statement, self._scope), row).rowcount for row in rows)


class _JoinedPostgresJobRepository(PostgresJobRepository):
    """Runs nothing past SQLAlchemy: a caller may listen to the statements of its engine, and to their errors."""

    def _create_one(self, org_id: UUID, values: Sequence[object]) -> str | None:
        parameters = dict(zip(ONE, (org_id.hex, *values), strict=True))
        statement = text(CREATE_ONE % tuple(f":{name}" for name in ONE))
        time: str | None = self._session().connection().execute(carrying(statement, self._scope), parameters).scalar()
        return time


def _repository(connection: Connection, database: Database) -> type[SqlAlchemyJobRepository]:
    if connection.dialect.driver == "psycopg2" and database.claims_in_one_statement:
        return _JoinedPostgresJobRepository
    return SqlAlchemyJobRepository if connection.dialect.supports_sane_multi_rowcount else _CountingJobRepository


def _connection(whose: Session | Connection) -> Connection:
    """Return the caller's connection, its transaction begun."""
    with _translating():
        try:
            connection = whose.connection() if isinstance(whose, Session) else whose
        except UnboundExecutionError:
            raise InvalidInput("session_or_connection", "Session", "give the Connection: it has several") from None
        if not connection.in_transaction():
            connection.begin()
    return connection


@contextmanager
def _translating() -> Iterator[None]:
    """Make an error of ours from what SQLAlchemy raises for statements that carry no scope: savepoints."""
    try:
        yield
    except HeimdexError:
        raise
    except (DBAPIError, InvalidRequestError) as error:
        raise translated(error) from error


def _refuse(outcome: str = "nothing was lost") -> NoReturn:
    raise UnitOfWorkMisuse(f"a commit inside a unit of work that joined the transaction; {outcome}: commit after it")


def _listen(cleanup: ExitStack, target: object, name: str, listener: Callable[..., None]) -> None:
    event.listen(target, name, listener)
    cleanup.callback(event.remove, target, name, listener)


def _wake_on_root_commit(session: Session, queues: Collection[str], wakeups: Wakeups) -> None:
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "after_commit", _wake_all)
        event.listen(session, "after_transaction_end", _forget_all)
    session.info[_WAITING].append((wakeups, frozenset(queues)))


def _wake_all(session: Session) -> None:
    # A savepoint that is released says so too, and nobody sees anything of it yet.
    if not session.in_nested_transaction():
        for wakeups, queues in session.info[_WAITING]:
            wakeups.wake(queues)


def _forget_all(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info[_WAITING].clear()
