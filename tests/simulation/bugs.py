"""Cores and signers that are broken on purpose: what the simulator must catch, to be worth anything.

Each is planted by replacing a method for as long as a simulation runs, so the product knows nothing of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from consensus.bft.height import HeightProcess
from consensus.bft.validators import PowerTable
from node.signer.signer import Signer


class Bug(enum.Enum):
    """What is wrong."""

    QUORUM = "quorum"
    """A quorum is one validator short."""
    NO_LOCK = "no-lock"
    """Nothing is ever locked (line 38 is missing)."""
    NO_VALID_VALUE = "no-valid-value"
    """The valid value is forgotten when a round ends (lines 42-43 and 15-16)."""
    SIGN_BEFORE_PERSIST = "sign-before-persist"
    """A signature leaves before the history that has it is on disk."""


@contextmanager
def plant(bug: Bug) -> Iterator[None]:
    """Break this process's code inside the block."""
    owner: Any
    broken: Any
    match bug:
        case Bug.QUORUM:
            owner, name, broken = PowerTable, "is_quorum", _is_quorum
        case Bug.NO_LOCK:
            owner, name, broken = HeightProcess, "_adopt_polka", _adopt_without_lock
        case Bug.NO_VALID_VALUE:
            owner, name, broken = HeightProcess, "_start_round", _start_without_valid_value
        case Bug.SIGN_BEFORE_PERSIST:
            owner, name, broken = Signer, "sign", _sign_first
    whole = getattr(owner, name)
    setattr(owner, name, broken)
    try:
        yield
    finally:
        setattr(owner, name, whole)


def _is_quorum(self: PowerTable, power: int) -> bool:
    smallest = min(self._powers.values())
    return 3 * (power + smallest) > 2 * self.total


_whole_adopt = HeightProcess._adopt_polka  # noqa: SLF001
_whole_start = HeightProcess._start_round  # noqa: SLF001
_whole_sign = Signer.sign


def _adopt_without_lock(self: HeightProcess) -> bool:
    fired = _whole_adopt(self)
    self._locked = None
    return fired


def _start_without_valid_value(self: HeightProcess, round_: int) -> None:
    self._valid = None
    _whole_start(self, round_)


def _sign_first(self: Signer, *args: Any) -> bytes:
    """The history is written with the next signature."""
    late = self._file

    class Later:
        def replace(self, text: str) -> None:
            late_texts.append(text)

    late_texts: list[str] = getattr(self, "_late", [])
    if late_texts:
        late.replace(late_texts.pop())
    self._file = Later()  # type: ignore[assignment]
    try:
        return _whole_sign(self, *args)
    finally:
        self._file = late
        self._late = late_texts  # type: ignore[attr-defined]
