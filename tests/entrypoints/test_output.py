"""Answers fit the terminal, and no text in them can do anything to it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen

from heimdex.domain.transitions import Status
from heimdex.entrypoints.cli import output, tables
from heimdex.entrypoints.cli.reporting import plain

HOSTILE = "a\x1b[31mred\x1b[0m\r\t\x00\x07\u202egnp.exe\udcff[bold]not bold[/bold]"


@frozen
class Thing:
    at: datetime
    length: timedelta
    status: Status
    detail_json: str | None


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout a terminal of 80 columns that knows no colours."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcödé 漢字", "plain Ünïcödé 漢字"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\t\0", "a\\nb\\r\\t\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("\u200b", "\\u200b"),
    ],
)
def test_what_could_move_colour_or_hide_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_table_shows_hostile_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table(["name"], [(HOSTILE,)])

    shown = capsys.readouterr().out
    assert not any(control in shown for control in "\x1b\r\t\x00\x07\u202e")
    assert "[bold]not bold[/bold]" in shown


def test_pairs_show_hostile_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_pairs({"payload": {"name": HOSTILE}, HOSTILE: HOSTILE})

    shown = capsys.readouterr().out
    assert not any(control in shown for control in "\x1b\r\t\x00\x07\u202e")


def test_the_lines_of_a_traceback_stay_in_their_column(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table(["seq", "detail"], [(1, "first\nsecond")])

    assert capsys.readouterr().out.splitlines()[2].rstrip() == "     second"


def test_json_is_ascii_and_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": HOSTILE})

    written = capsys.readouterr().out
    assert written.isascii()
    assert json.loads(written) == {"name": HOSTILE}


def test_an_object_becomes_a_document() -> None:
    thing = Thing(datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(seconds=1.5), Status.QUEUED, '{"a":[1]}')

    assert output.document(thing) == {
        "at": thing.at,
        "length_ms": 1500,
        "status": Status.QUEUED,
        "detail": {"a": [1]},
    }


def test_a_document_that_cannot_be_read_is_its_text() -> None:
    thing = Thing(datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(0), Status.QUEUED, "{broken")

    assert output.document(thing)["detail"] == "{broken"


def test_a_table_fits_the_terminal(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    tables.print_table(["id", "text"], [("x" * 36, "word " * 50)], whole=["id"])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("x" * 36)
    assert "".join(line[36:] for line in lines[1:]).count("word") == 50


def test_what_does_not_fit_is_left_out_the_last_spare_column_first(
    capsys: pytest.CaptureFixture[str], terminal: None
) -> None:
    row = ("x" * 36, "y" * 20, "z" * 20, "w" * 20)

    tables.print_table(["id", "one", "two", "three"], [row], whole=["id"], spare=["one", "two", "three"])

    assert capsys.readouterr().out.split() == ["id", "one", "two", row[0], row[1], row[2]]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, ["id", "status", "type"]),
        (45, ["id", "status"]),
        (40, ["id"]),
    ],
)
def test_a_column_to_be_copied_stays_whole_before_any_other(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: None,
    columns: int,
    shown: list[str],
) -> None:
    _make_wide(monkeypatch, columns)

    tables.print_table(["id", "status", "type"], [("x" * 36, "queued", "y" * 50)], whole=["id", "status"], copied="id")

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split() == shown
    assert lines[1].startswith("x" * 36)


def test_what_is_wider_than_the_terminal_alone_is_folded_and_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: None
) -> None:
    _make_wide(monkeypatch, 20)

    tables.print_table(["id", "status"], [("x" * 36, "queued")], whole=["id", "status"], copied="id")
    tables.print_table(["time", "status"], [("y" * 15, "queued")], whole=["time", "status"])

    written = capsys.readouterr().out
    assert (written.count("x"), written.count("y")) == (36, 15)
    assert max(map(len, written.splitlines())) <= 20


def _make_wide(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")


def test_where_nobody_looks_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table(["id", "text"], [("x", "word " * 500)])

    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_value_that_json_has_no_form_for_is_a_bug() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.print_json({"a": object()})
