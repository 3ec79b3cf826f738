"""What is expected of a ledger, and what a failure shows."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from heimdex import InvalidInput, InvalidPayload, Trigger
from heimdex.testing import (
    SimulatedApplication,
    application,
    assert_created,
    assert_history,
    assert_ledger,
    assert_nothing_created,
)
from tests.testing.kit import ORG, OTHER_ORG, Welcome, create, sign_up


def message_of(raised: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    return str(raised.value).splitlines()


def test_the_one_job_is_returned_as_it_is_now(app: SimulatedApplication) -> None:
    job = sign_up(app, "a@example.com")
    app.drain()

    found = assert_created(app, "mail.welcome")

    assert (found.id, found.version) == (job.id, 3)


def test_several_are_returned_oldest_first(app: SimulatedApplication) -> None:
    jobs = [sign_up(app, address) for address in ("a", "b", "c")]

    assert [job.id for job in assert_created(app, "mail.welcome", count=3)] == [job.id for job in jobs]
    assert [job.id for job in assert_created(app, "mail.welcome", count=1, payload=Welcome("b"))] == [jobs[1].id]
    assert assert_created(app, "mail.poll", count=0) == []


@pytest.mark.parametrize(
    "payload", [Welcome("a"), {"to": "a"}, {"to": "a", "language": "en"}, {"language": "en", "to": "a"}]
)
def test_a_payload_is_expected_whole_in_any_form_that_create_takes(app: SimulatedApplication, payload: object) -> None:
    sign_up(app, "a")

    assert_created(app, "mail.welcome", payload=payload)
    with pytest.raises(AssertionError):
        assert_created(app, "mail.welcome", payload=Welcome("a", language="de"))


def test_without_job_functions_a_payload_is_compared_as_it_is() -> None:
    app = application()
    create(app, "any", {"a": 1, "b": [1, 2]})

    assert_created(app, "any", payload={"b": [1, 2], "a": 1})
    with pytest.raises(AssertionError):
        assert_created(app, "any", payload={"a": 1})


@pytest.mark.parametrize("members", [{"b": [1, 2]}, {"a": 1, "b": [1, 2]}, {}])
def test_some_members_of_a_payload_are_expected(members: dict[str, Any]) -> None:
    app = application()
    create(app, "any", {"a": 1, "b": [1, 2]})

    assert_created(app, "any", payload_includes=members)


@pytest.mark.parametrize("members", [{"b": [1]}, {"a": True}, {"a": 1.0}, {"c": None}, {"a": 1, "b": None}])
def test_a_member_with_another_value_is_not_included(members: dict[str, Any]) -> None:
    app = application()
    create(app, "any", {"a": 1, "b": [1, 2]})

    with pytest.raises(AssertionError, match="with a payload that includes"):
        assert_created(app, "any", payload_includes=members)


def test_an_expected_payload_that_no_job_could_have_is_a_mistake_of_the_test(app: SimulatedApplication) -> None:
    with pytest.raises(InvalidPayload, match="payload: at "):
        assert_created(app, "mail.welcome", payload={"too": "a"})


def test_one_organisation_or_all_of_them_are_looked_at(app: SimulatedApplication) -> None:
    job = create(app, "mail.welcome", Welcome("a"), org_id=OTHER_ORG)

    assert assert_created(app, "mail.welcome").id == job.id
    assert assert_created(app, "mail.welcome", org_id=OTHER_ORG).id == job.id
    assert_nothing_created(app, org_id=ORG)
    with pytest.raises(AssertionError, match=f"expected 1 of mail.welcome in organisation {ORG}; found 0"):
        assert_created(app, "mail.welcome", org_id=ORG)


def test_a_failure_shows_what_was_created_instead_the_same_type_first(app: SimulatedApplication) -> None:
    create(app, "mail.poll", {"every": 60})
    sign_up(app, "b@example.com")

    with pytest.raises(AssertionError) as raised:
        assert_created(app, "mail.welcome", payload=Welcome("a@example.com"))

    queued = f"(queued, scheduled at 2026-01-01 12:00:00+00:00, organisation {ORG})"
    assert message_of(raised) == [
        'expected 1 of mail.welcome with the payload {"language":"en","to":"a@example.com"}; found 0',
        "created (2):",
        f'  mail.welcome {{"language":"en","to":"b@example.com"}} {queued}',
        f'  mail.poll {{"every":60}} {queued}',
    ]


def test_a_failure_stays_short_however_much_there_is() -> None:
    app = application()
    for _ in range(100):
        create(app, "any", {"text": "x" * 10_000})

    with pytest.raises(AssertionError) as raised:
        assert_created(app, "other", payload={"text": "y" * 10_000})

    assert len(message_of(raised)) == 13
    assert message_of(raised)[-1] == "  ... and 90 more"
    assert max(map(len, message_of(raised))) < 300


def test_more_than_expected_is_a_failure_too(app: SimulatedApplication) -> None:
    sign_up(app, "a")
    sign_up(app, "a")

    with pytest.raises(AssertionError, match=r"expected 1 of mail\.welcome; found 2"):
        assert_created(app, "mail.welcome")
    with pytest.raises(AssertionError, match=r"expected 3 of mail\.welcome; found 2"):
        assert_created(app, "mail.welcome", count=3)


def test_more_jobs_than_a_page_holds_are_counted() -> None:
    app = application()
    for _ in range(501):
        create(app, "any")

    assert len(assert_created(app, "any", count=501)) == 501


def test_a_failure_points_at_the_line_of_the_test(app: SimulatedApplication) -> None:
    for fails in (
        lambda: assert_created(app, "mail.welcome"),
        lambda: assert_history(app, UUID(int=1), ["create"]),
    ):
        with pytest.raises(AssertionError) as raised:
            fails()
        assert Path(raised.traceback.filter(raised)[-1].path) == Path(__file__)


def test_nothing_created_means_nothing(app: SimulatedApplication) -> None:
    assert_nothing_created(app)
    sign_up(app, "a")

    with pytest.raises(AssertionError) as raised:
        assert_nothing_created(app)

    assert message_of(raised)[0] == "expected no jobs; created (1):"
    assert message_of(raised)[1].startswith('  mail.welcome {"language":"en","to":"a"} (queued')


def test_a_history_is_returned_when_it_is_the_expected_one(app: SimulatedApplication) -> None:
    job = sign_up(app, "a")

    [event] = assert_history(app, job.id, ["create"])

    assert event.actor == "user@example.com"
    assert_history(app, job.id, [Trigger.CREATE])


def test_another_history_is_shown_with_the_last_error(app: SimulatedApplication) -> None:
    job = sign_up(app, "nobody")
    app.drain()

    with pytest.raises(AssertionError) as raised:
        assert_history(app, job.id, ["create", "claim", "succeed"])

    assert message_of(raised) == [
        f"job {job.id} (mail.welcome, queued) has another history",
        "  expected: create, claim, succeed",
        "  found:    create, claim, fail, retry",
        "  its last error: MailRefused: no such address",
    ]


def test_a_long_history_is_shown_in_part(app: SimulatedApplication) -> None:
    job = create(app, "mail.poll", {"every": 60})
    for _ in range(40):
        app.drain()
        app.clock.advance(app.job(job.id).scheduled_at - app.clock.now())

    with pytest.raises(AssertionError) as raised:
        assert_history(app, job.id, ["create"])

    assert message_of(raised)[2].endswith("snooze, claim, ... and 51 more")


def test_an_unknown_job_and_an_unknown_trigger_are_told_apart(app: SimulatedApplication) -> None:
    with pytest.raises(AssertionError, match="no job has the id 00000000-0000-0000-0000-000000000001"):
        assert_history(app, UUID(int=1), ["create"])
    with pytest.raises(InvalidInput, match="'created' is not accepted; give some of create, claim"):
        assert_history(app, UUID(int=1), ["created"])


def test_a_ledger_that_jobs_have_written_is_sound(app: SimulatedApplication) -> None:
    sign_up(app, "a")
    app.run_out()

    assert_ledger(app)
    assert_ledger(app, org_id=ORG)


def test_a_ledger_that_was_written_past_heimdex_shows_what_is_wrong_with_it() -> None:
    with application() as app:
        job = create(app, "mail.welcome")
        memory: Any = app.store
        memory._store.rows.jobs[job.id].priority = 7

        with pytest.raises(AssertionError) as raised:
            assert_ledger(app)
        assert_ledger(app, org_id=OTHER_ORG)

    assert message_of(raised) == [
        "the ledger is not sound (1 findings):",
        f"  row_differs: job {job.id}: its history does not lead to its priority",
    ]
