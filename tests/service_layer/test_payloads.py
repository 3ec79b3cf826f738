"""What job functions take and return, as documents: what fits, what does not, and what an error says of it."""

import enum
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar, cast
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain.errors import InvalidInput, InvalidPayload
from heimdex.domain.json_text import MAX_INTEGER, JsonValue, canonical, decode
from heimdex.service_layer.payloads import payload_form, result_document

Item = TypeVar("Item")
CANARY = "canary"
NOBODY = UUID(int=0)


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Kind(enum.StrEnum):
    FILE = "file"


@attrs.frozen
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True)
class Box:
    corner: Point
    name: str | None = None


@attrs.frozen
class Node:
    children: "list[Node]" = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Everything:
    text: str = ""
    flag: bool = False
    whole: int = 0
    number: float = 0.0
    maybe: int | None = None
    id: UUID = NOBODY
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    day: date | None = None
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    kind: Kind = Kind.FILE
    choice: Literal["a", "b"] = "a"
    either: str | int = 0
    items: list[str] = attrs.field(factory=list)
    fixed: tuple[int, str] = (0, "")
    many: tuple[float, ...] = ()
    several: frozenset[int] = frozenset()
    sequence: Sequence[int] = ()
    by_name: dict[str, int] = attrs.field(factory=dict)
    box: Box = Box(Point(0))
    boxes: list[Box] = attrs.field(factory=list)
    free: dict[str, Any] = attrs.field(factory=dict)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
wholes = st.integers(-MAX_INTEGER, MAX_INTEGER)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), None])
points = st.builds(Point, wholes, wholes)
boxes = st.builds(Box, points, st.none() | texts)
everything = st.builds(
    Everything,
    text=texts,
    flag=st.booleans(),
    whole=wholes,
    number=st.floats(allow_nan=False, allow_infinity=False),
    maybe=st.none() | wholes,
    id=st.uuids(),
    at=st.datetimes(timezones=zones),
    day=st.none() | st.dates(),
    colour=st.sampled_from(Colour),
    size=st.sampled_from(Size),
    choice=st.sampled_from(["a", "b"]),
    either=texts | wholes,
    items=st.lists(texts, max_size=2),
    fixed=st.tuples(wholes, texts),
    many=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=2).map(tuple),
    several=st.frozensets(wholes, max_size=2),
    sequence=st.lists(wholes, max_size=2).map(tuple),
    by_name=st.dictionaries(texts, wholes, max_size=2),
    box=boxes,
    boxes=st.lists(boxes, max_size=2),
    free=st.dictionaries(texts, st.none() | st.booleans() | texts, max_size=2),
)


def stored(payload: object, hint: object) -> JsonValue:
    """Return what a store gives back of a payload."""
    return decode(canonical(payload_form(hint).document(payload), "payload"))


@settings(max_examples=20)
@given(everything)
def test_every_instance_comes_back_from_its_document(payload: Everything) -> None:
    assert payload_form(Everything).rebuild(stored(payload, Everything)) == payload


@pytest.mark.parametrize(
    "payload",
    [Point(1), Box(Point(1, 2), "b"), Node([Node(), Node([Node()])])],
    ids=["attrs", "dataclass", "recursive"],
)
def test_classes_come_back_from_their_documents(payload: object) -> None:
    assert payload_form(type(payload)).rebuild(stored(payload, type(payload))) == payload


@pytest.mark.parametrize("hint", [dict, dict[str, object], Mapping, Mapping[str, int], OrderedDict, object], ids=str)
def test_a_plain_document_is_handed_through(hint: object) -> None:
    document = {"a": [1, {"b": None}]}

    assert payload_form(hint).document(document) is document
    assert payload_form(hint).rebuild(document) == document


def test_a_plain_payload_must_be_an_object() -> None:
    with pytest.raises(InvalidPayload, match=r"payload: at \$: expected an object, found list"):
        payload_form(dict).rebuild([1])


def test_a_document_may_be_given_instead_of_an_instance() -> None:
    document = {"x": 1}

    assert payload_form(Point).document(document) is document
    assert payload_form(Point).rebuild(document) == Point(1, 0)


def test_a_whole_number_fits_a_float_and_becomes_one() -> None:
    rebuilt = payload_form(Everything).rebuild({"number": 5})

    assert isinstance(cast("Everything", rebuilt).number, float)


