"""The bugs that `make mutants` plants still fit the source, and each names the tool that must catch it."""

import shutil
from pathlib import Path

import pytest

from tests.mutants import tools
from tests.mutants.patches import ROOT, Patch, patches

# The mutants that must die, but for those of the outbox, which there is not yet.
MUST_DIE = {
    "attempt_as_token",
    "attempt_on_fail",
    "check_then_insert",
    "event_outside_tx",
    "global_unique_key",
    "heartbeat_by_id",
    "limit_in_subquery",
    "missing_org_predicate",
    "no_fence",
    "no_recheck_after_lock",
    "no_state_guard",
    "release_burns_attempt",
    "retry_commit",
    "retry_with_new_key",
    "set_without_local",
    "stale_rescue",
    "unordered_bulk_lock",
    "worker_clock_lease",
}


@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.stem)
def test_a_patch_fits_and_says_what_it_breaks_and_what_must_catch_it(patch: Patch, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))

    assert patch.apply(tmp_path) == ""
    assert patch.does.endswith(".")
    assert patch.name.isidentifier()
    assert set(patch.suites) <= set(tools.SUITES)


def test_every_bug_that_must_be_caught_is_planted() -> None:
    assert {patch.name for patch in patches()} >= MUST_DIE


def test_no_two_patches_have_the_same_number() -> None:
    numbers = [patch.stem.partition("-")[0] for patch in patches()]

    assert len(numbers) == len(set(numbers))
