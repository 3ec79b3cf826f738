"""What a fresh interpreter has loaded once a part of Heimdex is imported. import-linter sees only the source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heimdex.adapters.schema import Schema

_IMPORT_ALL_BELOW = """
import importlib, json, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), package.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""
# The package's front door, heimdex/__init__.py, hands out names of the service layer too: past it, the domain alone.
_PAST_THE_FRONT_DOOR = """
import sys, types
from importlib.util import find_spec
package = types.ModuleType("heimdex")
package.__path__ = list(find_spec("heimdex").submodule_search_locations)
sys.modules["heimdex"] = package
"""
_WORK = """
import json, sys
from heimdex.entrypoints.cli.app import run
assert run(["worker", "--drain"]) == 0
print(json.dumps(sorted(sys.modules)))
"""
_IMPORT_ONE = "import json, sys; import heimdex; print(json.dumps(sorted(sys.modules)))"

FRAMEWORKS = {"alembic", "dramatiq", "fastapi", "psycopg2", "pydantic", "rich", "sqlalchemy", "sqlite3", "typer"}


def _loaded(code: str, *packages: str, **variables: str) -> set[str]:
    command = [sys.executable, "-c", code, *packages]
    run = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("package", ["heimdex.domain", "heimdex.service_layer"])
def test_importing_the_inside_loads_no_framework(package: str) -> None:
    assert _loaded(_IMPORT_ALL_BELOW, package) & FRAMEWORKS == set()


def test_importing_the_domain_loads_neither_cattrs_nor_tenacity_nor_another_layer() -> None:
    loaded = _loaded(_PAST_THE_FRONT_DOOR + _IMPORT_ALL_BELOW, "heimdex.domain")

    layers = {name.split(".")[1] for name in loaded if name.startswith("heimdex.")}
    assert loaded & {"cattrs", "tenacity"} == set()
    assert layers & {"service_layer", "adapters", "config", "bootstrap", "entrypoints"} == set()


def test_importing_heimdex_loads_no_adapter_and_no_extra() -> None:
    loaded = _loaded(_IMPORT_ONE)

    assert {name for name in loaded if name.startswith(("heimdex.adapters", "heimdex.entrypoints"))} == set()
    assert loaded & {"alembic", "imagesize", "puremagic", "rich", "typer"} == set()


def test_a_worker_loads_nothing_that_only_people_drive_jobs_or_migrations_need(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Schema(url).upgrade()

    loaded = _loaded(_WORK, HEIMDEX_DATABASE_URL=url, HEIMDEX_JOBS="tests.entrypoints.tasks:jobs")

    assert loaded & {"alembic", "imagesize", "puremagic", "rich", "heimdex.adapters.memory_store"} == set()
