"""`heimdex queue`, `heimdex org`, `heimdex prune`, `heimdex worker list`: what those do who run Heimdex."""

import json
import sqlite3
from collections.abc import Callable
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.commands import MarkWorkerSeen
from heimdex.domain.operations import Erasure, Removed
from heimdex.domain.scope import System
from heimdex.domain.transitions import Status
from tests.entrypoints.conftest import ORG, Heimdex, Terminal

OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
WORKER = UUID("018f3c6e-0000-7000-8000-0000000000bb")
SYSTEM = System(actor="worker", reason="a test")
NOTHING = {"jobs": 0, "events": 0, "refusals": 0, "assets": 0}

Create = Callable[..., UUID]


def _count(application: Application, status: Status = Status.QUEUED) -> int:
    with application.views(SYSTEM) as views:
        return views.statistics().by_status[status]


def _erasures(application: Application) -> tuple[Erasure, ...]:
    with application.views(SYSTEM) as views:
        return views.erasures()


# queue


def test_a_queue_is_paused_and_resumed_for_one_organisation(here: Heimdex, create: Create) -> None:
    create(queue="slow")
    create(queue="slow", org_id=OTHER)

    paused = here("queue", "pause", "slow", "--reason", "a leak")
    [listed] = json.loads(here("queue", "list", "--json").out)
    [theirs] = json.loads(here("queue", "list", "--org", OTHER, "--json").out)
    resumed, again = here("queue", "resume", "slow"), here("queue", "resume", "slow")

    assert (paused.code, paused.out) == (0, "slow is paused for this organisation\n")
    assert (listed["queue"], listed["queued"], listed["running"]) == ("slow", 1, 0)
    assert [(pause["org_id"], pause["reason"]) for pause in listed["paused"]] == [(str(ORG), "a leak")]
    assert theirs["paused"] == []
    assert (resumed.code, resumed.out) == (0, "slow is resumed for this organisation\n")
    assert (again.code, again.out) == (0, "slow was not paused for this organisation\n")


def test_a_queue_is_paused_for_everybody_and_resumed_by_the_same(here: Heimdex, create: Create) -> None:
    create(queue="slow")
    create(queue="slow", org_id=OTHER)

    paused = json.loads(here("queue", "pause", "slow", "--reason", "a leak", "--everybody", "--json").out)
    [theirs] = json.loads(here("queue", "list", "--org", OTHER, "--json").out)
    [all_of_it] = json.loads(here("queue", "list", "--everybody", "--json").out)
    for_one = json.loads(here("queue", "resume", "slow", "--json").out)
    for_all = json.loads(here("queue", "resume", "slow", "--everybody", "--json").out)

    assert paused == {"queue": "slow", "org_id": None, "paused": True}
    assert [pause["org_id"] for pause in theirs["paused"]] == [None]
    assert (theirs["queued"], all_of_it["queued"]) == (1, 2)
    assert for_one == {"queue": "slow", "org_id": str(ORG), "was_paused": False}
    assert for_all == {"queue": "slow", "org_id": None, "was_paused": True}


def test_queues_are_listed_for_people(here: Heimdex, create: Create) -> None:
    create(queue="slow")
    create()
    here("queue", "pause", "slow", "--reason", "a leak", "--everybody")

    heading, *rows = here("queue", "list").out.splitlines()

    assert heading.split() == ["queue", "queued", "running", "paused"]
    assert rows[0].split() == ["default", "1", "0"]
    assert rows[1].split()[:3] == ["slow", "1", "0"]
    assert "for every organisation by " in rows[1]
    assert rows[1].endswith(": a leak")


