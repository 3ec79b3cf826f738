"""The walk that the demo compares with takes what the jobs' walk takes, in the same order."""

import inspect
import os
import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heimdex.adapters.files import LocalFiles
from heimdex.entrypoints.cli.walk import has_changed, uri_of, walk
from heimdex.service_layer.drive import Ingest, chosen
from heimdex.service_layer.ports import FoundFile

NAMES = st.binary(min_size=1, max_size=4).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in {b".", b".."}
)
KINDS = st.sampled_from(["file", "folder", "link", "loop", "dangling", "fifo"])


def _make(folder: Path, entries: list[tuple[bytes, str, bytes]]) -> None:
    for name, kind, inner in entries:
        path = folder / os.fsdecode(name)
        if os.path.lexists(path):
            continue
        match kind:
            case "file":
                path.write_bytes(inner)
            case "folder":
                (path / os.fsdecode(inner)).mkdir(parents=True)
                (path / os.fsdecode(inner) / "deep").write_bytes(b"x")
            case "link":
                path.symlink_to(folder)
            case "loop":
                path.symlink_to(path)
            case "dangling":
                path.symlink_to("nowhere")
            case "fifo":
                os.mkfifo(path)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=12),
    limit=st.none() | st.integers(1, 8),
    exclude=st.sampled_from([(), ("__pycache__",), ("a", "b")]),
)
def test_it_takes_what_the_jobs_take(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[bytes, str, bytes]],
    limit: int | None,
    exclude: tuple[str, ...],
) -> None:
    top = tmp_path_factory.mktemp("tree")
    _make(top, [*entries, (b"__pycache__", "folder", b"x"), (b"a", "folder", b"b")])
    uri = uri_of(str(top))

    walked = list(islice(walk(uri, exclude), limit))

    assert walked == list(chosen(LocalFiles(), Ingest(uri, limit=limit, exclude=exclude)))


def test_a_file_alone_is_walked_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")

    assert list(walk(uri_of(str(path)), ())) == [LocalFiles().stat(uri_of(str(path)))]


def test_a_relative_path_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert uri_of("x/../y z") == uri_of(str(tmp_path / "y z"))


def test_folders_may_be_nested_deeper_than_the_stack(tmp_path: Path) -> None:
    innermost = tmp_path.joinpath(*["d"] * 200)
    innermost.mkdir(parents=True)
    (innermost / "file").touch()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = list(walk(uri_of(str(tmp_path)), ()))
    finally:
        sys.setrecursionlimit(before)

    assert [file.uri for file in found] == [uri_of(str(innermost / "file"))]


def test_a_file_has_changed_when_it_is_gone_or_has_another_size_or_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    [same] = walk(uri_of(str(path)), ())
    assert not has_changed(same)

    os.utime(path, ns=(0, 0))
    assert has_changed(same)

    path.unlink()
    assert has_changed(same)


def test_what_could_not_be_read_is_not_said_to_have_changed() -> None:
    assert not has_changed(FoundFile("file:///", -1, -1))
