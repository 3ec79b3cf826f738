"""The demo as a process: on files of every kind, on SQLite and PostgreSQL, and its check after somebody meddled."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.e2e.conftest import run

FILES = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for number in range(FILES):
        path = folder / str(number % 3) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content {number % 30}")
    return folder


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with what a file system can hold and a file need not be."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    names = [b"\xff\xfe", b"new\nline", b"\x1b[31mred", b"%41", b"#?&;", b" ", "ünïcödé".encode(), b"a" * 255]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(name)
    (folder / "empty").touch()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "out").symlink_to("/")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        yield folder


def _demo_twice(folder: Path, url: str) -> None:
    first, second = (run("demo", folder, "--json", "--database-url", url) for _ in range(2))

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert (one["files"], one["created"], one["replayed"], one["lost"], one["broken"]) == (FILES, FILES, 0, 0, 0)
    assert (two["files"], two["created"], two["replayed"], two["lost"], two["broken"]) == (FILES, 0, FILES, 0, 0)
    assert (one["assets"], one["duplicates"]) == ({"text/plain": FILES}, FILES - 30)
    assert (one["jobs"]["succeeded"], two["jobs"]["succeeded"]) == (FILES + 1, FILES + 2)


def test_a_second_demo_on_sqlite_replays_everything_and_the_check_finds_what_is_gone(folder: Path, url: str) -> None:
    _demo_twice(folder, url)
    without_asset, without_job = ((folder / "0" / name).as_uri() for name in ("0.txt", "3.txt"))
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    with connection:
        assert connection.execute("DELETE FROM asset WHERE uri = ?", (without_asset,)).rowcount == 1
        job_of = "DELETE FROM job WHERE json_extract(payload, '$.uri') = ?"
        assert connection.execute(job_of, (without_job,)).rowcount == 1
    connection.close()

    ran = run("demo", folder, "--json", "--check", url)

    answer = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr, answer["lost"]) == (1, "", 2)
    assert {"subject": without_asset, "problem": "its job has 0 assets"} in answer["findings"]
    assert {"subject": without_job, "problem": "it has 0 jobs"} in answer["findings"]


def test_a_second_demo_on_postgresql_replays_everything(folder: Path, postgres_url: str) -> None:
    for made in ("upgrade", "roles"):
        assert run("db", made, DATABASE_URL=postgres_url).returncode == 0

    _demo_twice(folder, postgres_url)


def test_a_demo_brings_a_postgresql_server_and_takes_it_away(folder: Path) -> None:
    ran = run("demo", folder, "--postgres", "--json")

    answer = json.loads(ran.stdout)
    # No warning either: organisations have both walls there.
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (answer["files"], answer["created"], answer["lost"], answer["broken"]) == (FILES, FILES, 0, 0)
    [place] = parse_qs(urlsplit(answer["database_url"]).query)["host"]
    assert Path(place).name.startswith("heimdex-pg-")
    assert not Path(place).exists()


def test_of_hostile_files_none_is_lost(hostile_folder: Path) -> None:
    ran = run("demo", hostile_folder, "--json")

    answer = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    # The link to a folder is not entered, and is no file.
    assert (answer["files"], answer["lost"], answer["broken"]) == (13, 0, 0)
    assert answer["errors"] == {"link_loop": 1, "not_a_file": 2, "not_found": 1}
    assert sum(answer["assets"].values()) == 9


def test_hostile_files_are_ingested_from_a_folder_whose_name_is_no_text(hostile_folder: Path, tmp_path: Path) -> None:
    folder = hostile_folder.rename(tmp_path / os.fsdecode(b"\xff"))

    ran = run("ingest", folder, "--run", "--json", DATABASE_URL="memory://", ORG="018f3c6e-0000-7000-8000-000000000001")

    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["status"], answer["files"]) == (0, "succeeded", 13)
    assert (answer["succeeded"], answer["failed"]) == (9, 4)
