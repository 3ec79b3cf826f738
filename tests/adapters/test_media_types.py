"""Media types by content and image dimensions, also of content that was made to break whoever looks at it."""

import gzip
import re
import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdex.adapters.media_types import EMPTY, UNKNOWN, ContentMediaTypes

OFFICE = "application/vnd.openxmlformats-officedocument"
NOISE = bytes(range(128, 256)) + bytes(range(128))

media_types = ContentMediaTypes()


def _type(head: bytes, name: str = "file") -> str:
    return media_types.media_type(f"file:///srv/{name}", head)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    ifd = struct.pack(">HHHLHHL", 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08" + ifd
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    app1 = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\0"
    return b"\xff\xd8" + app0 + app1 + frame + b"\xff\xd9"


def _webp(chunk: bytes) -> bytes:
    return b"RIFF" + struct.pack("<L", 4 + len(chunk)) + b"WEBP" + chunk


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + kind + content


def _heif(brand: bytes, width: int, height: int) -> bytes:
    size = _box(b"ispe", bytes(4) + struct.pack(">LL", width, height))
    properties = _box(b"iprp", _box(b"ipco", size))
    return _box(b"ftyp", brand + bytes(4) + b"mif1") + _box(b"meta", bytes(4) + properties)


IMAGES = {
    "image/png": _png(640, 480),
    "image/gif": b"GIF89a" + struct.pack("<HH", 640, 480) + b"\0\0\0;",
    "image/jpeg": _jpeg(640, 480),
    "image/bmp": b"BM" + struct.pack("<LLLLll", 54, 0, 54, 40, 640, -480) + bytes(28),
    "image/webp": _webp(b"VP8X" + struct.pack("<LL", 10, 0) + b"\x7f\x02\0\xdf\x01\0"),
    "image/tiff": b"II*\0\x08\0\0\0" + struct.pack("<HHHLLHHLLL", 2, 256, 4, 1, 640, 257, 4, 1, 480, 0),
    "image/heif": _heif(b"heic", 640, 480),
    "image/avif": _heif(b"avif", 640, 480),
    "image/jp2": _box(b"jP  ", b"\r\n\x87\n") + _box(b"jp2h", _box(b"ihdr", struct.pack(">LL", 480, 640) + bytes(6))),
    "image/x-portable-pixmap": b"P6\n# made by hand\n640 480\n255\n" + bytes(30),
    "image/svg+xml": b'<svg xmlns="http://www.w3.org/2000/svg" width="640px" height="480"></svg>',
}


def _zip(*names: str) -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("note", b"plain words\n", "text/plain"),
        ("note", "with a mark: é".encode("utf-8-sig"), "text/plain"),
        ("note", "grün, groß\n".encode(), "text/plain"),
        ("note", "grün, groß\n".encode("latin-1"), "text/plain"),
        ("note", "“quoted” on Windows".encode("cp1252"), "text/plain"),
        ("note", "grün, with a byte order mark".encode("utf-16"), "text/plain"),
        ("note", b"\xfe\xff" + "the other order".encode("utf-16-be"), "text/plain"),
        ("build.log", b"\x1b[32mgreen\x1b[0m\n", "text/plain"),
        ("style.css", b"p { color: red }\n", "text/css"),
        ("table.csv", b"a,b\n1,2\n", "text/csv"),
        ("module.py", b"import this\n", "text/x-python"),
        ("run.sh", b"#!/bin/sh\nexit 0\n", "application/x-sh"),
        ("run", b"#!/usr/bin/env python3\n", "text/plain"),
        ("data.json", b'{"a": 1}', "application/json"),
        ("page.html", b"<p>no head</p>", "text/html"),
        ("page", b"\n<!DOCTYPE HTML>\n<html></html>", "text/html"),
        ("page", b"<html><body>", "text/html"),
        ("feed.xml", b"<feed/>", "text/xml"),
        ("feed", b'<?xml version="1.0"?><feed/>', "application/xml"),
        ("drawing.svg", b'<?xml version="1.0"?><svg/>', "image/svg+xml"),
        ("drawing", b"<svg/>", "image/svg+xml"),
        ("name.tar.gz", b"text under a packed name", "text/plain"),
    ],
)
def test_a_text_is_told_by_its_content_and_its_kind_by_its_name(name: str, content: bytes, expected: str) -> None:
    assert _type(content, name) == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.txt", b"", EMPTY),
        ("paper", b"%PDF-1.7\n1 0 obj", "application/pdf"),
        ("letter", b"{\\rtf1 hello}", "application/rtf"),
        ("plot", b"%!PS-Adobe-3.0\n", "application/postscript"),
        ("packed", gzip.compress(b"words", mtime=0), "application/gzip"),
        ("cabinet", b"MSCF" + bytes(40), "application/vnd.ms-cab-compressed"),
        ("notes.db", b"SQLite format 3\0" + bytes(84), "application/x-sqlite3"),
        ("film", b"\0\0\0\x1cftypisom" + bytes(16), "video/mp4"),
        ("sound", b"RIFF\x24\0\0\0WAVEfmt " + bytes(16), "audio/wave"),
        ("zeros", bytes(4096), UNKNOWN),
        ("noise", NOISE, UNKNOWN),
        ("noise.txt", NOISE, UNKNOWN),
        ("image.png", b"not a picture at all", "text/plain"),
    ],
)
def test_what_is_no_text_is_told_by_its_first_bytes(name: str, content: bytes, expected: str) -> None:
    assert _type(content, name) == expected


