"""What `heimdex demo` does."""

import shutil
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from uuid import UUID

from attrs import evolve, frozen
from rich.progress import Progress

from heimdex.bootstrap import Application, embedded_postgres
from heimdex.config import file_url
from heimdex.domain.job import Job
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status
from heimdex.entrypoints.cli.draining import Draining, ended, quick, unfinished
from heimdex.entrypoints.cli.ingesting import create_ingest, drain, found, made, open_drive
from heimdex.entrypoints.cli.opening import check_kept, scope_of, settings_of
from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.cli.walk import has_changed, uri_of, walk
from heimdex.service_layer.drive import INGEST, INGEST_FILE
from heimdex.service_layer.drive_check import DriveCheck, check_drive
from heimdex.service_layer.ports import FoundFile, Views

SOURCE = "heimdex demo"
ORGANISATION = UUID("0199a000-0000-7000-8000-00000000de30")
"""Always the same, so that a second demo on one database finds what the first one did."""
MOST_FILES = 5_000
EXCLUDED = ("__pycache__",)


@frozen
class Tree:
    """A folder as it was before the jobs went through it: at most `limit` files, in the order of the walk."""

    uri: str
    limit: int | None
    files: tuple[FoundFile, ...]


@frozen(kw_only=True)
class Work:
    """What was done in this demo.

    Args:
        ingests: the jobs that walked the folders, as they ended.
        created: jobs of files that were new.
        replayed: jobs of files found from before.
        left: jobs that an earlier demo had left to be run.
        ran: jobs that ended meanwhile, those left from before among them.
        seconds: how long all that took.
    """

    ingests: tuple[Job, ...]
    created: int
    replayed: int
    left: int
    ran: int
    seconds: float

    @property
    def failed(self) -> tuple[Job, ...]:
        return tuple(job for job in self.ingests if job.status is not Status.SUCCEEDED)


@frozen
class Place:
    """Where a demo's database is.

    Args:
        folder: what was made for it; its files are not to be ingested.
        needs_roles: nobody else makes its roles, and it can have some.
    """

    url: str
    kept: bool
    folder: Path | None = None
    needs_roles: bool = False


@frozen(kw_only=True)
class Shown:
    """What a demo showed; `work` is None where only the check was asked for."""

    org_id: UUID
    database_url: str
    kept: bool
    paths: tuple[str, ...]
    work: Work | None
    check: DriveCheck
    seconds: float

    @property
    def sound(self) -> bool:
        return self.check.sound and not (self.work and self.work.failed)


def database(url: str | None, *, postgres: bool, keep: bool) -> AbstractContextManager[Place]:
    """Return the database that was asked for, or else a new file. The environment's is not used: nobody expects that.

    Args:
        keep: leave a new file in place.
    """
    if postgres:
        return _new_server()
    return _new_file(keep=keep) if url is None else nullcontext(Place(url, kept=True))


def demonstrate(
    asked: Asked, path: str | None, database: AbstractContextManager[Place], *, all_files: bool, bars: Progress
) -> Shown:
    """Ingest, and check what became of it.

    Raises:
        KeyboardInterrupt: a signal came first; the next demo on the same database goes on.
    """
    with database as place:
        exclude = EXCLUDED if place.folder is None else (*EXCLUDED, place.folder.name)
        with _open(evolve(asked, database_url=place.url)) as heimdex:
            began = heimdex.clock.monotonic()
            trees = _trees(heimdex, path, all_files=all_files, exclude=exclude)
            heimdex.schema.upgrade()
            if place.needs_roles:
                heimdex.schema.make_roles()
            work = _work(heimdex, trees, exclude, bars)
            shown = _shown(heimdex, trees, work, began, bars)
    return evolve(shown, kept=shown.kept and place.kept)


def check(asked: Asked, url: str, path: str | None, *, all_files: bool, bars: Progress) -> Shown:
    """Check what became of an earlier demo."""
    asked = evolve(asked, database_url=url)
    with _open(asked) as heimdex:
        check_kept(asked, heimdex.settings, "name the database of an earlier demo")
        began = heimdex.clock.monotonic()
        trees = _trees(heimdex, path, all_files=all_files, exclude=EXCLUDED)
        return _shown(heimdex, trees, None, began, bars)


