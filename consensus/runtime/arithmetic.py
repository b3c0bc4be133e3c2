"""Exact integer shares: the formulas that several modules use. Knows no state."""

from __future__ import annotations

from collections.abc import Sequence

PERMILLE = 1_000
PPM = 1_000_000
BALANCE_MAX = (1 << 64) - 1


def compute_permille(amount: int, permille: int) -> int:
    """`permille` thousandths of `amount`, rounded down."""
    assert 0 <= permille <= PERMILLE
    return amount * permille // PERMILLE


def compute_cut(amount: int, numerator: int, denominator: int) -> int:
    """The slash numerator / denominator of `amount`, rounded up so that splitting an amount saves nothing."""
    assert 0 <= numerator <= denominator
    return -(-amount * numerator // denominator)


def compute_shares(total: int, weights: Sequence[int]) -> list[int]:
    """Splits `total` in proportion to `weights`, exactly, by largest remainder; ties go to the earlier entry.

    When all weights are zero all shares are zero, and the caller keeps the total.
    """
    weight_sum = sum(weights)
    if weight_sum == 0:
        return [0] * len(weights)
    shares = [total * weight // weight_sum for weight in weights]
    left = total - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda index: (-(total * weights[index] % weight_sum), index))
    for index in by_remainder[:left]:
        shares[index] += 1
    return shares


def compute_equal_shares(total: int, count: int) -> list[int]:
    """Splits `total` among `count`, exactly; the first shares get the odd units."""
    return compute_shares(total, [1] * count)