def test_the_python_that_runs_this_is_a_program() -> None:
    head = Path(sys.executable).read_bytes()[:4096]
    if not head.startswith(b"\x7fELF"):
        pytest.skip("programs of this system are not ELF files")

    assert _type(head, "python3") == "application/x-elf"


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_is_told_whatever_its_name(kind: str) -> None:
    content = IMAGES[kind]

    assert _type(content) == kind
    assert _type(content, "picture.txt") in {kind, "text/plain"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.zip", "application/zip"),
        ("a", "application/zip"),
        ("a.whl", "application/zip"),
        ("a.jar", "application/java-archive"),
        ("A.DOCX", f"{OFFICE}.wordprocessingml.document"),
        ("a.xlsx", f"{OFFICE}.spreadsheetml.sheet"),
        ("a.pptx", f"{OFFICE}.presentationml.presentation"),
        ("a.odt", "application/vnd.oasis.opendocument.text"),
    ],
)
# As Python packs, and with the flags that office programs set.
@pytest.mark.parametrize("content", [_zip("a.txt", "b.txt"), b"PK\3\4\x14\0\6\0" + bytes(40)], ids=["python", "office"])
def test_the_name_tells_what_a_zip_file_holds(name: str, expected: str, content: bytes) -> None:
    assert _type(content, name) == expected


def test_an_empty_zip_file_is_one() -> None:
    assert _type(_zip(), "empty.whl") == "application/zip"


def test_a_head_may_end_within_a_character() -> None:
    assert _type(b"a" * 4095 + "é".encode() + b"...") == "text/plain"


def test_only_the_beginning_is_looked_at() -> None:
    assert _type(b"words " * 1000 + bytes(100)) == "text/plain"


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_has_its_dimensions(kind: str) -> None:
    assert media_types.dimensions(IMAGES[kind]) == (640, 480)


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8 " + struct.pack("<L", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480),
        b"VP8L" + struct.pack("<L", 5) + b"\x2f" + struct.pack("<L", 639 | 479 << 14) + b"\0",
    ],
    ids=["lossy", "lossless"],
)
def test_each_kind_of_webp_has_its_dimensions(chunk: bytes) -> None:
    assert media_types.dimensions(_webp(chunk)) == (640, 480)


def test_dimensions_are_as_stored_not_as_turned_for_a_viewer() -> None:
    assert media_types.dimensions(_jpeg(640, 480, orientation=6)) == (640, 480)


