"""The file system as the drive jobs see it."""

from collections.abc import Iterator
from typing import Protocol

from attrs import frozen


class Files(Protocol):
    """The file system as `drive` sees it. Uris are `file://` uris, percent-encoded byte by byte."""

    def walk(self, uri: str) -> "Iterator[FoundFile]":
        """Yield every file below a folder, or the file itself: a folder's files by name, then its folders by name.

        Links are not followed out of the tree or in circles: a link to a folder is not entered, any other link is
        reported under its own uri. Reading what is reported may fail: sockets, FIFOs, devices and dangling links are
        reported, and so is a folder that cannot be listed, so that nothing is left out unseen.

        Raises:
            FileProblem: there is nothing at `uri`.
        """

    def read(self, uri: str) -> "Iterator[bytes]":
        """Yield a regular file's content in blocks of at most 1 MiB.

        Raises:
            FileProblem: it is not there, not readable or not a regular file.
        """

    def stat(self, uri: str) -> "FoundFile":
        """Return what the walk would report now.

        Raises:
            FileProblem: there is nothing at `uri`, or no way to it.
        """


@frozen
class FoundFile:
    """A file as the walk met it. `size` in bytes, `mtime_ns` in nanoseconds since 1970; both -1 where unreadable."""

    uri: str
    size: int
    mtime_ns: int


class MediaTypes(Protocol):
    def media_type(self, uri: str, head: bytes) -> str:
        """Return the media type by content (`head` is the first block or more than 4 KiB of it).

        The name is a hint between kinds of text, and between formats that begin alike.
        """

    def dimensions(self, head: bytes) -> tuple[int, int] | None:
        """Return an image's width and height in pixels, where the format tells them in `head`, its first block."""
