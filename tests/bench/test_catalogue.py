"""What the benchmark reads: its peers' descriptions, their answers, and addresses."""

import pytest

from bench.cases import CASES
from bench.catalogue import PEERS, catalogue, read_peer
from bench.places import address
from bench.processes import PeerFailed, parse_answer
from bench.protocol import wishes
from bench.report import page
from bench.results import read_json
from bench.run import RESULTS
from tests.house.source import ROOT

TEXT = """
name = "some"
store = "postgres"
requirements = ["some==1.*"]
unfinished = "SELECT false"
records = "a"
lacks = "b"
keys = "c"
[[settings]]
what = "fast"
source = "https://example.org/fast"
"""


def test_a_peer_is_read() -> None:
    peer = read_peer("some", TEXT)

    assert (peer.name, peer.store, peer.requirements, peer.unfinished) == (
        "some",
        "postgres",
        ("some==1.*",),
        "SELECT false",
    )
    assert [(one.what, one.source) for one in peer.settings] == [("fast", "https://example.org/fast")]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('records = "a"', "", "lacks records"),
        ('keys = "c"', 'keys = "c"\nspeed = 9', "has speed, which nobody reads"),
        ('"postgres"', '"mysql"', "the store mysql is none of"),
        ('requirements = ["some==1.*"]', "", "either requirements"),
    ],
)
def test_a_peer_that_lacks_something_is_refused(before: str, after: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_peer("some", TEXT.replace(before, after))


def test_every_peer_is_whole() -> None:
    peers = catalogue()

    assert peers[0].is_ours
    assert len({peer.name for peer in peers}) == len(peers)
    for peer in peers:
        assert peer.script.is_file()
        assert peer.settings
        assert (peer.unfinished is None) == (peer.store == "redis")
        assert peer.without <= {case.name for case in CASES}
        for setting in peer.settings:
            assert setting.source.startswith("https://") or (ROOT / setting.source).is_file()
    assert {peer.folder for peer in peers} == {path.name for path in PEERS.iterdir() if path.is_dir()}


def test_the_page_is_that_of_the_catalogue() -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page(catalogue(), read_json(RESULTS))


def test_an_answer_is_found_behind_what_a_library_prints() -> None:
    assert parse_answer('a warning\n{"jobs": 3, "seconds": 0.5}\n\n') == {"jobs": 3, "seconds": 0.5}


@pytest.mark.parametrize("output", ["", "a warning\n", "[1]\n"])
def test_no_answer_is_a_failure(output: str) -> None:
    with pytest.raises(PeerFailed, match="no answer"):
        parse_answer(output)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("postgresql://ann:pw@db:5433/x", "postgresql://ann:pw@db:5433/jobs"),
        (
            "postgresql+psycopg2://postgres@/postgres?host=/tmp/a&port=5432",
            "postgresql://postgres@/jobs?host=/tmp/a&port=5432",
        ),
        ("postgresql://localhost/x", "postgresql://postgres@localhost:5432/jobs"),
    ],
)
def test_an_address_has_one_form(server: str, expected: str) -> None:
    assert address(server, "jobs") == expected


def test_every_second_wish_has_a_key_of_its_own() -> None:
    made = wishes(4, size=10, keys=True, start=6)

    assert [wish.key for wish in made] == [None, "key-7", None, "key-9"]
    assert {len(wish.text) for wish in made} == {10}
    assert {wish.key for wish in wishes(2, size=1, keys=False)} == {None}
