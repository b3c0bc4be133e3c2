"""Memory given back is seen by the system, not only promised."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from pathlib import Path
from node.machine.memory import limit_arenas, trim

def read_own_mib():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024

assert limit_arenas()
held = [bytes(2_000) for _ in range(50_000)]
kept = held[::500]
before = read_own_mib()
del held
assert read_own_mib() > before - 50, "what is kept lies between what is free"
assert trim()
assert read_own_mib() < before - 80
"""


def test_free_memory_between_what_is_kept_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