@attrs.frozen
class Generics(Generic[Item]):
    item: Item


Metres = NewType("Metres", int)


@attrs.frozen
class Aliased:
    metres: Metres
    note: Annotated[str, "anything"]


def test_generic_classes_and_named_types_are_structured() -> None:
    assert payload_form(Generics[int]).rebuild({"item": 1}) == Generics(1)
    assert payload_form(Aliased).rebuild({"metres": 1, "note": ""}) == Aliased(Metres(1), "")
    with pytest.raises(InvalidPayload, match=r"at \$.item: expected int, found str"):
        payload_form(Generics[int]).rebuild({"item": CANARY})


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ([], "$: expected Everything, found list"),
        (CANARY, "$: expected Everything, found str"),
        (None, "$: expected Everything, found NoneType"),
        ({"text": 5}, "$.text: expected str, found int"),
        ({"flag": 1}, "$.flag: expected bool, found int"),
        ({"whole": "5"}, "$.whole: expected int, found str"),
        ({"whole": True}, "$.whole: expected int, found bool"),
        ({"whole": 5.0}, "$.whole: expected int, found float"),
        ({"number": "5"}, "$.number: expected float, found str"),
        ({"number": True}, "$.number: expected float, found bool"),
        ({"maybe": "5"}, "$.maybe: expected int, found str"),
        ({"maybe": True}, "$.maybe: expected int, found bool"),
        ({"id": CANARY}, "$.id: does not fit UUID (ValueError)"),
        ({"id": 5}, "$.id: expected UUID, found int"),
        ({"at": CANARY}, "$.at: does not fit datetime (ValueError)"),
        ({"at": 5}, "$.at: does not fit datetime (TypeError)"),
        ({"colour": CANARY}, "$.colour: does not fit Colour (ValueError)"),
        ({"size": 7}, "$.size: does not fit Size (ValueError)"),
        ({"size": True}, "$.size: expected Size, found bool"),
        ({"kind": CANARY}, "$.kind: does not fit Kind (ValueError)"),
        ({"choice": CANARY}, "$.choice: does not fit typing.Literal['a', 'b'] (CattrsError)"),
        ({"either": [CANARY]}, "$.either: does not fit str | int (TypeError)"),
        ({"either": True}, "$.either: does not fit str | int (TypeError)"),
        ({"items": CANARY}, "$.items: expected list[str], found str"),
        ({"items": ["a", 5]}, "$.items[1]: expected str, found int"),
        ({"fixed": [1]}, "$.fixed: does not fit tuple[int, str] (ValueError)"),
        ({"fixed": [1, 2]}, "$.fixed[1]: expected str, found int"),
        ({"fixed": CANARY}, "$.fixed: expected tuple[int, str], found str"),
        ({"many": {"a": 1}}, "$.many: expected tuple[float, ...], found dict"),
        ({"several": [1, CANARY]}, "$.several[1]: expected int, found str"),
        ({"by_name": {"a": CANARY}}, "$.by_name.a: expected int, found str"),
        ({"by_name": {"a b": CANARY}}, "$.by_name['a b']: expected int, found str"),
        ({"by_name": [["a", 1]]}, "$.by_name: expected dict[str, int], found list"),
        ({"box": []}, "$.box: expected Box, found list"),
        ({"box": {}}, "$.box.corner: required field missing"),
        ({"box": {"corner": {"x": CANARY}}}, "$.box.corner.x: expected int, found str"),
        ({"boxes": [{"corner": {"x": 1}}, {"corner": {"z": 1}}]}, "$.boxes[1].corner.x: required field missing"),
        ({"unknown": CANARY}, "$.unknown: unknown field"),
        ({"not a name": CANARY}, "$['not a name']: unknown field"),
        ({"box": {"corner": {"x": 1, "z": CANARY}}}, "$.box.corner.z: unknown field"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_the_path_and_without_the_value(
    document: object, error: str
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        payload_form(Everything).rebuild(document)

    assert str(caught.value) == f"payload: at {error}"
    assert caught.value.__cause__ is None


def _refuses(_: object, attribute: object, value: str) -> None:
    raise InvalidInput("name", value, "give 1 to 255 characters")


def _refuses_loudly(_: object, attribute: object, value: str) -> None:
    raise RuntimeError(f"not this: {value}")


@attrs.frozen
class Refused:
    name: str = attrs.field(validator=_refuses)


@attrs.frozen
class RefusedLoudly:
    name: str = attrs.field(validator=_refuses_loudly)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Refused, "payload: at $: name: give 1 to 255 characters"),
        (RefusedLoudly, "payload: at $: does not fit RefusedLoudly (RuntimeError)"),
    ],
)
def test_what_a_class_itself_refuses_is_told_without_the_value(kind: type, error: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        payload_form(kind).rebuild({"name": CANARY})

    assert str(caught.value) == error


def test_an_instance_with_a_field_of_the_wrong_type_has_no_document() -> None:
    wrong = attrs.evolve(Everything(), at=cast("datetime", CANARY))

    with pytest.raises(InvalidPayload, match=r"cannot be converted to JSON \(AttributeError\)") as caught:
        payload_form(Everything).document(wrong)
    assert CANARY not in str(caught.value)


@attrs.frozen
class WithSomethingElse:
    thing: timedelta


@attrs.frozen
class WithAnUnknownName:
    thing: "list[NotAnywhere]"  # type: ignore[name-defined]  # noqa: F821 - that is the point


NOT_A_PAYLOAD = {
    "an annotation that is no class": int | str,
    "a list": list[int],
    "a scalar": int,
    "a text": "dict",
    "anything": Any,
    "a class without fields": object(),
    "a field that JSON has no form for": WithSomethingElse,
    "a field of an unknown type": WithAnUnknownName,
}


@pytest.mark.parametrize("hint", NOT_A_PAYLOAD.values(), ids=NOT_A_PAYLOAD)
def test_an_annotation_that_has_no_document_is_refused(hint: object) -> None:
    with pytest.raises(InvalidInput, match="payload: "):
        payload_form(hint)


# Models: pydantic is not installed, and only these two methods of it are used


class ModelError(ValueError):
    """What a pydantic ValidationError gives."""

    def errors(self, *, include_input: bool, include_url: bool) -> list[dict[str, object]]:
        assert not include_input
        assert not include_url
        return [{"loc": ("videos", 2, "name"), "msg": "Field required"}, {"loc": (), "msg": "not the first"}]


class Model:
    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def model_validate(cls, document: object) -> "Model":
        match document:
            case {"name": str(name)}:
                return cls(name)
            case {"broken": _}:
                raise RuntimeError(CANARY)
        raise ModelError(CANARY)

    def model_dump(self, *, mode: str) -> object:
        assert mode == "json"
        if self.name == CANARY:
            raise TypeError(CANARY)
        return {"name": self.name}


def test_a_model_is_dumped_and_validated() -> None:
    form = payload_form(Model)

    assert form.document(Model("a")) == {"name": "a"}
    assert form.document({"name": "a"}) == {"name": "a"}
    assert cast("Model", form.rebuild({"name": "a"})).name == "a"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"name": 5}, "payload: at $.videos[2].name: Field required"),
        ({"broken": 5}, "payload: at $: does not fit (RuntimeError)"),
    ],
)
def test_what_a_model_refuses_is_told_by_path_and_without_the_value(document: object, error: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        payload_form(Model).rebuild(document)

    assert str(caught.value) == error


def test_a_model_that_cannot_be_dumped_has_no_document() -> None:
    with pytest.raises(InvalidPayload, match=r"cannot be converted to JSON \(TypeError\)"):
        payload_form(Model).document(Model(CANARY))


# Results


@pytest.mark.parametrize(
    ("result", "document"),
    [
        ({"a": 1}, {"a": 1}),
        ([1, (2, 3)], [1, [2, 3]]),
        (Point(1, 2), {"x": 1, "y": 2}),
        ({"box": Box(Point(1))}, {"box": {"corner": {"x": 1, "y": 0}, "name": None}}),
        (Model("a"), {"name": "a"}),
        ({"id": UUID(int=5)}, {"id": str(UUID(int=5))}),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (Colour.RED, "red"),
        ("text", "text"),
    ],
)
def test_a_result_becomes_a_document(result: object, document: object) -> None:
    assert decode(canonical(result_document(result), "result")) == document
