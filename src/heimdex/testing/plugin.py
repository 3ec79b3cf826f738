"""The pytest plugin: two fixtures and nothing else.

pytest imports this wherever Heimdex is installed, so it loads what a fixture needs when the fixture is asked for.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from heimdex.service_layer.job_registry import JobRegistry
    from heimdex.testing.simulation import SimulatedApplication


@pytest.fixture
def heimdex_jobs() -> "JobRegistry | None":
    """Return the job functions of the `heimdex` fixture. To be overridden; None accepts any job and runs none."""
    return None


@pytest.fixture
def heimdex(heimdex_jobs: "JobRegistry | None") -> "Iterator[SimulatedApplication]":
    """Give an application in memory, new for each test, with the job functions of `heimdex_jobs`."""
    from heimdex.testing.simulation import application  # noqa: PLC0415 - as the module's docstring says

    with application(heimdex_jobs) as simulated:
        yield simulated