def test_for_everybody_no_organisation_is_needed(heimdex: Heimdex, url: str) -> None:
    everybody = heimdex("queue", "list", "--everybody", "--database-url", url)
    alone = heimdex("queue", "pause", "slow", "--reason", "a leak", "--database-url", url)

    assert (everybody.code, alone.code) == (0, 2)
    assert "give --org or set HEIMDEX_ORG" in alone.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause", "slow"], "Missing option '--reason'"),
        (["pause", "slow", "--reason", ""], "reason: '' is not accepted"),
        (["pause", "a\nb", "--reason", "a leak"], "queue:"),
        (["resume", "a\nb"], "queue:"),
        (["resume"], "Missing argument 'NAME'"),
    ],
)
def test_a_pause_that_breaks_a_rule_is_refused(here: Heimdex, arguments: list[str], said: str) -> None:
    ran = here("queue", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert json.loads(here("queue", "list", "--json").out) == []


# org


def test_an_organisation_is_erased_and_its_count_is_left(
    here: Heimdex, create: Create, application: Application
) -> None:
    create()
    for _ in range(3):
        create(org_id=OTHER)

    ran = here("org", "erase", OTHER, "--reason", "they left us", "--yes", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"org_id": str(OTHER), "removed": NOTHING | {"jobs": 3, "events": 3}}
    [erasure] = _erasures(application)
    assert (erasure.org_id, erasure.reason, erasure.removed) == (OTHER, "they left us", Removed(jobs=3, events=3))
    assert _count(application) == 1


@pytest.mark.parametrize(("typed", "code"), [(f"{OTHER}\n", 0), (f"{ORG}\n", 1), ("y\n", 1), ("", 1)])
def test_at_a_terminal_the_id_is_typed_again(
    here: Heimdex, create: Create, application: Application, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    create(org_id=OTHER)
    monkeypatch.setattr("sys.stdin", Terminal(typed))

    ran = here("org", "erase", OTHER, "--reason", "they left us")

    assert ran.code == code
    assert ran.err.startswith("This deletes 1 jobs of an organisation for good. Type its id again: ")
    assert ran.err.endswith("Nothing was deleted.\n" if code else "again: ")
    assert ran.out.split() == ([] if code else ["jobs", "1", "events", "1", "refusals", "0", "assets", "0"])
    assert _count(application) == (1 if code else 0)


def test_without_a_terminal_nothing_is_erased_but_with_yes(
    here: Heimdex, create: Create, application: Application
) -> None:
    create(org_id=OTHER)

    ran = here("org", "erase", OTHER, "--reason", "they left us")
    unexplained = here("org", "erase", OTHER, "--yes")
    no_id = here("org", "erase", "acme", "--reason", "they left us", "--yes")

    assert (ran.code, unexplained.code, no_id.code) == (2, 2, 2)
    assert "add --yes" in ran.err
    assert "Missing option '--reason'" in unexplained.err
    assert "not a valid UUID" in no_id.err
    assert _count(application) == 1
    assert _erasures(application) == ()


# prune


def test_what_ended_long_enough_ago_is_pruned(
    here: Heimdex, create: Create, application: Application, url: str
) -> None:
    old, new = create(), create()
    create()
    for job_id in (old, new):
        here("job", "cancel", job_id, "--reason", "a test")
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE job SET finished_at = '2020-01-01 00:00:00.000000' WHERE id = ?", (old.hex,))
        assert connection.total_changes == 1

    kept = here("prune", "--jobs-days", "0", "--keys-days", "29")
    by_default = here("prune")
    at_once = json.loads(here("prune", "--jobs-days", "0", "--histories-days", "0", "--json").out)

    assert (kept.code, kept.out) == (2, "")
    assert by_default.out.split() == ["jobs", "1", "events", "0", "refusals", "0", "assets", "0"]
    assert at_once == {"removed": {"jobs": 1, "events": 4, "refusals": 0, "assets": 0}}
    assert (_count(application, Status.CANCELED), _count(application)) == (0, 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--jobs-days", "-1"),
        ("--jobs-days", "366"),
        ("--keys-days", "29"),
        ("--keys-days", "1000000000000"),
        ("--histories-days", "a year"),
    ],
)
def test_a_retention_that_is_none_is_named(here: Heimdex, option: str, value: str) -> None:
    ran = here("prune", option, value)

    assert (ran.code, ran.out) == (2, "")
    assert f"Invalid value for '{option}'" in ran.err


# worker list


def test_workers_are_listed_latest_seen_first(heimdex: Heimdex, application: Application, url: str) -> None:
    types = frozenset({"video.cut", "mail.welcome"})
    for number, queues in ((1, frozenset[str]()), (2, frozenset({"slow"}))):
        seen = MarkWorkerSeen(scope=SYSTEM, worker=UUID(int=number), name=f"w{number}", types=types, queues=queues)
        application.handle(seen)

    ran = heimdex("worker", "list", "--database-url", url)
    answer = json.loads(heimdex("worker", "list", "--json", "--database-url", url).out)

    heading, *rows = ran.out.splitlines()
    assert heading.split() == ["name", "seen", "queues", "types", "started", "id"]
    assert [row.split()[0] for row in rows] == ["w2", "w1"]
    assert "every queue" in rows[1]
    assert [(worker["name"], worker["queues"]) for worker in answer] == [("w2", ["slow"]), ("w1", [])]
    assert set(answer[0]["types"]) == types


def test_no_worker_is_an_answer(here: Heimdex) -> None:
    assert json.loads(here("worker", "list", "--json").out) == []


@pytest.mark.parametrize("option", [["--drain"], ["--json"], ["--queue", "slow"], ["--name", "w"]])
def test_options_of_the_list_come_after_the_word(here: Heimdex, option: list[str]) -> None:
    ran = here("worker", *option, "list")

    assert (ran.code, ran.out) == (2, "")
    assert "options of `list` come after that word" in ran.err
