"""What a person at a terminal meets: a reader that leaves, Ctrl-C, a window of 80 columns."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path
from time import monotonic

import pytest

from heimdex import CreateJobs, NewJob, Tenant
from heimdex.bootstrap import Application
from tests.e2e.conftest import COMMAND, ORG, PATIENCE, environment, wait_until
from tests.house.source import ROOT

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_reader_that_leaves_is_no_error(application: Application, url: str, form: str) -> None:
    new_jobs = [NewJob("video.cut", {"text": "x" * 1_000}) for _ in range(200)]
    application.handle(CreateJobs(scope=Tenant(ORG, actor="user@example.com"), new_jobs=new_jobs))
    shell = 'set -o pipefail; "$@" | head -n 1; echo "${PIPESTATUS[0]}"'

    ran = subprocess.run(
        ["/usr/bin/env", "bash", "-c", shell, "-", *COMMAND, "job", "list", "--limit", "200", *form.split()],
        env=environment(DATABASE_URL=url, ORG=str(ORG)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    *lines, code = ran.stdout.splitlines()
    assert len(lines) == 1
    # 0 where all was written before the reader left.
    assert code in {"0", "141"}
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr


def test_ctrl_c_ends_a_demo_quietly_and_leaves_nothing_behind(tmp_path: Path) -> None:
    files, temporary = tmp_path / "files", tmp_path / "tmp"
    for folder in (files, temporary):
        folder.mkdir()
    for number in range(500):
        (files / str(number)).write_text(str(number))
    demo = subprocess.Popen(
        [*COMMAND, "demo", str(files)],
        env=environment() | {"TMPDIR": str(temporary)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell ignores Ctrl-C, and what it starts would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing but that is done there
    )
    wait_until(lambda: bool(list(temporary.glob("*/heimdex.db"))))

    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=PATIENCE)

    assert (demo.returncode, out, err) == (130, "", "heimdex: interrupted\n")
    assert list(temporary.iterdir()) == []


def test_at_a_terminal_there_is_a_progress_bar_and_no_line_is_too_long(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.txt").write_text(str(number))

    shown = _at_a_terminal(80, "demo", str(tmp_path), "--database-url", "memory://")

    assert "ingesting" in shown
    assert "/300" in shown
    plain = ESCAPES.sub("", shown)
    assert "lost          0" in plain
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80


def test_at_a_narrow_terminal_the_ids_of_a_list_are_whole(application: Application, url: str) -> None:
    new_jobs = [NewJob("video.cut") for _ in range(3)]
    created = application.handle(CreateJobs(scope=Tenant(ORG, actor="user@example.com"), new_jobs=new_jobs))

    shown = _at_a_terminal(40, "job", "list", "--database-url", url, "--org", str(ORG))

    lines = [line.strip() for line in ESCAPES.sub("", shown).splitlines()]
    assert {str(new.job.id) for new in created} <= set(lines)
    assert max(map(len, lines)) <= 40


def _at_a_terminal(width: int, *arguments: str) -> str:
    """Run a command at a terminal of its own; return everything that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        # As if the window alone said how wide it is: whoever runs the tests may have said otherwise.
        env=environment() | {"TERM": "xterm", "COLUMNS": "", "LINES": ""},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = _read_all(ours)
    assert process.wait(PATIENCE) == 0, shown
    return shown


def _read_all(descriptor: int) -> str:
    written = bytearray()
    deadline = monotonic() + PATIENCE
    try:
        while monotonic() < deadline and (block := os.read(descriptor, 65_536)):
            written += block
    except OSError:  # how Linux says that the last writer has closed it
        pass
    finally:
        os.close(descriptor)
    return written.decode()
