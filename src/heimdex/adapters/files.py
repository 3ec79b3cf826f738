"""The file system of this machine. Paths are bytes throughout, so that every name it can hold has a uri."""

import errno
import os
import stat
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

from heimdex.domain.errors import FileProblem
from heimdex.service_layer.ports import Files, FoundFile

BLOCK = 1024 * 1024

_SCHEME = "file://"
_PROBLEMS = {
    errno.ENOENT: ("not_found", "there is no such file"),
    errno.ENOTDIR: ("not_found", "a part of its path is not a folder"),
    errno.EACCES: ("not_permitted", "this process may not read it"),
    errno.EPERM: ("not_permitted", "this process may not read it"),
    errno.ELOOP: ("link_loop", "its links lead in a circle"),
    errno.ENAMETOOLONG: ("path_too_long", "its path, or a name in it, is longer than this system takes"),
}


class LocalFiles(Files):
    def uri(self, path: str) -> str:
        """Return the uri of a path as people type it, relative to where this process runs."""
        name = os.fsencode(path)
        try:
            return _to_uri(os.path.abspath(name))
        except OSError as error:
            # The folder that a relative path begins in may have been removed.
            raise _problem(name, error) from error

    def walk(self, uri: str) -> Iterator[FoundFile]:
        top = _to_path(uri)
        if not stat.S_ISDIR(_stat(top).st_mode):
            yield self.stat(uri)
            return
        # Not by recursion: folders may be nested deeper than Python's stack.
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                files, inner = _listed(folder)
            except FileProblem:
                yield FoundFile(_to_uri(folder), -1, -1)
                continue
            yield from map(_found, files)
            folders.extend(reversed(inner))

    def read(self, uri: str) -> Iterator[bytes]:
        descriptor = _open(_to_path(uri))
        try:
            while block := _read(descriptor, uri):
                yield block
        finally:
            os.close(descriptor)

    def stat(self, uri: str) -> FoundFile:
        found = _stat(_to_path(uri))
        return FoundFile(uri, found.st_size, found.st_mtime_ns)


def _to_uri(path: bytes) -> str:
    return _SCHEME + quote_from_bytes(path)


def _to_path(uri: str) -> bytes:
    path = unquote_to_bytes(uri.removeprefix(_SCHEME))
    if not uri.startswith(_SCHEME) or not path.startswith(b"/") or b"\0" in path:
        raise FileProblem(uri, "not_a_file_uri", "give a uri such as file:///srv/data")
    return path


def _listed(folder: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the files and the folders in a folder, each by name. A link is a file here unless it leads to a folder."""
    files: list[bytes] = []
    folders: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not (entry.is_symlink() and os.path.isdir(entry.path)):
                    files.append(entry.path)
    except OSError as error:
        raise _problem(folder, error) from error
    return files, folders


def _found(path: bytes) -> FoundFile:
    try:
        found = _stat(path)
    except FileProblem:
        return FoundFile(_to_uri(path), -1, -1)
    return FoundFile(_to_uri(path), found.st_size, found.st_mtime_ns)


def _stat(path: bytes) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _problem(path, error) from error


def _open(path: bytes) -> int:
    # Looked at before it is opened, since opening alone can move a device; and opened without waiting, since a FIFO
    # may have taken its place in between.
    _check_regular(path, _stat(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _problem(path, error) from error
    try:
        _check_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int, uri: str) -> bytes:
    try:
        return os.read(descriptor, BLOCK)
    except OSError as error:
        raise _problem(_to_path(uri), error) from error


def _check_regular(path: bytes, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        # The walk reports a folder only where it could not list it: say why, where that is still so.
        _listed(path)
    if not stat.S_ISREG(found.st_mode):
        raise FileProblem(_to_uri(path), "not_a_file", f"a {_kind(found.st_mode)} has no content to read")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _problem(path: bytes, error: OSError) -> FileProblem:
    code, detail = _PROBLEMS.get(error.errno or 0, ("unreadable", error.strerror or type(error).__name__))
    return FileProblem(_to_uri(path), code, detail)
