"""What a transaction is sent again for, when blocks are full of others: each time more, up to a bound. In nmyl."""

from __future__ import annotations

from typing import Final

TIP_FIRST: Final = 100_000
TIP_GROWTH: Final = 4
TIP_MAX: Final = 100_000_000


def compute_tip(tries: int) -> int:
    """The tip after so many tries in vain: none at first."""
    return min(TIP_FIRST * TIP_GROWTH ** (tries - 1), TIP_MAX) if tries else 0
