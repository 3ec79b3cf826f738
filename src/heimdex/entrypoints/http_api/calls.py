"""What every route works with: the application, and who calls. A route says which right it takes, or it is refused."""

from contextlib import AbstractContextManager
from typing import Annotated, TypeAlias, cast

from attrs import frozen
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from heimdex.bootstrap import Application
from heimdex.domain.access import Caller, Right
from heimdex.domain.scope import Tenant
from heimdex.entrypoints.http_api.feed import Feed
from heimdex.entrypoints.http_api.key_set import KeySet
from heimdex.entrypoints.http_api.limits import QueuedQuota, RequestRate
from heimdex.entrypoints.http_api.tokens import Verifier
from heimdex.service_layer.ports import Views


@frozen(kw_only=True)
class Api:
    """What the routes of one server share.

    Args:
        keys: None where tokens need no keys from elsewhere.
    """

    application: Application
    verifier: Verifier
    keys: KeySet | None
    rate: RequestRate
    quota: QueuedQuota
    feed: Feed


@frozen
class Call:
    """One request of a caller who is known. `request_id` becomes the source of the events that it writes."""

    api: Api
    caller: Caller
    request_id: str

    @property
    def application(self) -> Application:
        return self.api.application

    @property
    def scope(self) -> Tenant:
        return self.caller.scope(self.request_id)

    def views(self) -> AbstractContextManager[Views]:
        return self.application.views(self.scope)


class Allowed(HTTPBearer):
    """The dependency of a route: its caller, who has a right. What is in front has authenticated them."""

    def __init__(self, right: Right) -> None:
        super().__init__(scheme_name="bearer", bearerFormat="JWT", description="A token with organisation and roles.")
        self.right = right

    async def __call__(self, request: Request) -> Call:  # type: ignore[override]  # a caller instead of credentials
        call = cast("Call", request.scope["heimdex.call"])
        call.caller.check(self.right)
        return call


Reading: TypeAlias = Annotated[Call, Depends(Allowed(Right.READ))]
Creating: TypeAlias = Annotated[Call, Depends(Allowed(Right.WRITE_JOBS))]
Pausing: TypeAlias = Annotated[Call, Depends(Allowed(Right.WRITE_QUEUES))]
