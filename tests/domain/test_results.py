"""What a worker hands in."""

import pytest

from heimdex.domain.errors import InvalidPayload
from heimdex.domain.results import Note


@pytest.mark.parametrize("text", ["not json", "[1]", '{"n":NaN}', '{"s":"\\u0000"}', '{"n":9007199254740992}'])
def test_a_note_that_is_no_object_of_the_subset_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="detail"):
        Note(text)


def test_a_note_becomes_canonical() -> None:
    assert Note('{"b": 1, "a": 2}').detail_json == '{"a":2,"b":1}'
