"""Budgets: what requests under way may still cost is set aside, so that many at once cannot overdraw a key."""

from __future__ import annotations

from node.gateway.accounts.keys import ApiKey
from node.gateway.accounts.store import DAY_S, AccountStore, get_day
from node.gateway.errors import refuse_quota

_LONG_S = 3_600.0


class Budgets:
    """What is set aside, by key. What was spent the database says."""

    def __init__(self, store: AccountStore) -> None:
        self._store = store
        self._reserved: dict[int, int] = {}

    @property
    def reserved(self) -> int:
        """All that is set aside, in nmyl."""
        return sum(self._reserved.values())

    def check(self, key: ApiKey, amount: int) -> None:
        """Raises ApiRefusal 429 when `amount` is not left: before anything is asked, for each order takes escrow."""
        self._require(key, amount)

    def reserve(self, key: ApiKey, amount: int) -> None:
        """Set `amount` nmyl aside. Raises ApiRefusal 429 when the key's budget does not have it."""
        self._require(key, amount)
        self._reserved[key.number] = self._reserved.get(key.number, 0) + amount

    def release(self, key: ApiKey, amount: int) -> None:
        """What it cost is in the database: set it aside no more."""
        left = self._reserved.get(key.number, 0) - amount
        assert left >= 0, "released more than was set aside"
        if left:
            self._reserved[key.number] = left
        else:
            self._reserved.pop(key.number, None)

    def _require(self, key: ApiKey, amount: int) -> None:
        limits = key.limits
        if limits.budget is None and limits.daily_budget is None:
            return
        day = get_day()
        total, today = self._store.read_spent(key.number, day)
        reserved = self._reserved.get(key.number, 0)
        if limits.budget is not None and total + reserved + amount > limits.budget:
            left = max(0, limits.budget - total - reserved)
            raise refuse_quota(f"this may cost {amount} nmyl, and your key's budget has {left} left", _LONG_S)
        if limits.daily_budget is not None and today + reserved + amount > limits.daily_budget:
            left = max(0, limits.daily_budget - today - reserved)
            message = f"this may cost {amount} nmyl, and your key's budget of today has {left} left"
            raise refuse_quota(message, min(_LONG_S, float(DAY_S)))
