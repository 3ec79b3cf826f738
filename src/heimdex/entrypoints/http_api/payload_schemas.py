"""The JSON schema of each registered type's payload, so that whoever creates jobs knows what they take."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from heimdex.domain.rules import to_milliseconds
from heimdex.service_layer.job_registry import JobRegistry

_ANY_OBJECT: Mapping[str, object] = {"type": "object"}


def described(jobs: JobRegistry | None) -> list[dict[str, object]]:
    """Return the registered types by name, each with its limits and schema."""
    if jobs is None:
        return []
    registered = (jobs.get(type) for type in sorted(jobs.types))
    return [
        {
            "type": job.type,
            "max_attempts": job.limits.max_attempts,
            "timeout_ms": to_milliseconds(job.limits.timeout),
            "payload": _schema(job.payload_class),
        }
        for job in registered
    ]


def _schema(kind: object) -> Mapping[str, object]:
    if kind is None:
        return _ANY_OBJECT
    own = getattr(kind, "model_json_schema", None)
    if callable(own):  # a pydantic model, whether or not pydantic is what we use elsewhere
        return cast("Mapping[str, object]", own())
    schema = msgspec.json.schema(kind, ref_template="#/$defs/{name}")
    return cast("Mapping[str, object]", _without_more(schema))


def _without_more(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a schema that says what we do: a field that a class does not have is refused."""
    if isinstance(schema, list):
        return [_without_more(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _without_more(value) for name, value in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in inner and "title" in inner else inner
