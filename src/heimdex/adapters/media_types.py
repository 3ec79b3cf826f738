"""What a file is, by its content. Texts are told here, binary formats by puremagic, dimensions by imagesize."""

import codecs
import re
from io import BytesIO
from mimetypes import MimeTypes
from typing import TYPE_CHECKING

from heimdex.service_layer import ports

if TYPE_CHECKING:
    import puremagic

EMPTY = "inode/x-empty"
UNKNOWN = "application/octet-stream"

_LOOKED_AT = 4096
# Formats that begin like text, and common ones that puremagic takes for something else or names as of old.
_BEGINNINGS = (
    (b"%PDF-", "application/pdf"),
    (b"%!PS", "application/postscript"),
    (b"{\\rtf", "application/rtf"),
    (b"\x7fELF", "application/x-elf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
)
_MARKUP = (
    ("<?xml", "application/xml"),
    ("<svg", "image/svg+xml"),
    ("<!doctype html", "text/html"),
    ("<html", "text/html"),
)
_TEXT_NAMES = frozenset(
    {"application/javascript", "application/json", "application/x-sh", "application/xml", "image/svg+xml"}
)
# No text has these; escape is left out, since terminal logs have it.
_CONTROLS = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")
_BOMS_OF_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# One byte alone says nothing: puremagic's confidence is a tenth per byte.
_CONFIDENT = 0.2
_ZIP = "application/zip"
_NAMED_TODAY = {"image/x-ms-bmp": "image/bmp"}
# What 32 bits hold. A header may say anything, and a number beyond JSON's would end the job.
_LONGEST_SIDE = 2**32 - 1


class ContentMediaTypes(ports.MediaTypes):
    def __init__(self) -> None:
        # Its own table: the one of the module takes in whatever /etc/mime.types says on this machine.
        self._names = MimeTypes()

    def media_type(self, uri: str, head: bytes) -> str:
        head = head[:_LOOKED_AT]
        if not head:
            return EMPTY
        for beginning, media_type in _BEGINNINGS:
            if head.startswith(beginning):
                return media_type
        text = _as_text(head)
        return _binary(uri, head) if text is None else self._text(uri, text)

    def dimensions(self, head: bytes) -> tuple[int, int] | None:
        # Two ways in which a hostile header keeps imagesize busy for minutes: digits without end in a Netpbm file, and
        # the orientation of a HEIF file. So both sides are as stored, not as turned for a viewer.
        if head.startswith(b"P"):
            head = head[:_LOOKED_AT]
        import imagesize  # noqa: PLC0415 - it loads much, and every worker knows the drive jobs, whether it has any or not

        width, height = imagesize.get(BytesIO(head), exif_rotation=False)
        if not (1 <= width <= _LONGEST_SIDE and 1 <= height <= _LONGEST_SIDE):
            return None
        # Those of an SVG may have fractions.
        return round(width), round(height)

    def _text(self, uri: str, text: str) -> str:
        named, packed = self._names.guess_type(uri)
        if named is not None and packed is None and (named.startswith("text/") or named in _TEXT_NAMES):
            return named
        start = text.lstrip()[:32].lower()
        return next((markup for beginning, markup in _MARKUP if start.startswith(beginning)), "text/plain")


def _as_text(head: bytes) -> str | None:
    """Return the head as text, or None where it is none. The encoding of old Western texts stands for all old ones."""
    final = len(head) < _LOOKED_AT  # otherwise it may end within a character
    for encoding in ("utf-16",) if head.startswith(_BOMS_OF_UTF_16) else ("utf-8-sig", "cp1252"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head, final)
        except UnicodeDecodeError:
            continue
        if not _CONTROLS.search(text):
            return text
    return None


def _binary(uri: str, head: bytes) -> str:
    matches = _matches(head)
    if not matches:
        return UNKNOWN
    # Office documents, archives of code and data: all are zip files, and the name is of none of those.
    zipped = any(match.mime_type == _ZIP for match in matches)
    alike = matches if zipped else [match for match in matches if match.byte_match == matches[0].byte_match]
    named = next((match for match in alike if _is_named(uri, match.extension)), None)
    if named is None and zipped:
        return _ZIP
    media_type: str = (named or matches[0]).mime_type.strip()
    return _NAMED_TODAY.get(media_type, media_type)


def _matches(head: bytes) -> "list[puremagic.PureMagicWithConfidence]":
    """Return the formats that a head may be of, longest match first."""
    import puremagic  # noqa: PLC0415 - as imagesize

    if head[4:8] == b"ftyp":
        # Many formats share this box, and its length before it says nothing; puremagic takes some lengths for MPEG-4.
        head = bytes(4) + head[4:]
    try:
        matches = puremagic.magic_string(head)
    except puremagic.PureError:
        return []
    return [match for match in matches if match.mime_type and match.confidence >= _CONFIDENT]


def _is_named(uri: str, extension: str) -> bool:
    return extension.startswith(".") and uri.lower().endswith(extension)
