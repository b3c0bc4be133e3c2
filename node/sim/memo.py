"""Pure functions that every node of a simulation asks the same: whether a signature or a beacon's proof is valid.

Each answer is computed once a process. Live nodes know nothing of it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from consensus import beacon
from node.chain import blocks
from proto_specs import ed25519

REMEMBERED_MAX = 1 << 14

is_digest_signed = functools.lru_cache(REMEMBERED_MAX)(ed25519.is_digest_signed)
_verify_beacon = functools.lru_cache(REMEMBERED_MAX)(beacon.verify_beacon)


@contextmanager
def remember() -> Iterator[None]:
    """Inside the block answers are remembered."""
    with _replace(ed25519, "is_digest_signed", is_digest_signed), _replace(blocks, "verify_beacon", _verify_beacon):
        yield


@contextmanager
def _replace(module: ModuleType, name: str, function: Any) -> Iterator[None]:
    whole = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, whole)
