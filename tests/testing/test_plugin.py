"""The pytest plugin, in a pytest of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import heimdex.testing
from heimdex.testing import plugin
from tests.house.source import PACKAGE, imports, modules

_SUITE = {
    "conftest.py": """
        import pytest
        from heimdex import JobRegistry

        jobs = JobRegistry()

        @jobs.register("mail.welcome")
        def welcome(payload, ctx):
            return {"sent_to": payload["to"]}

        @pytest.fixture
        def heimdex_jobs():
            return jobs
    """,
    "test_one.py": """
        from uuid import UUID
        from heimdex import Tenant
        from heimdex.testing import assert_created, assert_history, assert_nothing_created

        def test_a_job_runs(heimdex):
            with heimdex.unit_of_work(Tenant(UUID(int=1), actor="a")) as uow:
                uow.jobs.create("mail.welcome", {"to": "a@example.com"})
            job = assert_created(heimdex, "mail.welcome", payload={"to": "a@example.com"})
            heimdex.drain()
            assert_history(heimdex, job.id, ["create", "claim", "succeed"])

        def test_the_next_test_has_another_application(heimdex):
            assert_nothing_created(heimdex)
    """,
    "test_fails.py": """
        from heimdex.testing import assert_created

        def test_shows_the_line(heimdex):
            assert_created(heimdex, "mail.welcome")  # this line
    """,
    "no_jobs/test_two.py": """
        import pytest
        from heimdex import InvalidInput

        @pytest.fixture
        def heimdex_jobs():
            return None

        def test_without_jobs_nothing_is_run(heimdex):
            with pytest.raises(InvalidInput):
                heimdex.drain()
    """,
}
_LOADED = """
import json, sys, heimdex
print(json.dumps([name for name in sys.modules if name.startswith("heimdex.testing")]))
import heimdex.testing.plugin
print(json.dumps(sorted(sys.modules)))
"""


def pytest_in(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest with this plugin and no other, named by its module so that it need not be installed."""
    command = [sys.executable, "-m", "pytest", "-p", "heimdex.testing.plugin", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-W", "error", "-c", os.devnull, "--rootdir", folder, *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_its_fixtures_give_each_test_an_application_with_the_jobs_of_the_suite(tmp_path: Path) -> None:
    for name, text in _SUITE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        lines = text.splitlines()
        (tmp_path / name).write_text("\n".join(line[8:] for line in lines))

    run = pytest_in(tmp_path)

    assert "1 failed, 3 passed" in run.stdout, run.stdout
    assert '>       assert_created(heimdex, "mail.welcome")  # this line' in run.stdout
    assert "AssertionError: expected 1 of mail.welcome; found 0" in run.stdout
    assert "Traceback" not in run.stdout


def test_it_adds_two_fixtures_and_nothing_else() -> None:
    # pytest puts names with an @ into the modules of plugins, to rewrite their assertions.
    names = [name for name in vars(plugin) if not name.startswith(("__", "@"))]
    assert names == ["Iterator", "TYPE_CHECKING", "pytest", "heimdex_jobs", "heimdex"]


def test_it_loads_neither_a_database_library_nor_the_application_and_importing_heimdex_does_not_load_it() -> None:
    run = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    by_heimdex, by_plugin = (set(json.loads(line)) for line in run.stdout.splitlines())

    assert by_heimdex == set()
    assert by_plugin & {"sqlalchemy", "alembic", "psycopg2", "environ", "tenacity", "asyncio"} == set()
    ours = ("heimdex.adapters", "heimdex.bootstrap", "heimdex.config", "heimdex.testing.")
    assert {name for name in by_plugin if name.startswith(ours)} == {"heimdex.testing.plugin"}


def test_only_the_plugin_imports_pytest() -> None:
    kit = [path for path in modules() if path.is_relative_to(PACKAGE / "testing")]
    assert [path.name for path in kit if "pytest" in {name for _, name in imports(path)}] == ["plugin.py"]


def test_every_public_name_is_there() -> None:
    assert sorted(heimdex.testing.__all__) == sorted(heimdex.testing._MODULES)
    assert [name for name in heimdex.testing.__all__ if not callable(getattr(heimdex.testing, name))] == []
