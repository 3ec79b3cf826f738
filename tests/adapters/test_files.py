"""The local file system, with what real folders hold: odd names, links, sockets, and files that come and go."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdex.adapters.files import BLOCK, LocalFiles
from heimdex.domain.errors import FileProblem
from heimdex.service_layer.ports import FoundFile

NOBODY = 65_534
MINUTE = 1_700_000_000_123_456_789

files = LocalFiles()


def _uri(path: Path) -> str:
    return files.uri(str(path))


def _walk(top: Path) -> list[FoundFile]:
    return list(files.walk(_uri(top)))


def _names(top: Path) -> list[str]:
    start = len(_uri(top)) + 1
    return [found.uri[start:] for found in _walk(top)]


def _content(path: Path) -> bytes:
    return b"".join(files.read(_uri(path)))


def _read_problem(uri: str) -> FileProblem:
    with pytest.raises(FileProblem) as caught:
        list(files.read(uri))
    return caught.value


def _is_reported_and_unreadable(top: Path, path: Path, code: str) -> None:
    assert FoundFile(_uri(path), -1, -1) in _walk(top)
    problem = _read_problem(_uri(path))
    assert (problem.uri, problem.code) == (_uri(path), code)


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Be a user whom permissions bind, as root is not."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except PermissionError:
        pytest.skip("this root may not become another user")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may list; the folders above `tmp_path` are closed to others."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with _without_privileges():
            reachable = os.access(folder, os.R_OK | os.X_OK, effective_ids=True)
        if not reachable:
            pytest.skip("the folder for temporary files is closed to other users")
        yield folder


def test_a_folders_files_come_by_name_and_then_its_folders(tmp_path: Path) -> None:
    for name in ("b/z", "b/a/deep", "B/x", "c", "a", "Z", "é"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert _names(tmp_path) == ["Z", "a", "c", "%C3%A9", "B/x", "b/z", "b/a/deep"]


def test_a_file_is_reported_with_its_size_and_its_time_to_the_nanosecond(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, MINUTE))

    assert _walk(tmp_path) == [FoundFile(_uri(path), 5, MINUTE)]
    assert files.stat(_uri(path)) == FoundFile(_uri(path), 5, MINUTE)


def test_a_file_changed_before_1970_has_a_negative_time(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(0, -1_500_000_000))

    assert [found.mtime_ns for found in _walk(tmp_path)] == [-1_500_000_000]


def test_the_walk_of_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    assert _walk(tmp_path / "a") == [files.stat(_uri(tmp_path / "a"))]


def test_the_walk_of_an_empty_folder_is_empty(tmp_path: Path) -> None:
    assert _walk(tmp_path) == []


def test_the_walk_of_nothing_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(FileProblem) as caught:
        _walk(tmp_path / "nothing")

    assert caught.value.code == "not_found"


def test_a_path_is_relative_to_where_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert files.uri("a/../b") == _uri(tmp_path / "b")


def test_a_relative_path_from_a_removed_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(FileProblem, match="no such file"):
        files.uri("a")


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        b"\xff\xfe\x80",
        "naïve 文書 🙂".encode(),
        b"100%",
        b"%41",
        b"a#b?c=d&e",
        b" two  spaces ",
        b"line\nbreak\ttab\r",
        b"\x01\x7f",
        b"quote'\"`\\",
        b"-rf",
        b"...",
        b"file:",
        b"n" * 255,
    ],
)
def test_every_name_has_a_printable_uri_that_leads_back_to_the_file(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"content of " + name)

    [found] = _walk(tmp_path)

    assert found.uri.isascii()
    assert found.uri.isprintable()
    assert unquote_to_bytes(found.uri) == b"file://" + bytes(path)
    assert found == files.stat(found.uri)
    assert b"".join(files.read(found.uri)) == b"content of " + name


def test_content_comes_in_blocks(tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK + 17)
    (tmp_path / "a").write_bytes(content)

    blocks = list(files.read(_uri(tmp_path / "a")))

    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 17]
    assert b"".join(blocks) == content


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert [found.size for found in _walk(tmp_path)] == [0]
    assert list(files.read(_uri(tmp_path / "empty"))) == []


def test_a_file_of_many_gigabytes_is_not_read_ahead(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(5 * 2**30)

    blocks = files.read(_uri(tmp_path / "sparse"))

    assert [found.size for found in _walk(tmp_path)] == [5 * 2**30]
    assert next(blocks) == bytes(BLOCK)


@pytest.mark.parametrize("blocks", [0, 1, 5])
def test_reading_leaves_no_file_open(tmp_path: Path, blocks: int) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * BLOCK))
    before = _open_files()

    reading = iter(files.read(_uri(tmp_path / "a")))
    for _ in range(blocks):
        next(reading, None)
    del reading

    assert _open_files() == before


def _open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_folder_of_ten_thousand_files_is_walked(tmp_path: Path) -> None:
    # Hard links: to the walk each is a file, and they are quick to make.
    (tmp_path / "00000").touch()
    for number in range(1, 10_000):
        (tmp_path / f"{number:05}").hardlink_to(tmp_path / "00000")

    assert _names(tmp_path) == [f"{number:05}" for number in range(10_000)]


def test_folders_nested_deeper_than_a_path_may_be_long_end_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with _nested(tmp_path, 2_000):
        file, folder = _walk(tmp_path)
        problem = _read_problem(folder.uri)

    assert (file.uri, file.size) == (_uri(tmp_path / "file"), 0)
    assert (folder.size, folder.mtime_ns) == (-1, -1)
    assert folder.uri.endswith("/abc/abc/abc")
    assert problem.code == "path_too_long"


@contextmanager
def _nested(top: Path, depth: int) -> Iterator[None]:
    """Make folders within folders and remove them again, step by step, since no path leads to the inner ones."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("abc", dir_fd=folder)
        folder = _step(folder, "abc")
    try:
        yield
    finally:
        for _ in range(depth):
            folder = _step(folder, "..")
            os.rmdir("abc", dir_fd=folder)
        os.close(folder)


