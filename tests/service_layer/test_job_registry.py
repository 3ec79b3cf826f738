"""Which functions may be job functions, and what is checked of a job before it is stored."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest

from heimdex.domain.backoff import Fixed
from heimdex.domain.errors import InvalidInput, InvalidPayload, UnknownJobType
from heimdex.domain.json_text import fingerprint
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from tests.service_layer.worker_harness import Payload, nothing


@attrs.frozen
class Thumbnail:
    uri: str
    width: int = 320


def thumbnails() -> JobRegistry:
    jobs = JobRegistry()

    @jobs.register("video.thumbnail", max_attempts=3, timeout=timedelta(minutes=2))
    def thumbnail(payload: Thumbnail, ctx: JobContext) -> None:
        pass

    return jobs


def test_a_registered_function_stays_as_it_is() -> None:
    jobs = JobRegistry()

    assert jobs.register("nothing")(nothing) is nothing
    assert jobs.get("nothing").function is nothing
    assert jobs.types == {"nothing"}


def test_a_job_gets_the_limits_of_its_type_or_its_own() -> None:
    jobs, own = thumbnails(), JobLimits(max_attempts=1, backoff=Fixed(base=timedelta(seconds=1)))
    specs = [jobs.specify(NewJob("video.thumbnail", {"uri": "a"}, limits=limits)) for limits in (None, own)]

    assert specs[0].limits == JobLimits(max_attempts=3, timeout=timedelta(minutes=2))
    assert specs[1].limits is own


def test_limits_that_nobody_could_keep_are_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="max_attempts"):
        JobRegistry().register("nothing", max_attempts=0)


def test_a_second_function_for_a_type_is_refused() -> None:
    jobs = JobRegistry()
    jobs.register("nothing")(nothing)

    with pytest.raises(InvalidInput, match="register one function for each type"):
        jobs.register("nothing")(nothing)


def test_a_type_that_is_no_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="type"):
        JobRegistry().register("")(nothing)


def test_registries_can_be_put_together_unless_a_type_is_in_both() -> None:
    jobs, more = thumbnails(), JobRegistry()
    more.register("nothing")(nothing)
    jobs.include(more)
    assert jobs.types == {"video.thumbnail", "nothing"}

    with pytest.raises(InvalidInput, match="'nothing'"):
        jobs.include(more)


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownJobType, match=r"'mail.send' is not registered; known types: video.thumbnail"):
        thumbnails().specify(NewJob("mail.send"))


def _yields(payload: Payload, ctx: JobContext) -> Iterator[None]:
    yield


async def _yields_async(payload: Payload, ctx: JobContext) -> AsyncIterator[None]:
    yield


def _one(payload: Payload) -> None: ...


def _three(payload: Payload, ctx: JobContext, more: int) -> None: ...


def _by_name(payload: Payload, *, ctx: JobContext) -> None: ...


def _any_number(*payload: Payload, **ctx: JobContext) -> None: ...


def _unknown_name(payload: "NotAnywhere", ctx: JobContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point


def _no_document(payload: int, ctx: JobContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (_yields, "give a function that returns"),
        (_yields_async, "give a function that returns"),
        (_one, "give it two parameters"),
        (_three, "give it two parameters"),
        (_by_name, "give it two parameters"),
        (_any_number, "give it two parameters"),
        (_unknown_name, "annotations can be read at run time"),
        (partial(_three, more=1), "give it two parameters"),
        (partial(nothing), "annotations can be read at run time"),
        (_no_document, "annotate it with dict"),
    ],
)
def test_a_function_that_cannot_be_a_job_function_is_refused(function: Callable[..., Any], remedy: str) -> None:
    jobs = JobRegistry()

    with pytest.raises(InvalidInput, match=remedy):
        jobs.register("broken")(function)
    assert jobs.types == frozenset()


def test_a_function_without_annotations_takes_a_dict() -> None:
    jobs = JobRegistry()
    jobs.register("plain")(lambda payload, ctx: None)

    assert jobs.specify(NewJob("plain", {"a": 1})).payload_json == '{"a":1}'


def test_the_stored_payload_has_the_defaults_and_the_fingerprint_has_not() -> None:
    spec = thumbnails().specify(NewJob("video.thumbnail", {"uri": "a"}))

    assert spec.payload_json == '{"uri":"a","width":320}'
    assert spec.fingerprint == fingerprint("video.thumbnail", '{"uri":"a"}')


def test_an_instance_and_its_whole_document_are_the_same_request() -> None:
    jobs = thumbnails()
    instance = jobs.specify(NewJob("video.thumbnail", Thumbnail("a")))
    document = jobs.specify(NewJob("video.thumbnail", {"width": 320, "uri": "a"}))

    assert (instance.payload_json, instance.fingerprint) == (document.payload_json, document.fingerprint)


@attrs.frozen
class TallThumbnail(Thumbnail):
    height: int = 200


def test_a_field_that_only_a_subclass_has_is_refused_and_not_left_out() -> None:
    with pytest.raises(InvalidPayload, match=r"\$.height: unknown field"):
        thumbnails().specify(NewJob("video.thumbnail", TallThumbnail("a")))


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({}, r"\$.uri: required field missing"),
        ({"uri": "a", "hight": 1}, r"\$.hight: unknown field"),
        ({"uri": "a", "width": "5"}, r"\$.width: expected int, found str"),
        ({"uri": {1, 2}}, r"\$.uri: a set is not JSON"),
        (object(), r"\$: a object is not JSON"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_before_it_is_stored(payload: object, path: str) -> None:
    with pytest.raises(InvalidPayload, match=path):
        thumbnails().specify(NewJob("video.thumbnail", payload))


@attrs.frozen
class Pair:
    pair: tuple[int, int]


def test_a_payload_is_checked_as_the_job_function_will_get_it() -> None:
    jobs = JobRegistry()

    @jobs.register("pair")
    def pair(payload: Pair, ctx: JobContext) -> None:
        pass

    # JSON has no tuples: both are stored as a list, and become a tuple again.
    for payload in ({"pair": (1, 2)}, {"pair": [1, 2]}, Pair((1, 2))):
        assert jobs.specify(NewJob("pair", payload)).payload_json == '{"pair":[1,2]}'


def test_a_checked_job_no_longer_shares_its_payload_with_the_caller() -> None:
    jobs, payload = thumbnails(), {"uri": "a"}
    new = NewJob("video.thumbnail", payload, idempotency_key="k")
    checked = jobs.checked(new)
    payload["uri"] = "changed"

    assert checked.payload == {"uri": "a"}
    assert checked.idempotency_key == "k"
    assert jobs.specify(checked).fingerprint == fingerprint("video.thumbnail", '{"uri":"a"}')
