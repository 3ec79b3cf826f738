"""What a job found or made."""

import re
from datetime import datetime
from uuid import UUID

from attrs import define, field, frozen

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.json_text import JsonValue, canonical, canonical_object, decode_object
from heimdex.domain.rules import check_text, check_whole

MAX_URI = 2_048
MAX_SIZE = 2**63 - 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _uri(value: str) -> str:
    return check_text("uri", value, MAX_URI)


def _media_type(value: str) -> str:
    return check_text("media_type", value)


def _size(value: int) -> int:
    return check_whole("size", value, 0, MAX_SIZE)


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise InvalidInput("sha256", value, "give 64 lower-case hexadecimal digits")
    return value


def _metadata_json(text: str) -> str:
    return canonical_object(text, "metadata")


@define(slots=False, eq=False)
class Asset:
    """A thing with an address, recorded by one job; unique per organisation, job and uri. `size` is in bytes."""

    id: UUID
    org_id: UUID
    job_id: UUID
    uri: str
    media_type: str
    size: int
    sha256: str
    metadata_json: str = field(repr=False)
    created_at: datetime

    @property
    def metadata(self) -> dict[str, JsonValue]:
        return decode_object(self.metadata_json)


@frozen
class NewAsset:
    """What a job function records. `metadata_json` is the JSON text of an object; it becomes canonical."""

    uri: str = field(converter=_uri)
    media_type: str = field(converter=_media_type)
    size: int = field(converter=_size)
    sha256: str = field(converter=_sha256)
    metadata_json: str = field(default="{}", converter=_metadata_json)

    @classmethod
    def of(
        cls, uri: str, *, media_type: str, size: int, sha256: str, metadata: dict[str, JsonValue] | None = None
    ) -> "NewAsset":
        return cls(uri, media_type, size, sha256, canonical(metadata or {}, "metadata"))

    def recorded(self, *, asset_id: UUID, job: Job, created_at: datetime) -> Asset:
        """Return the asset that this becomes in the ledger."""
        return Asset(
            id=asset_id,
            org_id=job.org_id,
            job_id=job.id,
            uri=self.uri,
            media_type=self.media_type,
            size=self.size,
            sha256=self.sha256,
            metadata_json=self.metadata_json,
            created_at=created_at,
        )