def _step(folder: int, name: str) -> int:
    following = os.open(name, os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    return following


def test_a_link_to_a_file_is_reported_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"12345")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")

    [found] = _walk(tmp_path / "top")

    assert (found.uri, found.size) == (_uri(tmp_path / "top" / "link"), 5)
    assert _content(tmp_path / "top" / "link") == b"12345"


def test_a_link_to_a_folder_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "out").symlink_to("/")

    assert _names(tmp_path) == ["a/file"]


def test_a_link_to_a_folder_is_walked_when_it_is_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to("folder")

    assert _names(tmp_path / "link") == ["file"]


def test_a_dangling_link_is_reported_and_leads_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")

    _is_reported_and_unreadable(tmp_path, tmp_path / "link", "not_found")


def test_a_link_through_a_file_leads_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file/inside")

    _is_reported_and_unreadable(tmp_path, tmp_path / "link", "not_found")


def test_links_in_a_circle_are_reported_and_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "self").symlink_to("self")

    for name in ("a", "b", "self"):
        _is_reported_and_unreadable(tmp_path, tmp_path / name, "link_loop")


def _make_socket(path: Path) -> None:
    # The address of a socket is short: it is bound under its name alone.
    with socket.socket(socket.AF_UNIX) as bound, chdir(path.parent):
        bound.bind(path.name)


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _nothing(path: Path) -> None:
    pass


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("kind", "make"), [("FIFO", os.mkfifo), ("socket", _make_socket), ("device", _link_to_device)])
def test_what_has_no_content_is_reported_and_not_opened(
    tmp_path: Path, kind: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "it")

    assert _names(tmp_path) == ["it"]
    problem = _read_problem(_uri(tmp_path / "it"))
    assert (problem.code, problem.detail) == ("not_a_file", f"a {kind} has no content to read")


def test_a_folder_has_no_content(tmp_path: Path) -> None:
    problem = _read_problem(_uri(tmp_path))

    assert (problem.code, problem.detail) == ("not_a_file", "a folder has no content to read")


def test_an_unreadable_file_is_reported_and_not_permitted(public: Path) -> None:
    path = public / "secret"
    path.write_bytes(b"12345")
    path.chmod(0)

    with _without_privileges():
        assert [found.size for found in _walk(public)] == [5]
        assert _read_problem(_uri(path)).code == "not_permitted"


