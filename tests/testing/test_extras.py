"""The test kit where the extra of its simulator is not installed."""

import subprocess
import sys

from heimdex import testing

_WITHOUT_GREENLET = """
import sys


class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "greenlet":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hides())

from heimdex import CapabilityMissing, testing

told = []
for name in sys.argv[1:]:
    try:
        getattr(testing, name)
    except CapabilityMissing as error:
        told.append(str(error))
print("\\n".join(told))
"""


def test_only_what_needs_greenlet_names_the_extra_that_brings_it() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_GREENLET, *testing.__all__], capture_output=True, text=True, check=True
    )

    assert run.stdout.splitlines() == [
        f"heimdex.testing.{name} needs the extra heimdex[simulation]" for name in ("end_process", "simulate", "take")
    ]
