"""The fixtures that many folders share, and how Hypothesis runs: in CI the same examples each time, else new ones."""

import os

from hypothesis import settings

pytest_plugins = ["tests.postgres_server", "tests.database_fixtures", "tests.walled_stores"]

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
