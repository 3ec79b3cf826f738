"""A database for a test, with Heimdex's schema."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from heimdex.adapters.throwaway import throwaway_database
from heimdex.config import Settings, file_url


@contextmanager
def database(url: str | None = None) -> Iterator[str]:
    """Make a database with Heimdex's schema, give its URL, and remove it however the block ends.

    Args:
        url: a PostgreSQL server, as the URL of one of its databases: a new database is made beside that one, by a user
            who may create databases. An SQLite file that does not exist yet. None: an SQLite file in a temporary
            folder. memory:// is given back as it is.

    Raises:
        InvalidInput: the SQLite file exists.
        InvalidSetting: the URL names nothing that Heimdex can use.
        DatabaseUnavailable: the server cannot be reached, or does not let this user create a database.
    """
    with ExitStack() as cleanup:
        if url is None:
            url = file_url(Path(cleanup.enter_context(TemporaryDirectory(prefix="heimdex-")), "heimdex.db"))
        settings = Settings(database_url=url)
        url = settings.database_url
        yield cleanup.enter_context(throwaway_database(url)) if settings.kept else url
