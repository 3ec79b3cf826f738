"""The application that most of these tests work with."""

import pytest

from heimdex.testing import SimulatedApplication, application
from tests.testing.kit import registry


@pytest.fixture
def app() -> SimulatedApplication:
    return application(registry())
