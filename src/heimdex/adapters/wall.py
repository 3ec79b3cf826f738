"""Row-level security as our transactions use it: each says in its first statement as which role it works, and for whom.

The words go before the first statement's text, so that they cost no round trip, and end with the transaction.
"""

from attrs import frozen
from sqlalchemy import Connection, text

from heimdex.adapters.roles import API, ORGANISATION, TABLES_IN_SQL, WORKER
from heimdex.domain.errors import RoleNotGranted, WallMissing
from heimdex.domain.scope import Scope, Tenant

_LOGIN = f"""
SELECT session_user, rolsuper OR rolbypassrls,
    coalesce(pg_has_role(session_user, to_regrole('{API}'), 'MEMBER'), false),
    coalesce(pg_has_role(session_user, to_regrole('{WORKER}'), 'MEMBER'), false),
    coalesce((
        SELECT bool_and(relrowsecurity AND relforcerowsecurity)
        FROM unnest(ARRAY[{TABLES_IN_SQL}]) AS name JOIN pg_class ON pg_class.oid = to_regclass(name)
        WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'org_id')
    ), false)
FROM pg_roles WHERE rolname = session_user
"""  # noqa: S608 - put together from our own names


@frozen
class Login:
    """Who is connected. `passes` says that policies do not hold for it, `walled` that all our tables have them."""

    name: str
    passes: bool
    is_api: bool
    is_worker: bool
    walled: bool

    @property
    def missing(self) -> str | None:
        """What keeps the wall from standing."""
        if not self.walled:
            return "row-level security has not been made for every table; run `heimdex db roles`"
        if not (self.is_api or self.is_worker):
            return (
                f"the login {self.name} is a member of neither {API} nor {WORKER};"
                f" run `heimdex db roles --login {self.name}`"
            )
        return None

    def check_production(self) -> None:
        """Refuse to work without the wall.

        Raises:
            WallMissing: says what is missing.
        """
        if self.passes:
            raise WallMissing(
                f"the login {self.name} is a superuser or has BYPASSRLS, which row-level security does not hold;"
                " production needs a login of its own, a member of the roles that `heimdex db roles` makes"
            )
        if self.missing is not None:
            raise WallMissing(f"production needs row-level security: {self.missing}")

    def words(self, scope: Scope) -> str:
        """Return the statement that makes a transaction work in this scope, until it ends.

        Raises:
            RoleNotGranted: the login is no member of the role.
        """
        if isinstance(scope, Tenant):
            role, granted = API, self.is_api
            # A UUID's own text: nothing of a caller's comes between the quotes.
            organisation = f"SET LOCAL {ORGANISATION} = '{scope.org_id.hex}'; "
        else:
            role, granted, organisation = WORKER, self.is_worker, ""
        if not granted:
            raise RoleNotGranted(
                f"the login {self.name} is no member of {role}, as which {type(scope).__name__} works;"
                f" run `heimdex db roles --login {self.name} --as {role.removeprefix('heimdex_')}`"
            )
        return f"SET LOCAL ROLE {role}; {organisation}"


def look(connection: Connection) -> Login:
    """Return who is connected, in one question of the catalog."""
    return Login(*connection.execute(text(_LOGIN)).one())
