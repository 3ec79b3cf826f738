# ruff: noqa: PTH100, PTH112, PTH114, PTH116, PTH118 - paths are bytes here, as in the adapter; pathlib has only text
"""A walk through folders that is not the one which the jobs use: what they did is compared with it."""

import os
from collections.abc import Collection, Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

from heimdex.service_layer.ports import FoundFile

_SCHEME = "file://"


def uri_of(path: str | bytes) -> str:
    return _SCHEME + quote_from_bytes(os.path.abspath(os.fsencode(path)))


def walk(uri: str, exclude: Collection[str]) -> Iterator[FoundFile]:
    """Yield a folder's files by name, then those of its folders by name; or the file itself.

    Links to folders are passed over. A folder that cannot be listed is yielded itself.
    """
    top = _path_of(uri)
    if not os.path.isdir(top):
        yield _found(top)
        return
    excluded = {os.fsencode(name) for name in exclude}
    folders = [top]
    while folders:
        folder = folders.pop()
        # A level at a time: os.walk itself goes no deeper than Python's stack.
        level = next(os.walk(folder), None)
        if level is None:
            yield FoundFile(_uri(folder), -1, -1)
            continue
        _, inner, names = level
        yield from (_found(os.path.join(folder, name)) for name in sorted(names))
        paths = (os.path.join(folder, name) for name in sorted(inner, reverse=True) if name not in excluded)
        folders.extend(path for path in paths if not os.path.islink(path))


def has_changed(file: FoundFile) -> bool:
    """Say whether a file is no longer what the walk met."""
    # What could not be read then is not compared: it has no size and no time.
    return file.size >= 0 and _found(_path_of(file.uri)) != file


def _path_of(uri: str) -> bytes:
    return unquote_to_bytes(uri.removeprefix(_SCHEME))


def _uri(path: bytes) -> str:
    return _SCHEME + quote_from_bytes(path)


def _found(path: bytes) -> FoundFile:
    try:
        found = os.stat(path)
    except OSError:
        return FoundFile(_uri(path), -1, -1)
    return FoundFile(_uri(path), found.st_size, found.st_mtime_ns)
