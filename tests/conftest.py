"""The fixtures that many folders share, and how Hypothesis runs: in CI the same examples each time, else new ones."""

import os

from hypothesis import Phase, settings

pytest_plugins = ["tests.postgres_server", "tests.database_fixtures", "tests.walled_stores"]

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None)
# For planted bugs: that an example fails is all that is asked.
settings.register_profile("unshrunk", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci" if os.environ.get("CI") else "dev")
