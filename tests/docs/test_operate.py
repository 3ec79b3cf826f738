"""The how-to for operators, typed as printed: on SQLite, and its last part on PostgreSQL."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT
from tests.postgres_server import PostgresServer

TEXT = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)


def _check(blocks: list[str], folder: Path, **settings: str) -> None:
    """Run the commands of some blocks in one shell, and compare what they print."""
    lines = "".join(blocks).splitlines()
    others = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    # What a shell would find: the command `heimdex` of this environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{others['PATH']}"
    run = subprocess.run(
        ["/bin/bash", "-e"],
        input="\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ ")),
        cwd=folder,
        # This tree's package, though another may be installed.
        env=others | settings | {"PATH": path, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert run.returncode == 0, run.stderr
    assert [line.rstrip() for line in run.stdout.splitlines()] == [line for line in lines if not line.startswith("$ ")]


def test_the_sessions_do_what_is_printed(tmp_path: Path) -> None:
    _check([text for _, text in BLOCKS[:-1]], tmp_path)


def test_the_roles_are_made_as_printed(tmp_path: Path, postgres_server: PostgresServer) -> None:
    name = postgres_server.fresh_name("how_to")
    postgres_server.create_database(name)

    _check([BLOCKS[-1][1]], tmp_path, HEIMDEX_DATABASE_URL=postgres_server.url(name))

    postgres_server.drop_database(name)


def test_every_block_is_a_session() -> None:
    assert {kind for kind, _ in BLOCKS} == {"console"}
