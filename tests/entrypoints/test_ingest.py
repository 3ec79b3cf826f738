"""`heimdex ingest`: a job for a folder, and with --run all that follows from it."""

import json
import socket
import sqlite3
import sys
from pathlib import Path
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.scope import Tenant
from tests.entrypoints.conftest import ORG, WALKS_FAIL, Heimdex


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for name in ("a.txt", "b/c.txt", "b/cache/d.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_it_creates_the_job_that_walks_the_folder_and_prints_its_id(
    here: Heimdex, application: Application, folder: Path
) -> None:
    ran = here("ingest", folder, "--limit", 2, "--exclude", "cache", "--exclude", "tmp")

    assert (ran.code, ran.err) == (0, "")
    with application.views(Tenant(ORG, actor="user@example.com")) as views:
        job = views.find(UUID(ran.out.strip()))
        assert job is not None
        [event] = views.history(job.id)
    assert (job.type, job.status) == ("drive.ingest", "queued")
    assert job.payload == {"uri": folder.as_uri(), "limit": 2, "exclude": ["cache", "tmp"]}
    assert event.source == "heimdex ingest"
    assert event.actor == job.requested_by


def test_the_actor_is_whoever_runs_the_command(here: Heimdex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "alice")

    job = json.loads(here("ingest", folder, "--json").out)["job"]

    assert job["requested_by"] == "alice"


def test_with_run_all_files_are_ingested_before_it_ends(here: Heimdex, folder: Path) -> None:
    ran = here("ingest", folder, "--run", "--json")

    answer = json.loads(ran.out)
    assert ran.code == 0
    [ingest] = answer.pop("ingests")
    assert ingest == {"id": answer["job"], "status": "succeeded", "error_code": None, "error_message": None}
    assert answer | {"job": None} == {
        "job": None,
        "status": "succeeded",
        "error_code": None,
        "error": None,
        "files": 3,
        "created": 3,
        "replayed": 0,
        "failed_before": 0,
        "succeeded": 3,
        "failed": 0,
    }
    assert here("job", "show", answer["job"]).code == 0


def test_a_file_that_failed_before_and_has_not_changed_is_counted_and_the_way_to_read_it_is_told(
    here: Heimdex, folder: Path
) -> None:
    (folder / "gone.txt").symlink_to(folder / "nothing")
    here("ingest", folder, "--run")

    ran = here("ingest", folder, "--run")
    answer = json.loads(here("ingest", folder, "--run", "--json").out)

    assert (answer["replayed"], answer["failed_before"]) == (4, 1)
    assert "heimdex job retry --reason TEXT --type drive.ingest_file --status failed" in " ".join(ran.out.split())


@pytest.mark.parametrize("form", ["", "--json"])
def test_with_run_a_walk_that_fails_is_named_with_its_error(
    here: Heimdex, folder: Path, tmp_path: Path, form: str
) -> None:
    for statement in WALKS_FAIL:
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute(statement)

    ran = here("ingest", folder, "--run", *form.split())

    assert ran.code == 1
    if form:
        answer = json.loads(ran.out)
        [ingest] = answer["ingests"]
        assert (ingest["id"], ingest["status"]) == (answer["job"], "dead_letter")
        assert (ingest["error_code"], ingest["error_message"]) == (answer["error_code"], answer["error"])
        assert "the disk is full" in answer["error"]
    else:
        assert "dead_letter" in ran.out
        assert "error_code" in ran.out
        assert "the disk is full" in ran.out


def test_a_second_run_works_only_on_what_has_changed(here: Heimdex, folder: Path) -> None:
    here("ingest", folder, "--run")
    (folder / "a.txt").write_text("another")

    answer = json.loads(here("ingest", folder, "--run", "--json").out)

    assert (answer["files"], answer["created"], answer["replayed"], answer["succeeded"]) == (3, 1, 2, 1)


def test_files_that_have_no_content_fail_and_the_ingest_does_not(here: Heimdex, folder: Path) -> None:
    (folder / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))

        ran = here("ingest", folder, "--run", "--json")

    answer = json.loads(ran.out)
    assert (ran.code, answer["files"], answer["succeeded"], answer["failed"]) == (0, 5, 3, 2)


def test_the_summary_is_a_table_for_people(here: Heimdex, folder: Path) -> None:
    ran = here("ingest", folder, "--run")

    assert ran.code == 0
    assert ["files", "3"] in [line.split() for line in ran.out.splitlines()]


def test_memory_is_enough_for_a_run_and_for_nothing_else(heimdex: Heimdex, folder: Path) -> None:
    memory = ["--database-url", "memory://", "--org", ORG]

    ran = heimdex("ingest", folder, "--run", "--json", *memory)
    refused = heimdex("ingest", folder, *memory)

    assert (ran.code, json.loads(ran.out)["succeeded"]) == (0, 3)
    assert (refused.code, refused.out) == (2, "")
    assert "add --run" in refused.err


@pytest.mark.parametrize("more", [[], ["--run"]])
def test_a_path_that_does_not_exist_is_bad_input_and_creates_nothing(here: Heimdex, more: list[str]) -> None:
    ran = here("ingest", "nowhere", *more)

    assert (ran.code, ran.out) == (2, "")
    assert "there is no such file" in ran.err
    assert json.loads(here("job", "list", "--json").out)["jobs"] == []


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--exclude", "\udcff"]])
def test_options_that_break_a_rule_are_bad_input(here: Heimdex, folder: Path, arguments: list[str]) -> None:
    assert here("ingest", folder, *arguments).code == 2


def test_without_the_extra_it_says_what_to_install(
    here: Heimdex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "puremagic", None)

    ran = here("ingest", folder)

    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'heimdex[drive]'" in ran.err