def test_an_unreadable_folder_is_reported_itself(public: Path) -> None:
    (public / "closed").mkdir()
    (public / "closed" / "inside").touch()
    (public / "open").touch()
    (public / "closed").chmod(0)

    with _without_privileges():
        assert _names(public) == ["open", "closed"]
        _is_reported_and_unreadable(public, public / "closed", "not_permitted")
        _is_reported_and_unreadable(public / "closed", public / "closed", "not_permitted")
    (public / "closed").chmod(0o700)


def test_files_in_a_folder_that_may_be_listed_but_not_entered_are_reported(public: Path) -> None:
    (public / "listed").mkdir()
    (public / "listed" / "inside").touch()
    (public / "listed").chmod(0o444)

    with _without_privileges():
        _is_reported_and_unreadable(public, public / "listed" / "inside", "not_permitted")
    (public / "listed").chmod(0o700)


def test_a_file_that_vanishes_during_the_walk_is_reported(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()

    walk = files.walk(_uri(tmp_path))
    next(walk)
    (tmp_path / "b").unlink()

    assert [(found.uri[-1], found.size) for found in walk] == [("b", -1), ("c", 0)]


def test_a_folder_that_vanishes_during_the_walk_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "folder").mkdir()

    walk = files.walk(_uri(tmp_path))
    next(walk)
    (tmp_path / "folder").rmdir()

    assert list(walk) == [FoundFile(_uri(tmp_path / "folder"), -1, -1)]
    assert _read_problem(_uri(tmp_path / "folder")).code == "not_found"


def test_a_file_that_vanished_after_the_walk_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    [found] = _walk(tmp_path)
    (tmp_path / "a").unlink()

    assert _read_problem(found.uri).code == "not_found"
    with pytest.raises(FileProblem) as caught:
        files.stat(found.uri)
    assert caught.value.code == "not_found"


def test_a_file_whose_folder_became_a_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    [found] = _walk(tmp_path)
    (tmp_path / "folder" / "a").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").touch()

    assert _read_problem(found.uri).code == "not_found"


@pytest.mark.timeout(10)
def test_a_file_that_became_a_fifo_after_the_walk_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    [found] = _walk(tmp_path)
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")

    assert _read_problem(found.uri).code == "not_a_file"


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "code"),
    [(os.mkfifo, "not_a_file"), (os.mkdir, "not_a_file"), (_link_to_device, "not_a_file"), (_nothing, "not_found")],
)
def test_a_file_that_is_replaced_between_being_looked_at_and_being_opened_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], code: str
) -> None:
    path = tmp_path / "a"
    path.touch()
    look = os.stat

    def look_and_replace(looked_at: bytes) -> os.stat_result:
        found = look(looked_at)
        monkeypatch.undo()
        path.unlink()
        make(path)
        return found

    before = _open_files()
    monkeypatch.setattr(os, "stat", look_and_replace)

    assert _read_problem(_uri(path)).code == code
    assert not path.is_file()
    assert _open_files() == before


def test_an_error_of_the_device_says_what_it_was() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has a regular file that cannot be read")

    problem = _read_problem("file:///proc/self/mem")

    assert (problem.code, problem.detail) == ("unreadable", os.strerror(5))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/srv/data",
        "srv/data",
        "http://example.org/data",
        "file:",
        "file://",
        "file://host/data",
        "file:///srv/a%00b",
    ],
)
def test_another_uri_than_that_of_a_local_file_is_a_problem(uri: str) -> None:
    for ask in (files.stat, lambda uri: list(files.read(uri)), lambda uri: list(files.walk(uri))):
        with pytest.raises(FileProblem) as caught:
            ask(uri)
        assert (caught.value.uri, caught.value.code) == (uri, "not_a_file_uri")


@given(st.text().map("file:///no-such-folder/".__add__))
def test_no_uri_raises_anything_but_a_file_problem(uri: str) -> None:
    with pytest.raises(FileProblem):
        files.stat(uri)


@given(st.binary(min_size=1).filter(lambda name: not {*b"\0/"} & {*name} and name not in {b".", b".."}))
def test_the_uri_of_any_name_leads_to_that_name(name: bytes) -> None:
    uri = files.uri("/srv/" + os.fsdecode(name))

    assert unquote_to_bytes(uri) == b"file:///srv/" + name
