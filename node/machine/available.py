"""How much memory the machine can still give, by what the system says of itself and of this process's group."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_KIB = 1024


def read_available_bytes(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Bytes that can be taken without driving others out; on systems that do not say, half of what is built in."""
    found = _read_meminfo(meminfo)
    if found is None:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit, used = _read_number(group / "memory.max"), _read_number(group / "memory.current")
    if limit is not None and used is not None:
        # Pages of files count as used, though the group would give them back: so this errs on the careful side.
        found = min(found, max(0, limit - used))
    return found


def _read_meminfo(path: Path) -> int | None:
    try:
        for line in path.read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * _KIB
    except (OSError, ValueError, IndexError):
        pass
    return None


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None