def python_folders() -> list[Path]:
    """Return where Python's own library and the installed packages are, none of them inside another."""
    folders: list[Path] = []
    for name in ("stdlib", "purelib", "platlib"):
        folder = Path(sysconfig.get_path(name))
        if folder.is_dir() and not any(folder.resolve().is_relative_to(other.resolve()) for other in folders):
            folders.append(folder)
    return folders


def survey(uris: Sequence[str], *, limit: int | None, exclude: Collection[str]) -> list[Tree]:
    """Walk folders, one after the other, until `limit` files are found."""
    trees: list[Tree] = []
    for uri in uris:
        left = None if limit is None else limit - sum(len(tree.files) for tree in trees)
        if left == 0:
            break
        trees.append(Tree(uri, left, tuple(islice(walk(uri, exclude), left))))
    return trees


@contextmanager
def _new_file(*, keep: bool) -> Iterator[Place]:
    folder = Path(mkdtemp(prefix="heimdex-demo-"))
    try:
        yield Place(file_url(folder / "heimdex.db"), keep, folder)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _new_server() -> Iterator[Place]:
    with embedded_postgres() as (url, folder):
        yield Place(url, kept=False, folder=folder, needs_roles=True)


def _open(asked: Asked) -> Application:
    asked = evolve(asked, org=asked.org or str(ORGANISATION))
    return open_drive(asked, quick(settings_of(asked)))


def _trees(heimdex: Application, path: str | None, *, all_files: bool, exclude: Collection[str]) -> list[Tree]:
    uris = [uri_of(folder) for folder in ([path] if path is not None else map(str, python_folders()))]
    for uri in uris:
        heimdex.files.stat(uri)
    return survey(uris, limit=None if all_files else MOST_FILES, exclude=exclude)


def _scope(heimdex: Application) -> Tenant:
    return scope_of(heimdex.settings, SOURCE)


def _work(heimdex: Application, trees: Sequence[Tree], exclude: Collection[str], bars: Progress) -> Work:
    began = heimdex.clock.monotonic()
    scope = _scope(heimdex)
    with heimdex.views(scope) as views:
        before = views.statistics()
    jobs = [create_ingest(heimdex, scope, tree.uri, limit=tree.limit, exclude=exclude) for tree in trees]
    bar = bars.add_task("ingesting", total=sum(len(tree.files) for tree in trees))

    def is_done(views: Views) -> bool:
        statistics = views.statistics()
        known = sum(statistics.by_type.get(INGEST_FILE, {}).values())
        bars.update(bar, completed=known - unfinished(statistics, INGEST_FILE))
        return not unfinished(statistics, INGEST, INGEST_FILE)

    drain(Draining(heimdex, heimdex.worker(), scope, is_done))
    seconds = heimdex.clock.monotonic() - began
    with heimdex.views(scope) as views:
        ingests = tuple(found(views, job) for job in jobs)
        after = views.statistics()
    return Work(
        ingests=ingests,
        created=sum(made(job, "created") for job in ingests),
        replayed=sum(made(job, "replayed") for job in ingests),
        left=unfinished(before, INGEST, INGEST_FILE),
        ran=ended(after, INGEST, INGEST_FILE) - ended(before, INGEST, INGEST_FILE),
        seconds=seconds,
    )


def _shown(heimdex: Application, trees: Sequence[Tree], work: Work | None, began: float, bars: Progress) -> Shown:
    report = _check(heimdex, trees, bars)
    scope = _scope(heimdex)
    return Shown(
        org_id=scope.org_id,
        database_url=str(heimdex.settings.shown()["database_url"]),
        kept=heimdex.settings.kept,
        paths=tuple(tree.uri for tree in trees),
        work=work,
        check=report,
        seconds=heimdex.clock.monotonic() - began,
    )


def _check(heimdex: Application, trees: Sequence[Tree], bars: Progress) -> DriveCheck:
    walked = [file for tree in trees for file in tree.files]
    # Of a file that changed meanwhile the jobs may have met the one version or the other.
    as_walked = [file for file in walked if not has_changed(file)]
    with heimdex.views(_scope(heimdex)) as views:
        bar = bars.add_task("checking", total=sum(views.statistics().by_status.values()))
        report = check_drive(views, heimdex.files, as_walked, lambda jobs: bars.advance(bar, jobs))
    changed = len(walked) - len(as_walked)
    report.files += changed
    report.changed += changed
    return report
