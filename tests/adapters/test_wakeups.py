"""Wake-ups of any kind, as whoever subscribes in one process hears them."""

from collections.abc import Iterator

import pytest

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.sql_store import open_wakeups
from heimdex.adapters.wakeups import LocalWakeups


@pytest.fixture(params=["bare_sqlite_url", "bare_postgres_url"])
def wakeups(request: pytest.FixtureRequest) -> Iterator[LocalWakeups]:
    wakeups = open_wakeups(request.getfixturevalue(request.param), EngineSettings())
    yield wakeups
    wakeups.close()


def heard_by(wakeups: LocalWakeups, *queues: str) -> list[None]:
    """Subscribe, and return what grows with each wake-up that this process gives itself."""
    heard: list[None] = []
    # Past the subclass, whose listening begins with a wake-up at some time.
    LocalWakeups.subscribe(wakeups, lambda: heard.append(None), queues or None)
    return heard


def test_who_named_no_queue_is_woken_for_every_one(wakeups: LocalWakeups) -> None:
    heard = heard_by(wakeups)
    wakeups.wake(["mail"])
    wakeups.wake({"video", "default"})

    assert len(heard) == 2


def test_who_named_queues_is_woken_for_those_alone(wakeups: LocalWakeups) -> None:
    heard = heard_by(wakeups, "mail", "video")
    wakeups.wake(["default"])
    assert heard == []
    wakeups.wake(["default", "video"])

    assert len(heard) == 1


def test_no_queue_wakes_nobody(wakeups: LocalWakeups) -> None:
    heard = heard_by(wakeups)
    wakeups.wake([])

    assert heard == []


def test_who_has_unsubscribed_is_not_woken_and_others_are(wakeups: LocalWakeups) -> None:
    heard: list[str] = []
    unsubscribe = LocalWakeups.subscribe(wakeups, lambda: heard.append("gone"))
    LocalWakeups.subscribe(wakeups, lambda: heard.append("here"))
    unsubscribe()
    wakeups.wake(["mail"])

    assert heard == ["here"]


def test_they_can_be_closed_twice_and_used_again(wakeups: LocalWakeups) -> None:
    heard = heard_by(wakeups)
    wakeups.close()
    wakeups.close()
    wakeups.wake(["mail"])

    assert len(heard) == 1
