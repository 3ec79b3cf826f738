"""What a job found or made."""

from typing import Any
from uuid import UUID

import pytest

from heimdex.domain.asset import MAX_SIZE, MAX_URI, NewAsset
from heimdex.domain.errors import InvalidInput, InvalidPayload
from tests.domain.life import JOB, ORG, START, Life, row

SHA256 = "0123456789abcdef" * 4
GIVEN: dict[str, Any] = {"uri": "file:///a", "media_type": "text/plain", "size": 1, "sha256": SHA256}


def test_an_asset_belongs_to_the_job_that_recorded_it() -> None:
    new = NewAsset.of("file:///a b", media_type="image/png", size=5, sha256=SHA256, metadata={"width": 3, "a": "é"})

    asset = new.recorded(asset_id=UUID(int=7), job=Life().job, created_at=START)

    assert row(asset) == {
        "id": UUID(int=7),
        "org_id": ORG,
        "job_id": JOB,
        "uri": "file:///a b",
        "media_type": "image/png",
        "size": 5,
        "sha256": SHA256,
        "metadata_json": '{"a":"é","width":3}',
        "created_at": START,
    }
    assert asset.metadata == {"width": 3, "a": "é"}
    assert asset.metadata is not asset.metadata


def test_an_asset_may_have_no_metadata() -> None:
    assert NewAsset.of(**GIVEN).metadata_json == NewAsset(**GIVEN).metadata_json == "{}"


def test_metadata_stays_in_the_json_subset() -> None:
    with pytest.raises(InvalidPayload, match=r"^metadata: at \$\.a: "):
        NewAsset.of(**GIVEN, metadata={"a": 2**53})


@pytest.mark.parametrize(
    ("field", "value"),
    [("uri", "u" * MAX_URI), ("size", 0), ("size", MAX_SIZE), ("media_type", "x" * 255)],
    ids=["a long uri", "an empty file", "the largest file", "a long media type"],
)
def test_a_value_at_the_edge_is_accepted(field: str, value: object) -> None:
    assert getattr(NewAsset(**(GIVEN | {field: value})), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uri", ""),
        ("uri", "u" * (MAX_URI + 1)),
        ("uri", "file:///a\nb"),
        ("media_type", ""),
        ("media_type", None),
        ("size", -1),
        ("size", MAX_SIZE + 1),
        ("size", 1.0),
        ("sha256", ""),
        ("sha256", None),
        ("sha256", SHA256.upper()),
        ("sha256", SHA256 + "0"),
        ("sha256", SHA256[:-1] + "\n"),
        ("sha256", SHA256 + "\n"),
    ],
)
def test_a_value_beyond_the_edge_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        NewAsset(**(GIVEN | {field: value}))
    assert refused.value.field == field


@pytest.mark.parametrize("text", ["not json", "[1]", '{"n":NaN}', '{"s":"\\u0000"}', '{"n":9007199254740992}'])
def test_metadata_that_is_no_object_of_the_subset_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="metadata"):
        NewAsset(**GIVEN, metadata_json=text)


def test_metadata_becomes_canonical() -> None:
    assert NewAsset(**GIVEN, metadata_json='{"b": 1, "a": 2}').metadata_json == '{"a":2,"b":1}'
