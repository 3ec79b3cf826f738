"""One run of a job function: whatever it returns or raises becomes an outcome."""

from datetime import timedelta
from typing import NoReturn

import attrs
import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Snooze, Succeed
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.run import Run
from heimdex.service_layer.running import run_function
from tests.service_layer.worker_harness import TENANT, HandLedger, Payload, registry

CANARY = "canary"


@attrs.frozen
class Answer:
    number: int


def outcome_of(function: object, payload: object = None, *, stored: str | None = None) -> Outcome:
    """Run a function as a job. `stored` is a payload that was written past Heimdex."""
    ledger = HandLedger(registry(job=function))
    with ledger.store.unit_of_work(TENANT) as uow:
        created = uow.jobs.create("job", payload)
        job = uow.jobs.claim(created.job.id, worker=created.job.id, lease=timedelta(seconds=30))
    job.payload_json = job.payload_json if stored is None else stored
    context = JobContext(Run.of(job, lease_ends=30.0), lambda _: [], ledger.jobs.checked)
    return run_function(ledger.jobs.get("job"), job.payload_json, context)


def raising(error: BaseException) -> object:
    def job(payload: Payload, ctx: JobContext) -> NoReturn:
        raise error

    return job


def test_a_function_gets_its_payload_as_it_is_annotated() -> None:
    def double(payload: Answer, ctx: JobContext) -> Answer:
        return Answer(payload.number * 2)

    assert outcome_of(double, Answer(21)) == Succeed('{"number":42}')


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (None, Succeed(None)),
        ({}, Succeed("{}")),
        ([1, "a", None], Succeed('[1,"a",null]')),
        (0, Succeed("0")),
        (Answer(1), Succeed('{"number":1}')),
        (Snooze(timedelta(seconds=5)), Snooze(timedelta(seconds=5))),
        (Cancel("not wanted"), Cancel("not wanted")),
        (Fail("code", "message"), Fail("code", "message")),
    ],
    ids=str,
)
def test_what_a_function_returns_is_its_outcome(result: object, outcome: Outcome) -> None:
    assert outcome_of(lambda payload, ctx: result) == outcome


class Undumpable:
    @classmethod
    def model_validate(cls, document: object) -> object:
        return document

    def model_dump(self, *, mode: str) -> object:
        raise RuntimeError(CANARY)


def circle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"a": object()}, "result: at $.a: a object is not JSON; convert it first"),
        ({1: "a"}, "result: at $: a key of type int; keys are strings"),
        ({"a": [float("nan")]}, "result: at $.a[0]: NaN and infinity are not JSON; send null or a string"),
        ("x" * 300_000, "result: at $: 300,002 bytes of JSON; at most 262,144 are accepted"),
        (Undumpable(), "RuntimeError"),
        (circle(), "RecursionError"),
    ],
    ids=["object", "key", "nan", "too long", "undumpable", "circle"],
)
def test_a_result_that_cannot_be_kept_fails_for_good(result: object, message: str) -> None:
    assert outcome_of(lambda payload, ctx: result) == Fail("bad_result", message, permanent=True)


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    outcome = outcome_of(raising(ValueError("it broke")))

    assert isinstance(outcome, Fail)
    assert (outcome.code, outcome.message, outcome.permanent) == ("ValueError", "it broke", False)
    assert outcome.traceback is not None
    assert outcome.traceback.startswith("Traceback (most recent call last):\n")
    assert outcome.traceback.endswith("ValueError: it broke\n")


def test_the_traceback_has_no_values_of_variables_and_no_frame_of_ours() -> None:
    def job(payload: Payload, ctx: JobContext) -> None:
        word = payload["word"]
        raise RuntimeError(f"a word of {len(word)} letters")

    outcome = outcome_of(job, {"word": CANARY})

    assert isinstance(outcome, Fail)
    assert outcome.traceback is not None
    assert CANARY not in outcome.traceback
    assert outcome.traceback.count("File ") == 1
    assert "in job" in outcome.traceback


def test_the_traceback_tells_the_cause_too() -> None:
    def job(payload: Payload, ctx: JobContext) -> None:
        try:
            _ = payload["missing"]
        except KeyError as error:
            raise RuntimeError("not found") from error

    outcome = outcome_of(job)

    assert isinstance(outcome, Fail)
    assert "KeyError: 'missing'" in str(outcome.traceback)


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Untraceable(Exception):
    def __getattribute__(self, name: str) -> object:
        if name == "__notes__":
            raise RuntimeError("no notes")
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SystemExit(3), "SystemExit", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (GeneratorExit("closed"), "GeneratorExit", "closed"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (Untold(), "Untold", "Untold"),
        (Untraceable("broke"), "Untraceable", "broke"),
        (InvalidInput("a", 1, "give 2"), "InvalidInput", "a: 1 is not accepted; give 2"),
        (ExceptionGroup("two", [ValueError("a")]), "ExceptionGroup", "two (1 sub-exception)"),
        (ValueError("nul \0 and surrogate \ud800"), "ValueError", "nul � and surrogate ?"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_raised_is_a_failure(error: BaseException, code: str, message: str) -> None:
    outcome = outcome_of(raising(error))

    assert isinstance(outcome, Fail)
    assert (outcome.code, outcome.message, outcome.permanent) == (code, message, False)


def test_an_exception_whose_traceback_cannot_be_had_has_none() -> None:
    outcome = outcome_of(raising(Untraceable()))

    assert isinstance(outcome, Fail)
    assert outcome.traceback is None


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ('{"number":"5"}', "payload: at $.number: expected int, found str"),
        ('{"number":1,"more":2}', "payload: at $.more: unknown field"),
        ("not JSON", "JSONDecodeError"),
        ("[" * 100_000, "ValueError"),
    ],
    ids=["wrong", "unknown", "not JSON", "too deep"],
)
def test_a_payload_that_cannot_be_read_fails_for_good_before_the_function_runs(stored: str, message: str) -> None:
    def job(payload: Answer, ctx: JobContext) -> None:
        raise AssertionError("it ran")

    assert outcome_of(job, Answer(1), stored=stored) == Fail("bad_payload", message, permanent=True)