def test_the_fractions_of_a_drawing_are_rounded() -> None:
    assert media_types.dimensions(b'<svg width="10.4" height="1in">') == (10, 96)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"words",
        b"\x89PNG\r\n\x1a\n",
        _png(0, 480),
        b"GIF89a" + struct.pack("<HH", 0, 0),
        b'<svg width="100%" height="100%">',
        b"<svg/>",
        b'<svg width="' + b"9" * 400 + b'" height="1">',
        b"P6 " + b"9" * 4000 + b" 1 255\n",
        b"P6 " + b"9" * 5000 + b" 1 255\n",
        b"BM" + struct.pack("<LLLLll", 54, 0, 54, 40, -640, 480) + bytes(28),
    ],
    ids=repr,
)
def test_there_are_no_dimensions_where_a_header_tells_none_that_can_be(content: bytes) -> None:
    assert media_types.dimensions(content) is None


def _heif_with_many_extents(extents: int, entries: int) -> bytes:
    """Return a file whose orientation must be looked for through all extents once for each entry."""
    exif = _box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"Exif\0")
    names = _box(b"iinf", bytes(4) + struct.pack(">H", 1) + exif)
    tiff = b"MM\0\x2a\0\0\0\x08" + struct.pack(">H", entries) + bytes(12 * entries)
    content = struct.pack(">L", extents) + tiff

    def head(first: int) -> bytes:
        places = struct.pack(">LL", first, 4) + struct.pack(">LL", first, 1) * extents
        places += struct.pack(">LL", first + 4, len(tiff))
        item = struct.pack(">HHHH", 1, 1, 0, extents + 2)
        meta = bytes(4) + names + _box(b"iloc", bytes(4) + b"\x44\0" + item + places)
        return _box(b"ftyp", b"heic" + bytes(4)) + _box(b"meta", meta)

    return head(len(head(0)) + 8) + _box(b"mdat", content)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "content",
    [
        _heif_with_many_extents(extents=30_000, entries=60_000),
        b"P6\n" + b"9" * 2**20,
        b"P6\n" + b"#" * 2**20,
        b"\xff\xd8" + b"\xff" * 2**20,
        b"\xff\xd8" + b"\xff\xfe\0\2" * 2**18,
        b"MM\0\x2a\0\0\0\x08\xff\xff" + bytes(2**20),
        _box(b"ftyp", b"none" * 2**18),
        b'<svg width="' + b"=" * 2**20,
    ],
    ids=["heif", "netpbm", "netpbm comment", "jpeg fill", "jpeg segments", "tiff", "brands", "svg"],
)
def test_a_hostile_header_takes_little_time(content: bytes) -> None:
    assert media_types.dimensions(content[: 2**20]) is None


def _check_that_nothing_is_raised(content: bytes, name: str) -> None:
    assert re.fullmatch(r"[\w.+-]+/[\w.+-]+", _type(content, name))
    dimensions = media_types.dimensions(content)
    assert dimensions is None or all(type(side) is int and 0 < side < 2**32 for side in dimensions)


@pytest.mark.parametrize("kind", IMAGES)
def test_a_truncated_image_raises_nothing(kind: str) -> None:
    for length in range(len(IMAGES[kind])):
        _check_that_nothing_is_raised(IMAGES[kind][:length], "a.png")


BEGINNINGS = st.sampled_from([b"", b"PK\3\4", b"RIFF", b"\0\0\0\x18ftyp", b"\xff\xfe", b"P6\n", b"II+\0", b"<svg"])
NAMES = st.sampled_from(["a", "a.json", "a.svg", "a.tar.gz", "%FF%2F.docx", "%0A.txt", ".", "a;b=c.png", "a."])


@given(beginning=BEGINNINGS | st.sampled_from([*IMAGES.values()]), rest=st.binary(max_size=200), name=NAMES)
def test_hostile_content_raises_nothing(beginning: bytes, rest: bytes, name: str) -> None:
    _check_that_nothing_is_raised(beginning + rest, name)


@given(kind=st.sampled_from([*IMAGES]), place=st.integers(0, 99), put=st.binary(min_size=1, max_size=8))
def test_a_damaged_image_raises_nothing(kind: str, place: int, put: bytes) -> None:
    content = bytearray(IMAGES[kind])
    content[place : place + len(put)] = put

    _check_that_nothing_is_raised(bytes(content), "a")
