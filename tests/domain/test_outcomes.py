"""How a run ends, and how its words are made storable."""

from datetime import timedelta
from typing import Any

import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.outcomes import Cancel, Fail, Progress, Release, Snooze, Succeed


def test_the_words_of_an_error_are_cut_to_what_is_stored() -> None:
    error = Fail("c" * 65, "m" * 2_049, traceback="first" + "t" * 16_383 + "last")
    assert error.code == "c" * 64
    assert error.message == "m" * 2_048
    assert error.traceback == "t" * 16_380 + "last"


def test_the_words_of_an_error_never_fail_to_be_stored() -> None:
    error = Fail("a\0b", "two\nlines \ud800", traceback="\0")
    assert (error.code, error.message, error.traceback) == ("a�b", "two\nlines ?", "�")
    assert Fail("boom", "").message == ""


@pytest.mark.parametrize(("code", "message"), [(404, "not found"), ("boom", ValueError("no text")), (None, None)])
def test_the_words_of_an_error_are_text(code: Any, message: Any) -> None:  # noqa: ANN401 - anything but text
    with pytest.raises(InvalidInput, match="give a string"):
        Fail(code, message)


def test_an_error_is_retried_unless_it_says_otherwise_and_may_have_no_traceback() -> None:
    assert (Fail("boom", "it broke").permanent, Fail("boom", "it broke").traceback) == (False, None)


def test_a_result_and_a_traceback_stay_out_of_the_log() -> None:
    assert "canary" not in repr(Succeed('"canary"'))
    assert "canary" not in repr(Fail("boom", "it broke", traceback="canary"))
    assert Succeed().result_json is None


@pytest.mark.parametrize("make", [Cancel, Release])
def test_a_reason_is_given_in_one_line_of_at_most_a_thousand_characters(make: type[Cancel | Release]) -> None:
    assert make("x" * 1_000).reason == "x" * 1_000
    for reason in ("", "x" * 1_001, "two\nlines", None):
        with pytest.raises(InvalidInput, match=r"^reason: "):
            make(reason)  # type: ignore[arg-type]  # None is what is tested


def test_a_snooze_is_a_length_that_does_not_run_backwards() -> None:
    assert Snooze(timedelta(0)).for_ == timedelta(0)
    for length in (timedelta(seconds=-1), timedelta(days=366), 60):
        with pytest.raises(InvalidInput, match=r"^for_: "):
            Snooze(length)  # type: ignore[arg-type]  # a number is what is tested


@pytest.mark.parametrize(("stage", "percent"), [(None, 0), ("reading", 100), ("x" * 64, 50)])
def test_progress_names_its_columns(stage: str | None, percent: int) -> None:
    assert Progress(stage, percent).detail == {"stage": stage, "progress": percent}


@pytest.mark.parametrize("percent", [-1, 101, 55.5, 100.0, True, "50", None])
def test_progress_is_a_whole_number_of_percent(percent: Any) -> None:  # noqa: ANN401 - anything but that
    with pytest.raises(InvalidInput, match=r"^progress: .* give a whole number from 0 to 100"):
        Progress(None, percent)


@pytest.mark.parametrize("stage", ["", "x" * 65, "two\nlines"])
def test_a_stage_is_one_line_of_at_most_64_characters(stage: str) -> None:
    with pytest.raises(InvalidInput, match=r"^stage: "):
        Progress(stage, 0)
