"""`heimdex verify`: what it says and how it exits."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System
from tests.entrypoints.conftest import Heimdex

OTHER = UUID("018f3c6e-0000-7000-8000-0000000000aa")
SYSTEM = System(actor="worker", reason="a test")
WORKER = UUID(int=7)

Create = Callable[..., UUID]
Break = Callable[[str], None]


@pytest.fixture
def break_(url: str) -> Iterator[Break]:
    """Return what writes past Heimdex."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:

        def execute(statement: str) -> None:
            assert file.execute(statement).rowcount

        yield execute


def finish(application: Application, job_id: UUID) -> None:
    with application.unit_of_work(SYSTEM) as uow:
        job = uow.jobs.claim(job_id, worker=WORKER, lease=timedelta(seconds=30))
        uow.jobs.finish([Ending(job, Succeed("[1]"))])


def test_a_sound_ledger_exits_with_zero_and_says_what_was_read(
    here: Heimdex, create: Create, application: Application
) -> None:
    finish(application, create())
    create(org_id=OTHER)

    ran = here("verify")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "jobs           2",
        "events         4",
        "pruned         0",
        "organisations  2",
        "broken         0",
        "",
        "The ledger is sound: every history is legal, has no gap and leads to its row.",
    ]


def test_an_empty_ledger_leaves_nothing_to_verify(here: Heimdex) -> None:
    ran = here("verify")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "There is nothing to verify: the ledger has neither a job nor a history."
    assert json.loads(here("verify", "--json").out)["sound"]


def test_an_organisation_that_nobody_knows_is_not_called_sound(here: Heimdex, create: Create) -> None:
    create()

    ran = here("verify", "--org", OTHER)

    assert ran.code == 0
    assert ran.out.splitlines()[-1] == (
        f"There is nothing to verify: organisation {OTHER} has neither a job nor a history."
    )


def test_a_history_without_its_row_names_neither_event_nor_row(here: Heimdex, create: Create, break_: Break) -> None:
    job_id = create()
    break_("DELETE FROM job")

    ran = here("verify")

    assert ran.code == 1
    assert f"{job_id}  -      history_without_row  its row is gone" in ran.out


def test_a_ledger_of_one_row_that_cannot_be_read_is_not_taken_for_an_empty_one(
    here: Heimdex, create: Create, break_: Break
) -> None:
    create()
    break_("UPDATE job SET created_at = 'yesterday'")

    ran = here("verify")

    assert ran.code == 1
    assert "There is nothing to verify" not in ran.out


def test_a_broken_ledger_exits_with_one_and_names_rule_job_and_event(
    here: Heimdex, create: Create, break_: Break, application: Application
) -> None:
    job_id = create()
    create()
    finish(application, job_id)
    break_(f"UPDATE job SET priority = 7, stage = 'x' WHERE id = '{job_id.hex}'")  # noqa: S608 - of this test

    ran = here("verify")

    assert ran.code == 1
    assert [line.rstrip() for line in ran.out.splitlines()[4:]] == [
        "broken         1",
        "",
        "findings  rule",
        "       1  row_differs",
        "",
        "job                                   event  rule         what",
        f"{job_id}  row    row_differs  its history does not lead to its priority, stage",
        "",
        "The ledger is not sound: 1 job is not as Heimdex writes them.",
    ]


def test_more_findings_than_are_asked_for_are_counted(here: Heimdex, create: Create, break_: Break) -> None:
    for _ in range(5):
        create()
    break_("UPDATE job SET priority = 7")

    ran, none = here("verify", "--limit", 2), here("verify", "--limit", 0)

    assert ran.out.count("its history does not lead to its priority") == 2
    assert ran.err == "There are 3 more findings: --limit 5 shows all.\n"
    assert "5 jobs are not as" in ran.out
    assert (none.code, none.out.count("its history")) == (1, 0)


def test_as_json(here: Heimdex, create: Create, break_: Break) -> None:
    job_id = create()
    break_("UPDATE job SET payload = '{}x'")

    ran = here("verify", "--json")

    answer = json.loads(ran.out)
    [finding] = answer.pop("findings")
    assert (ran.code, ran.err) == (1, "")
    assert answer == {
        "sound": False,
        "jobs": 1,
        "events": 1,
        "pruned": 0,
        "organisations": 1,
        "broken": 1,
        "rules": {"payload_digest": 1},
    }
    assert (finding["rule"], finding["job_id"], finding["seq"]) == ("payload_digest", str(job_id), None)


def test_of_one_organisation_only_when_it_is_asked_for(here: Heimdex, create: Create, break_: Break) -> None:
    create()
    create(org_id=OTHER)
    break_(f"UPDATE job SET priority = 7 WHERE org_id = '{OTHER.hex}'")  # noqa: S608 - of this test

    assert here("verify").code == 1
    assert here("verify", "--org", OTHER).code == 1
    ours = here("verify", "--org", "018f3c6e-0000-7000-8000-000000000001", "--json")
    assert (ours.code, json.loads(ours.out)["jobs"]) == (0, 1)


def test_a_row_that_cannot_be_read_is_a_finding_and_hides_no_other(
    here: Heimdex, create: Create, break_: Break
) -> None:
    first, second, _ = create(), create(), create()
    break_(f"UPDATE job SET created_at = 'yesterday' WHERE id = '{first.hex}'")  # noqa: S608 - of this test
    break_(f"UPDATE job SET priority = 7 WHERE id = '{second.hex}'")  # noqa: S608 - of this test

    answer = json.loads(here("verify", "--json").out)

    assert answer["rules"] == {"unreadable_row": 1, "row_differs": 1}
    assert answer["findings"][0]["text"] == "its row or an event cannot be read (ValueError)"


def test_a_database_that_is_not_there_exits_with_three(heimdex: Heimdex, tmp_path: Path) -> None:
    ran = heimdex("verify", "--database-url", f"sqlite:///{tmp_path}/not/there.db")

    assert ran.code == 3
