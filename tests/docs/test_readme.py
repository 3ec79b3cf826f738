"""The README's session, typed as printed: its files saved, its commands run, its output compared."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
_FILE = re.compile(r"Save this as `(?P<name>[\w.]+)`:\n\n```python\n(?P<text>.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def test_the_session_of_the_readme_does_what_is_printed(tmp_path: Path) -> None:
    for found in _FILE.finditer(README):
        (tmp_path / found["name"]).write_text(found["text"], encoding="utf-8")
    [session] = _CONSOLE.findall(README)
    commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    # What a shell would find: the command `heimdex` of this environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    run = subprocess.run(
        ["/bin/bash", "-e"],
        input="\n".join(commands),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [line for line in session.splitlines() if not line.startswith("$ ")]


def test_every_python_block_of_the_readme_is_saved_and_run() -> None:
    assert README.count("```python") == len(_FILE.findall(README))
