"""The bugs that `make mutants` plants still fit the source."""

import shutil
from pathlib import Path

import pytest

from tests.mutants import plant


@pytest.mark.parametrize("patch", plant.patches([]), ids=lambda patch: patch.stem)
def test_a_patch_fits_and_says_what_it_breaks(patch: Path, tmp_path: Path) -> None:
    shutil.copytree(plant.ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))

    assert plant.apply(patch, tmp_path) == ""
    assert patch.read_text(encoding="utf-8").splitlines()[0].endswith(".")
    assert set(plant.suites(patch)) == set(plant.SUITES)
