"""How many statements a piece of code sends to its database."""

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from heimdex.adapters.statement_log import logged_statements
from heimdex.bootstrap import Application
from heimdex.domain.rules import check_whole
from heimdex.testing.ledger import bounded, shortened

_MOST = 1_000_000
_SHOWN = 20


def assert_statements(app: Application, n: int) -> AbstractContextManager[list[str]]:
    """Expect that exactly `n` statements reach the application's database inside the block, from whatever thread.

    Gives the list of them, without parameters, as they come. A statement over many rows counts once; BEGIN and COMMIT
    do not count, nor does the look at the schema before an application's first unit of work.

    Raises:
        InvalidInput: the application is in memory.
    """
    return _Expected(app, check_whole("n", n, 0, _MOST))


class _Expected(AbstractContextManager[list[str]]):
    def __init__(self, app: Application, n: int) -> None:
        self._n = n
        self._log = logged_statements(app.store)
        self._listening = ExitStack()

    def __enter__(self) -> list[str]:
        self._statements = self._listening.enter_context(self._log)
        return self._statements

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._listening.close()
        if exc_type is None and len(self._statements) != self._n:
            shown = bounded((shortened(" ".join(statement.split())) for statement in self._statements), _SHOWN)
            lines = [f"expected {self._n} statements; {len(self._statements)} were sent:", *shown]
            raise AssertionError("\n  ".join(lines))
